"""Small files that would take the memory of large ones, numbers that only Python reads, names that look alike."""

import os
import zipfile
from pathlib import Path

import pytest
from fuzzing import keeps_the_rule, within_limits

from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.table.formats import read_json, read_json_lines, read_rows
from jaxmoe.table.packed import excel_records

HEADER = "prompt_id,experts,score,words,relevance"
TABLE = f"{HEADER}\np,local,1,50,\np,a,4.5,100,0.9\n"
CONTENT_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def refused(path: Path, message: str) -> None:
    with within_limits(), pytest.raises(InputError, match=message):
        load_table(path)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def workbook(path: Path, cells: dict[str, object]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for name, value in cells.items():
        book.active[name] = value
    book.save(path)
    return path


def with_sheet(path: Path, rows: str) -> Path:
    """A workbook whose sheet is this XML."""
    whole = workbook(path.with_name("whole.xlsx"), {"A1": 1})
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("sheet1.xml"):
                before, _, after = content.decode().partition("<sheetData>")
                content = f"{before}<sheetData>{rows}</sheetData>{after.partition('</sheetData>')[2]}".encode()
            copy.writestr(name, content)
    return path


# ---- Excel


def test_a_cell_at_the_far_end_of_a_sheet_makes_no_cells_before_it(tmp_path):
    path = workbook(
        tmp_path / "t.xlsx",
        {**dict(zip(("A1", "B1", "C1", "D1", "E1"), HEADER.split(","), strict=True)), "XFD1048576": "x"},
    )
    refused(path, r"line 1048576: the row has 16384 cells, the header has 5;")


def test_rows_that_all_reach_to_the_far_end_are_too_many_cells(tmp_path):
    rows = "".join(f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>' for row in range(1, 5000))
    refused(with_sheet(tmp_path / "t.xlsx", rows), r"611 rows of up to 16,384 cells or more; a table has at most")


def test_a_sheet_that_unpacks_to_more_than_it_weighs_is_not_unpacked(tmp_path):
    path = with_sheet(tmp_path / "t.xlsx", "<row/>" * 12_000_000)
    assert path.stat().st_size < 10**6
    refused(path, r"the workbook holds 72,\d+,\d+ bytes when unpacked, a table at most 67,108,864; save its sheet")


def test_an_archive_that_says_less_than_it_holds_is_read_up_to_what_it_says(tmp_path):
    path = with_sheet(tmp_path / "t.xlsx", "<row/>" * 12_000_000)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        size = next(each.file_size for each in archive.infolist() if "sheet1" in each.filename)
    path.write_bytes(bytes(content).replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    refused(path, "the file cannot be read")


def test_a_sheet_of_nothing_but_rows_is_not_waited_for(tmp_path):
    refused(with_sheet(tmp_path / "t.xlsx", "<row/>" * 1_200_000), "1,048,577 rows")


def test_cells_of_a_row_that_say_nothing_take_no_memory(tmp_path):
    refused(with_sheet(tmp_path / "t.xlsx", f'<row r="1">{"<c/>" * 5_000_000}</row>'), "has more than 4,000,000 marks")


def test_entities_of_a_workbook_do_not_multiply(tmp_path):
    path = with_sheet(tmp_path / "t.xlsx", '<row r="1"><c r="A1" t="inlineStr"><is><t>&j;</t></is></c></row>')
    laugh = "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if "sheet1" in name)
    members[name] = f'<!DOCTYPE x [<!ENTITY a "{"ha" * 50}">{laugh}]>'.encode() + members[name].partition(b"?>")[2]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as copy:
        for each, content in members.items():
            copy.writestr(each, content)
    refused(path, r"sheet1.xml' in the workbook declares what no workbook does, or has more")


def test_pictures_of_a_workbook_are_left_where_they_are(tmp_path):
    path = workbook(tmp_path / "t.xlsx", {"A1": "x", "A2": 5})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", bytes(100 * 2**20))
    with within_limits():
        assert list(excel_records(path)) == [(1, ["x"]), (2, [5])]


# ---- Parquet


def parquet(path: Path, **columns: object) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_rows_that_weigh_nothing_are_too_many(tmp_path):
    import pyarrow as pa

    path = parquet(tmp_path / "t.parquet", prompt_id=pa.nulls(20_000_000))
    assert path.stat().st_size < 10**6
    refused(path, "20,000,000 rows of up to 1 cells or more; a table has at most 4,000,000 rows")


def test_a_long_text_that_all_rows_share_is_one_text(tmp_path):
    import pyarrow as pa

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000), pa.array(["x" * 900_000]))
    path = parquet(tmp_path / "t.parquet", prompt_id=["p"] * 100_000, text=text)
    with within_limits():
        assert len(read_rows(path, ["prompt_id"])) == 100_000


@pytest.mark.parametrize(
    "ids", [[b"p", b"q"], [["p"], ["q"]], [{"a": "p"}, {"a": "q"}]], ids=["bytes", "lists", "structs"]
)
def test_ids_are_texts_or_numbers(ids, tmp_path):
    path = parquet(tmp_path / "t.parquet", prompt_id=ids, experts=["local", "a"], score=[1, 2], words=[5, 6])
    refused(path, "'prompt_id' is missing, .*: experts, score, words; columns of bytes, lists and structs are not read")


@pytest.mark.parametrize(
    "note", ["[]", "{}", '{"experts": 5}', '{"experts": [[]], "provenance": "", "digest": ""}', "[" * 10**5]
)
def test_a_note_of_another_shape(note, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"prompt_id": ["p"]}).replace_schema_metadata({b"jaxmoe.table": note})
    pq.write_table(table, tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", "what jaxmoe noted in the file beside its columns is damaged")


# ---- texts


def test_a_million_columns_are_too_many(tmp_path):
    names = ",".join(f"c{number}" for number in range(10**6))
    refused(written(tmp_path / "t.csv", f"{names}\n{names}\n"), "1 rows of up to 1,000,000 cells or more")


def test_a_wide_table_of_very_many_names_is_refused_at_once(tmp_path):
    names = ",".join(f"e{number}+x,e{number}" for number in range(90_000))
    refused(written(tmp_path / "t.csv", f"prompt_id,x,{names}\np{',1' * 180_001}\n"), "there are 90001 experts")


def test_a_cell_of_a_hundred_megabytes(tmp_path):
    refused(written(tmp_path / "t.csv", f"{TABLE}{'x' * 10**8},a,1,2,0.5\n"), "field larger than field limit")


def test_a_file_larger_than_any_table(tmp_path):
    path = tmp_path / "t.csv"
    path.touch()
    os.truncate(path, 2**30)
    refused(path, "the file has 1,073,741,824 bytes, a table at most 268,435,456")


def test_more_numbers_than_a_table_holds(tmp_path):
    experts = [f"e{number}" for number in range(16)]
    rows = [f"p{prompt},{name},1,1,\n" for prompt in range(1100) for name in ["local", *experts]]
    path = written(tmp_path / "t.csv", f"{HEADER}\n{''.join(rows)}")
    with within_limits(), pytest.raises(InputError, match="1,100 prompts by 65,536 subsets of experts are more than"):
        load_table(path, relevance="none")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_not_read(kind, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    path = tmp_path / "t.csv"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for command in ("check", "show"):
        assert "t.csv" in keeps_the_rule("table", command, path, root=root).error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "a key is there twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "'1e999' is no number that a computer can hold"),
        (f'{{"a": {"9" * 5000}}}', "a number has 5,000 digits"),
        ('{"a": "\\ud800"}', "a text holds half a character"),
        (f'{{"a": {"[" * 200}{"]" * 200}}}', "it is nested too deeply"),
        (f'{{"a": {"[" * 10**5}{"]" * 10**5}}}', "it is nested too deeply"),
    ],
)
@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_json_that_is_valid_for_nobody_else(read, text, message, tmp_path):
    with pytest.raises(InputError, match=f"line 1: this is not JSON \\({message}\\)"):
        read(written(tmp_path / "t.json", text))


# ---- numbers


@pytest.mark.parametrize(
    "text",
    [
        "\uff15",
        "\uff11.5",
        "\u0661",
        "\u096a.\u096b",
        "²",
        "Ⅷ",
        "1_0",
        "0x1",
        "nan",
        "inf",
        "-inf",
        "1e",
        "+-1",
        "1 e0",
        "1e999",
        "-1",
        "10.1",
    ],
)
def test_a_score_is_written_as_everybody_writes_numbers(text, tmp_path):
    refused(
        written(tmp_path / "t.csv", TABLE.replace("4.5", text)),
        r"line 3 .*: score is '.*', it must be a number from 0 to 10",
    )


def test_digits_that_look_like_others_are_named(tmp_path):
    refused(
        written(tmp_path / "t.csv", TABLE.replace("4.5", "\uff14.5")), "score is '\uff14.5', .* in the digits 0 to 9"
    )


@pytest.mark.parametrize(
    ("text", "number"), [(" 5 ", 5), ("+5", 5), ("5.", 5), (".5", 0.5), ("5E-1", 0.5), ("005", 5), ("10", 10)]
)
def test_a_score_may_be_written_in_these_ways(text, number, tmp_path):
    assert load_table(written(tmp_path / "t.csv", TABLE.replace("4.5", text))).score_mean[0, 1] == number


# ---- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Local", "cannot tell the expert 'Local' from 'local'"),
        ("\uff2c\uff2f\uff23\uff21\uff2c", "cannot tell the expert '\uff2c\uff2f\uff23\uff21\uff2c' from 'local'"),
        ("l\u043ecal", "cannot tell the expert .* from 'local'"),
        ("A", "cannot tell the expert 'A' from 'a'"),
        ("\u0430", "cannot tell the expert .* from 'a'"),
        ("a\u200b", r"expert is 'a\\u200b', it must be a name"),
        ("a\x07b", r"expert is 'a\\x07b', it must be a name"),
        ("b\nc", r"expert is 'b\\nc', it must be a name"),
        ("\u200d", "expert is .*, it must be a name"),
        ("x" * 201, r"expert is 'x+…x+' \(201 characters\), it must be a name .* of at most 200 characters"),
    ],
)
@pytest.mark.parametrize("form", ["long", "wide", "json"])
def test_an_expert_has_a_name_that_a_reader_can_tell_from_others(form, name, message, tmp_path):
    if form == "long":
        text = f'{TABLE}p,"{name}",4,90,0.1\n'
    elif form == "wide":
        text = f'prompt_id,local,a,"{name}",words:local,words:a,"words:{name}"\np,1,2,3,4,5,6\n'
    else:
        import json

        from jaxmoe.collect.inputs import load_experts

        experts = [{"expert": each, "system_prompt": "Write."} for each in ("a", name)]
        with pytest.raises(InputError, match=message):
            load_experts(written(tmp_path / "e.json", json.dumps(experts)))
        return
    with pytest.raises(InputError, match=message):
        load_table(written(tmp_path / "t.csv", text), relevance="none")


@pytest.mark.parametrize("name", ["Ωmega", "名前", "a b", "b.c-d_e", "naïve", "क्ष"])
def test_names_of_all_languages_are_names(name, tmp_path):
    assert load_table(written(tmp_path / "t.csv", f"{TABLE}p,{name},4,90,0.1\np,a+{name},4,90,\n")).experts == (
        "a",
        name,
    )
