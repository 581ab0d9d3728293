"""Files as people really have them: byte-order marks, blank rows, other separators, commas in numbers, wrong names."""

import datetime
from pathlib import Path

import pytest

from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.table.formats import decoded, read_json, read_json_lines, read_rows
from jaxmoe.table.splits import describe_prompts_in_two_splits, prompts_in_two_splits

PROMPTS = "prompt_id,split,prompt\np0,train,Ein Wal über Bord.\np1,test,A calm.\n"
CELLS = [
    {"prompt_id": "p0", "split": "train", "prompt": "Ein Wal über Bord."},
    {"prompt_id": "p1", "split": "test", "prompt": "A calm."},
]
TABLE = "prompt_id,experts,score,words,relevance\np,local,1,50,\np,a,4.5,100,0.9\n"
SAVE_AS_UTF8 = 'save it as UTF-8, in a spreadsheet as "CSV UTF-8"'
MARK = "\ufeff"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path) -> list[dict[str, str]]:
    """The cells of each row as text, without the columns that have no name."""
    rows = read_rows(path, ["prompt"])
    return [{name: row.text(name) for name in row.cells if name and row.has(name)} for row in rows]


def workbook(path: Path, rows: list[list[object]]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


# ---- decoding


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding_and_is_dropped(encoding, tmp_path):
    assert texts(written(tmp_path / "p.csv", PROMPTS.encode(encoding))) == CELLS
    assert decoded(written(tmp_path / "p.txt", "[user]\r\nWal über\rBord".encode(encoding))) == "[user]\nWal über\nBord"
    assert read_json(written(tmp_path / "p.json", '{"a": "ü"}'.encode(encoding))) == {"a": "ü"}
    lines = '{"a": "ü"}\r\n\r\n{"a": 1}'.encode(encoding)
    assert [row.cells["a"] for row in read_json_lines(written(tmp_path / "p.jsonl", lines))] == ["ü", 1]


@pytest.mark.parametrize("mark", ["be", "le"])
@pytest.mark.parametrize("bits", [16, 32])
def test_both_orders_of_bytes_are_read(mark, bits, tmp_path):
    assert texts(written(tmp_path / "p.csv", f"{MARK}{PROMPTS}".encode(f"utf-{bits}-{mark}"))) == CELLS


@pytest.mark.parametrize(
    "text",
    [
        f"{MARK}{MARK}{PROMPTS}",
        f'{MARK}"prompt_id",split,prompt\np0,train,Ein Wal über Bord.\n"p1",test,A calm.\n',
        f'"{MARK}prompt_id","split","prompt"\np0,train,Ein Wal über Bord.\np1,test,A calm.\n',
        f"{MARK}prompt_id,split,prompt\np0,train,Ein Wal über Bord.\n{MARK}p1,test,A calm.\n",
        MARK + PROMPTS.replace("\n", "\r\n"),
        MARK + PROMPTS.replace("\n", "\r"),
    ],
    ids=["two marks", "before quotes", "inside quotes", "of a file put behind", "windows", "old macintosh"],
)
def test_marks_are_dropped_wherever_they_are_left_behind(text, tmp_path):
    assert texts(written(tmp_path / "p.csv", text)) == CELLS


def test_json_lines_put_together_keep_their_marks(tmp_path):
    path = written(tmp_path / "t.jsonl", f'{MARK}{{"text": "one"}}\n{MARK}{{"text": "two"}}\n')
    assert [row.text("text") for row in read_json_lines(path)] == ["one", "two"]


def test_every_raw_file_may_begin_with_a_mark(tmp_path):
    stories = Path(__file__).parents[2] / "data" / "stories"
    for name in ("prompts.csv", "experts.json", "gate.csv", "texts.jsonl", "scores.csv"):
        written(tmp_path / name, MARK.encode() + (stories / name).read_bytes())
    assert load_table(tmp_path).meta == load_table().meta


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (PROMPTS.encode("cp1252"), 2, "it is not UTF-8"),
        (PROMPTS.encode("mac-roman"), 2, "it is not UTF-8"),
        (PROMPTS.encode("utf-16-le"), 2, "it is not UTF-8"),
        (PROMPTS.encode("utf-16")[:-1], 3, "it is not UTF-16"),
        ("prompt\nA storm.\n".encode("utf-16-le"), 1, "it has a NUL character"),
        (b"prompt\r\nA storm.\r\nA \0calm.", 3, "it has a NUL character"),
    ],
)
@pytest.mark.parametrize("read", [decoded, read_json, read_json_lines, lambda path: read_rows(path, ["prompt"])])
def test_another_encoding_is_named_with_its_line(read, content, line, problem, tmp_path):
    path = written(tmp_path / "p.csv", content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line {line}: the file cannot be read, {problem}")
    assert str(caught.value).endswith(f"; {SAVE_AS_UTF8}.")


# ---- blank rows and cells


@pytest.mark.parametrize(
    "text",
    [
        PROMPTS + ",,\n , ,\t\n\n   \n,,,,,\n",
        PROMPTS.replace("\np1", "\n,,\n\N{NO-BREAK SPACE},,\np1"),
        ",,\n\n" + PROMPTS,
        PROMPTS.replace("\n", ",,\n"),
        PROMPTS.replace("prompt\n", "prompt,,,\n"),
        PROMPTS.replace("calm.\n", "calm., ,\t,\n"),
        PROMPTS.replace("prompt\n", "prompt,\n").replace("calm.", "calm.,a note below no name"),
        "sep=,\n" + PROMPTS,
    ],
    ids=["at the end", "between", "before", "commas everywhere", "in the header", "in a row", "a note", "Excel's line"],
)
def test_blank_rows_and_cells_are_no_content(text, tmp_path):
    assert texts(written(tmp_path / "p.csv", text)) == CELLS


def test_lines_are_those_of_the_file_where_rows_are_blank(tmp_path):
    path = written(tmp_path / "t.csv", TABLE.replace("p,a,4.5", ",,,,\n , , , ,\np,a,45"))
    with pytest.raises(InputError, match=r"t.csv, line 5 \(prompt_id 'p', experts 'a'\): score is '45'"):
        load_table(path)


def test_nothing_but_blank_rows_is_no_table(tmp_path):
    with pytest.raises(InputError, match="there are no rows below the header, at least one prompt is needed"):
        texts(written(tmp_path / "p.csv", "prompt_id,prompt\n,\n , \n"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "p2,train,A storm, at sea.",
            "line 4: the row has 4 cells, the header has 3; a text with commas stands in quo",
        ),
        (
            "p2,train,A storm.,,,x,",
            "line 4: the row has 6 cells, the header has 3; a text with commas stands in quotat",
        ),
        ("p2,train", r"line 4: the row has 2 cells, the header has 3\.$"),
        (",", r"line 5: the row has 1 cells, the header has 3\.$"),
        ('p2,train,"A storm.', r"line 4: the row cannot be read \(.*\), a cell that begins with a quotation mark must"),
    ],
)
def test_cells_too_many_or_too_few_are_an_error(row, message, tmp_path):
    with pytest.raises(InputError, match=message):
        texts(written(tmp_path / "p.csv", f"{PROMPTS}{row}\nx\n"))


def test_blank_rows_and_columns_of_a_spreadsheet(tmp_path):
    header, *rows = [line.split(",") for line in PROMPTS.splitlines()]
    blank: list[object] = [None, "", " ", None, None]
    book = workbook(tmp_path / "p.xlsx", [blank, [*header, None, " "], rows[0], blank, rows[1], blank, blank])
    assert texts(book) == CELLS
    assert [row.line for row in read_rows(book, ["prompt"])] == [3, 5]


def test_blank_rows_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "prompt_id": ["p0", None, "p1"],
        "prompt": ["A storm.", " ", "A calm."],
        "number": [1.0, float("nan"), 2],
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    assert [(row.line, row.text("prompt")) for row in read_rows(tmp_path / "p.parquet", ["prompt"])] == [
        (1, "A storm."),
        (3, "A calm."),
    ]


# ---- other separators


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PROMPTS.replace(",", ";"), r"semicolons \(';'\)"),
        (MARK + PROMPTS.replace(",", ";"), r"semicolons \(';'\)"),
        (f"sep=;\n{PROMPTS.replace(',', ';')}", r"semicolons \(';'\)"),
        (f'"sep=;"\n{PROMPTS.replace(",", ";")}', r"semicolons \(';'\)"),
        (f"SEP=\t\n{PROMPTS}".replace(",", "\t"), "tabs"),
        (f"sep=:\n{PROMPTS}".replace(",", ":"), "':'"),
        ('"prompt_id";"prompt"\n"p0";"A storm, at sea."\n', r"semicolons \(';'\)"),
        ("prompt_id;prompt,,,\np0;A storm.,,,\n", r"semicolons \(';'\)"),
        ("\n,,\nprompt_id;prompt\np0;A storm.\n", r"semicolons \(';'\)"),
        ("prompt_id;text\np0;A storm.\n", r"semicolons \(';'\)"),
        (PROMPTS.replace(",", "\t"), "tabs"),
        (PROMPTS.replace(",", "|"), r"vertical bars \('\|'\)"),
        (PROMPTS.replace(",", " | "), r"vertical bars \('\|'\)"),
    ],
)
def test_another_separator_is_named_with_what_to_do(text, found, tmp_path):
    sentence = (
        rf"p\.csv: the columns are separated by {found}, they must be separated by commas; save the file with commas "
        r'between columns and points in numbers, as "CSV UTF-8 \(comma delimited\)"\.$'
    )
    with pytest.raises(InputError, match=sentence):
        texts(written(tmp_path / "p.csv", text))


def test_semicolons_of_a_table_and_of_unicode_text(tmp_path):
    for content in (TABLE.replace(",", ";").replace(".", ","), TABLE.replace(",", "\t").encode("utf-16")):
        with pytest.raises(InputError, match="the columns are separated by"):
            load_table(written(tmp_path / "t.csv", content))


@pytest.mark.parametrize("header", ["prompt_id,text;more", "id,text", "a|b,c,d"])
def test_a_column_that_is_missing_is_no_other_separator(header, tmp_path):
    with pytest.raises(InputError, match="the column 'prompt' is missing, the columns found are: "):
        texts(written(tmp_path / "p.csv", f"{header}\n"))


def test_semicolons_and_bars_inside_texts_are_kept(tmp_path):
    assert texts(written(tmp_path / "p.csv", "prompt;x,prompt\n1,a; b|c\n")) == [{"prompt;x": "1", "prompt": "a; b|c"}]


# ---- numbers


@pytest.mark.parametrize(
    ("text", "what", "number"),
    [
        ("0,5", "a decimal comma", "0.5"),
        ("4,", None, None),
        (",5", "a decimal comma", ".5"),
        ("-0,5", "a decimal comma", "-0.5"),
        ("0,125", "a decimal comma", "0.125"),
        ("1234,5", "a decimal comma", "1234.5"),
        ("1.234,5", "separators between thousands and a decimal comma", "1234.5"),
        ("1,234.5", "separators between thousands", "1234.5"),
        ("12,345,678", "separators between thousands", "12345678"),
        ("1.234.567", "separators between thousands", "1234567"),
        ("1,234", "separators between thousands or a decimal comma", "1234 or 1.234"),
        ("999,999", "separators between thousands or a decimal comma", "999999 or 999.999"),
        ("1 234", "separators between thousands", "1234"),
        ("1\N{NARROW NO-BREAK SPACE}234,5", "a decimal comma", "1234.5"),
        ("1'234.5", "separators between thousands", "1234.5"),
        ("1,2,3", None, None),
        ("80%", None, None),
        ("4,5 von 10", None, None),
        ("four", None, None),
    ],
)
def test_a_number_with_commas_is_named_with_what_to_write(text, what, number, tmp_path):
    (row,) = read_rows(written(tmp_path / "t.csv", f'prompt_id,words\np,"{text}"\n'), ["words"])
    with pytest.raises(InputError) as caught:
        row.number("words", 0.0, 1e6)
    expected = f"which has {what}; write {number}." if what else "it must be a number from 0 to 1,000,000."
    assert str(caught.value) == f"{tmp_path / 't.csv'}, line 2 (prompt_id 'p'): words is {text!r}, {expected}"


def test_of_two_readings_the_possible_one_is_named(tmp_path):
    with pytest.raises(InputError, match=r"score is '7,250', which has a decimal comma; write 7\.250\.$"):
        load_table(written(tmp_path / "t.csv", TABLE.replace("4.5", '"7,250"')))


def test_decimal_commas_without_quotes_are_cells_too_many(tmp_path):
    with pytest.raises(InputError, match=r"line 3: the row has 6 cells, the header has 5; .* a number has no comma"):
        load_table(written(tmp_path / "t.csv", TABLE.replace("4.5", "4,5")))


def test_a_number_that_a_spreadsheet_made_a_date_of(tmp_path):
    header, local, single = [line.split(",") for line in TABLE.splitlines()]
    cells = [*single[:2], datetime.datetime(2026, 5, 4), 100, 0.9]
    with pytest.raises(
        InputError,
        match=r"line 3 \(prompt_id 'p', experts 'a'\): score is the date '2026-05-04', which a spreadsheet made of a "
        r"number; it must be a number from 0 to 10\.$",
    ):
        load_table(workbook(tmp_path / "t.xlsx", [header, local, cells]))


def test_numbers_and_dates_name_prompts_as_they_are_seen(tmp_path):
    ids = [7, 8.0, 0.5, datetime.datetime(2026, 5, 4), datetime.datetime(2026, 5, 4, 12, 30), " p ", True]
    book = workbook(tmp_path / "p.xlsx", [["prompt_id", "prompt"], *([prompt_id, "A calm."] for prompt_id in ids)])
    found = [row.text("prompt_id") for row in read_rows(book, ["prompt"])]
    assert found == ["7", "8", "0.5", "2026-05-04", "2026-05-04 12:30:00", "p", "True"]


# ---- names and contents


ODS = b"PK\x03\x04\x14\0\0\x08\0\0" + b"\0" * 20 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("t.xlsx", TABLE.encode(), "text or damaged"),
        ("t.xlsx", TABLE.encode("utf-16"), "text or damaged"),
        ("t.xlsx", b"", "text or damaged"),
        ("t.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1", r"an old Excel file \(.xls\) or one with a password"),
        ("t.xlsx", ODS, r"an OpenDocument file \(.ods\)"),
        ("t.csv", ODS, r"an OpenDocument file \(.ods\)"),
        ("t.csv", b"PK\x03\x04\x14\0", r"an Excel file \(.xlsx\) or another zip archive"),
        ("t.csv", b"PAR1\x15", "a Parquet file"),
        ("t.csv", b"\x1f\x8b\x08", r"a compressed file \(gzip\)"),
        ("t.parquet", TABLE.encode(), "text or damaged"),
    ],
)
def test_a_name_that_does_not_fit_the_content(name, content, found, tmp_path):
    sentence = (
        rf"{name}: the file cannot be read, its name ends in {name[1:]} but its content is {found}; open it in a "
        r'spreadsheet and save it as .xlsx or as "CSV UTF-8"\.$'
    )
    with pytest.raises(InputError, match=sentence):
        load_table(written(tmp_path / name, content))


@pytest.mark.parametrize("suffix", [".xls", ".ods", ".tsv", ".txt", ".xlsb", ""])
def test_other_formats_are_saved_as_one_that_is_read(suffix, tmp_path):
    with pytest.raises(InputError, match=r"or a file that ends in \.csv, \.xlsx, \.parquet; save it as one\.$"):
        load_table(written(tmp_path / f"table{suffix}", TABLE))


def test_of_a_workbook_the_first_sheet_is_read(tmp_path):
    with pytest.raises(InputError, match="the columns found are: My notes; only the first sheet is read"):
        load_table(workbook(tmp_path / "t.xlsx", [["My notes"], ["none"]]))


# ---- the same prompt in train and in test


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("A whale who is lost.", [(("train", "p0"), ("test", "q0"), "A whale who is lost.")]),
        ("  a WHALE\n\twho is\N{NO-BREAK SPACE}lost. ", [(("train", "p0"), ("test", "q0"), "A whale who is lost.")]),
        ("A whale who is lost", []),
        ("", []),
    ],
)
def test_texts_are_compared_without_case_and_white_space(text, pairs):
    prompts = [("p0", "train", "A whale who  is lost."), ("p1", "train", ""), ("q0", "test", text), ("q1", "test", " ")]
    assert prompts_in_two_splits(prompts) == pairs
    assert prompts_in_two_splits(reversed(prompts)) == pairs


def test_the_same_prompt_twice_in_one_split_is_in_one_split():
    assert prompts_in_two_splits([("p0", "train", "A storm."), ("p1", "train", "A storm."), ("q", "test", "b")]) == []
    assert describe_prompts_in_two_splits([("p0", "test", "A storm."), ("p1", "test", "A storm.")]) == []


def test_the_warning_names_ids_and_the_beginning_of_the_prompt():
    prompts = [("p00", "train", "a whale who is lost"), ("q07", "test", "a whale who is lost")]
    assert describe_prompts_in_two_splits(prompts) == [
        'warning: the train prompt p00 and the test prompt q07 are the same: "a whale who is lost"; scores on test '
        "prompts are then not those of unseen prompts"
    ]
    (line,) = describe_prompts_in_two_splits([("p", "train", "long " * 100), ("q", "test", "long " * 100)])
    assert f'"{"long " * 11}long..."' in line


def test_the_warning_is_a_line_that_is_seen_whatever_ids_hold():
    (line,) = describe_prompts_in_two_splits([("p" * 10**6, "train", "a\x1b[2Jb"), ("q\u202e", "test", "a\x1b[2Jb")])
    assert len(line) < 400
    assert line.isprintable()


@pytest.mark.parametrize(("count", "rest"), [(3, ""), (4, "and 1 more; "), (12, "and 9 more; ")])
def test_at_most_three_pairs_are_named(count, rest):
    prompts = [(f"{split}{n}", split, f"prompt {n}") for split in ("train", "test") for n in range(count)]
    (line,) = describe_prompts_in_two_splits(prompts)
    assert line.count("are the same") == 3
    assert f'train2 and the test prompt test2 are the same: "prompt 2"; {rest}scores on test prompts' in line


def test_the_shipped_table_keeps_its_splits_apart():
    meta = load_table().meta
    assert describe_prompts_in_two_splits(zip(meta.prompt_ids, meta.splits, meta.prompts, strict=True)) == []


def test_table_check_warns_of_prompts_in_two_splits(tmp_path, capsys):
    from jaxmoe.cli.table import table_check

    rows = [
        f"{p},{split},A [red]storm.,{e},1,50" for p, split in (("p", "train"), ("q", "test")) for e in ("local", "a")
    ]
    table_check(written(tmp_path / "t.csv", "\n".join(["prompt_id,split,prompt,experts,score,words", *rows])), True)
    assert capsys.readouterr().out.splitlines()[-1] == (
        'warning: the train prompt p and the test prompt q are the same: "A [red]storm."; scores on test prompts are '
        "then not those of unseen prompts"
    )
    table_check()
    assert "warning" not in capsys.readouterr().out
