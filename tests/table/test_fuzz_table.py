"""Tables that are not what they seem: each is read, or refused in a sentence."""

import csv
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from fuzzing import NUMBERS, STRANGE, bent_bytes, bent_json, bent_value, cases, each, keeps_the_rule

EXPERTS = ["local", "setting", "action", "setting+action"]
LONG = [
    ["prompt_id", "split", "prompt", "experts", "score", "words", "relevance"],
    *(
        [
            f"p{prompt}",
            split,
            f"A story, {prompt}.",
            name,
            5.5,
            120 + prompt,
            "" if name in ("local", "setting+action") else 0.5,
        ]
        for prompt, split in enumerate(["train", "train", "test"])
        for name in EXPERTS
    ),
]
WIDE = [
    ["prompt_id", "split", *EXPERTS, *(f"words:{name}" for name in EXPERTS), "relevance:setting", "relevance:action"],
    *([f"p{prompt}", "train", 1, 2, 3, 4.5, 10, 20, 30, 40, 0.5, 0.25] for prompt in range(3)),
]
LIKE = [
    "Local",
    "\uff4c\uff4f\uff43\uff41\uff4c",
    "l\u043ecal",
    "Setting",
    "s\u0435tting",
    "set\u200bting",
    "setting ",
    "sett\ning",
    "\uff11",
    "1_0",
    "\u0661",
    "0x1",
]
WORDS = [  # of XML
    "XFD1048576", "A1:XFD1048576", "A99999999999", "-1", "9" * 5000, "1e999", "nan", "", "&x;", "<c>" * 3000, "t", "s",
    '"><x y="', "<!DOCTYPE x>", "\uff12", "1_0", "A0", "ZZZZZZ1",
]  # fmt: skip
RAW = Path(__file__).parents[2] / "data" / "stories"


def bent_sheet(chance):
    """A long or a wide table, with cells, columns or rows that are not what they should be."""
    rows = [list(row) for row in chance.choice([LONG, WIDE])]
    for _ in range(chance.choice([1, 1, 2, 4])):
        what = chance.choice(["cell", "cell", "cell", "name", "column", "header", "drop", "double", "short", "blank"])
        row, column = chance.randrange(len(rows)), chance.randrange(len(rows[0]))
        value = chance.choice([chance.choice(STRANGE), chance.choice(NUMBERS), chance.choice(LIKE)])
        if what == "name":  # everywhere alike, so that it is the name of an expert or a prompt
            old = chance.choice(["setting", "action", "local", "p1", "train"])
            rows = [[_renamed(cell, old, str(value)) for cell in each] for each in rows]
        elif what == "column":
            rows = [[*each[:column], *each[column + 1 :]] for each in rows]
        elif what == "header":
            rows[0][column] = value
        elif what == "drop":
            del rows[row]
        elif what == "double":
            rows.insert(row, list(rows[row]))
        elif what == "short":
            rows[row] = rows[row][:column]
        elif what == "blank":
            rows.insert(row, [""] * chance.choice([0, 1, 40]))
        elif column < len(rows[row]):
            rows[row][column] = value
        if not rows or len(rows[0]) < 2:
            break
    return rows


def _renamed(cell, old, new):
    return cell.replace(old, new) if isinstance(cell, str) else cell


def csv_of(rows, chance):
    text = io.StringIO()
    csv.writer(text, delimiter=chance.choice(",,,,,,;\t")).writerows(rows)
    encoding = chance.choice(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "latin-1", "utf-32"])
    return text.getvalue().encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


def excel_of(rows, chance):
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append([_cell(value) for value in row])
    content = io.BytesIO()
    book.save(content)
    return repacked(content.getvalue(), chance) if chance.random() < 0.5 else content.getvalue()


def _cell(value):
    """What openpyxl can write."""
    if isinstance(value, str):
        return "".join(sign for sign in value if sign.isprintable())[:30_000]
    return value if isinstance(value, bool) or abs(value) < 1e300 else None


def repacked(content, chance):
    """A zip archive, a member of it bent, its checksums those of what it holds."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        names = archive.namelist()
        bent = chance.choice([*names, *[name for name in names if "sheet1" in name] * 4])
        for name in names:
            member = archive.read(name)
            if name == bent:
                member = chance.choice([bent_bytes, bent_xml])(member, chance)
            if name != bent or chance.random() < 0.9:
                copy.writestr(name, member)
    return target.getvalue()


def bent_xml(content, chance):
    """An XML file in which a word, a number or a whole element is another."""
    text = content.decode("utf-8", "replace")
    places = list(re.finditer(r'(?<=")[^"]*(?=")|(?<=>)[^<]+(?=<)|<[^>]*>', text))
    if not places:
        return content
    found = chance.choice(places)
    new = chance.choice([*WORDS, found.group() * 2])
    return (text[: found.start()] + new + text[found.end() :]).encode()


def parquet_of(rows, chance):
    """With types that a table may have, and with others; some files say that jaxmoe wrote them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = max(len(row) for row in rows)
    columns = [[row[position] if position < len(row) else None for row in rows[1:]] for position in range(width)]
    names = [str(name).encode("utf-8", "replace").decode() for name in [*rows[0], *map(str, range(width))][:width]]
    arrays = [arrow(column, chance) for column in columns]
    about = {"experts": ["setting", "action"], "provenance": "x", "digest": "0" * 64}
    note = {} if chance.random() < 0.8 else {b"jaxmoe.table": bent_json(json.dumps(about).encode(), chance)}
    target = io.BytesIO()
    pq.write_table(
        pa.table(arrays, names=names).replace_schema_metadata(note),
        target,
        compression=chance.choice(["snappy", "zstd", "none"]),
        use_dictionary=chance.random() < 0.5,
    )
    return target.getvalue()


def arrow(column, chance):
    """A column of numbers where all are, of texts, or of something that no cell is."""
    import pyarrow as pa

    texts = [None if value in (None, "") else str(value).encode("utf-8", "replace").decode() for value in column]
    kinds = [
        lambda: pa.array([text or "" for text in texts]).dictionary_encode(),
        lambda: pa.array([[text] for text in texts]),
        lambda: pa.array([{"a": text} for text in texts]),
        lambda: pa.array([None if text is None else text.encode() for text in texts]),
        lambda: pa.array([[[[text]]] for text in texts]),
        lambda: pa.array([2**62] * len(texts), pa.timestamp("ns")),
        lambda: pa.array([-(10**13)] * len(texts), pa.timestamp("s", "UTC")),
        lambda: pa.array([1] * len(texts), pa.duration("s")),
        lambda: pa.array([None] * len(texts)),
        lambda: pa.array([True] * len(texts)),
    ]
    if chance.random() < 0.1:
        return chance.choice(kinds)()
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        try:
            return pa.array([float(value) for value in column])
        except OverflowError:
            return pa.array(texts)
    return pa.array(texts)


WRITERS = {".csv": csv_of, ".xlsx": excel_of, ".parquet": parquet_of}


def bent_folder(folder, chance):
    """The shipped raw records, one file bent."""
    for name in ("prompts.csv", "experts.json", "gate.csv", "texts.jsonl", "scores.csv"):
        shutil.copy(RAW / name, folder / name)
    path = folder / chance.choice(
        ["prompts.csv", "experts.json", "experts.json", "gate.csv", "texts.jsonl", "scores.csv"]
    )
    content = path.read_bytes()
    what = chance.choice(["bytes", "value", "value", "gone", "folder"])
    if what == "bytes":
        path.write_bytes(bent_bytes(content, chance))
    elif what == "value" and path.suffix == ".json":
        path.write_bytes(bent_json(content, chance))
    elif what == "value" and path.suffix == ".jsonl":
        lines = content.split(b"\n")
        at = chance.randrange(len(lines) - 1)
        lines[at] = bent_json(lines[at], chance) if chance.random() < 0.7 else json.dumps(bent_value(chance)).encode()
        path.write_bytes(b"\n".join(lines))
    elif what == "value":
        lines = content.split(b"\n")
        at = chance.randrange(len(lines))
        cells = lines[at].split(b",")
        cells[chance.randrange(len(cells))] = chance.choice([*STRANGE, *LIKE]).encode("utf-8", "surrogatepass")
        lines[at] = b",".join(cells)
        path.write_bytes(b"\n".join(lines))
    else:
        path.unlink()
        if what == "folder":
            path.mkdir()


@cases()
@pytest.mark.parametrize("command", ["check", "show"])
def test_a_bent_table_is_read_or_refused(numbers, command, tmp_path):
    for chance in each(numbers, f"table {command}"):
        one_case(command, chance, tmp_path / "case")


def one_case(command, chance, root):
    root.mkdir()
    suffix = chance.choice([*WRITERS, ""])
    path = root / f"table{suffix}"
    if suffix:
        content = WRITERS[suffix](bent_sheet(chance), chance)
        path.write_bytes(bent_bytes(content, chance) if chance.random() < 0.25 else content)
    else:
        path.mkdir()
        bent_folder(path, chance)
    options = [option for option in ("--no-relevance", "--json") if chance.random() < 0.3]
    keeps_the_rule("table", command, path, *options, root=root)
    shutil.rmtree(root)
