"""What becomes of names and texts from data where they are shown, and where a file is named after them."""

import csv
import io
import re
import subprocess
import sys

import command_line
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxmoe.errors import InputError, StorageError
from jaxmoe.files import write_bytes
from jaxmoe.names import csv_file, first_alike, from_cell, in_cell, sentence, short, slug, to_csv, visible

TEXTS = st.text() | st.text(alphabet="'=+-@\t\r\n1.e ", max_size=6)
TABLE = """prompt_id,split,prompt,experts,score,words,relevance
p0,train,write,local,3,40,
p0,train,write,名前,5,40,0.5
p0,train,write,é — x,6,50,0.5
p0,train,write,名前+é — x,7,60,
p1,test,write,local,3,40,
p1,test,write,名前,5,40,0.5
p1,test,write,é — x,6,50,0.5
p1,test,write,名前+é — x,7,60,
"""


@given(TEXTS)
def test_a_text_comes_out_of_a_cell_as_it_went_in_and_is_never_computed(text):
    cell = in_cell(text)
    assert from_cell(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r"))
    assert not re.match(r"[+-]", cell) or re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", cell)


@given(st.lists(TEXTS.filter(lambda text: text.isprintable()), min_size=1, max_size=3))
def test_tables_for_readers_and_for_us_have_the_same_cells(texts):
    rows = [[*texts, 1.5]]
    header = [f"c{number}" for number in range(len(texts))] + ["x"]
    ours = list(csv.reader(io.StringIO(csv_file(header, rows).decode(), newline="")))
    readers = list(csv.reader(io.StringIO(to_csv(pd.DataFrame(rows, columns=header)).decode(), newline="")))
    assert ours == readers == [header, [*map(in_cell, texts), "1.5"]]


def test_no_line_end_in_a_cell_begins_a_row():
    rows = pd.DataFrame({"policy": ["random\r=1+1", "x\r\n=2", "two\nlines"], "qos": [0.5, 0.6, 0.7]})
    cells = list(csv.reader(io.StringIO(to_csv(rows).decode(), newline="")))
    assert [row[0] for row in cells] == ["policy", r"random\r=1+1", "x\\r\n=2", "two\nlines"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_names_are_two_files(one, other):
    for name in (one, other):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", slug(name))
        assert not slug(name).endswith(".")
        assert slug(slug(name)) == slug(name)
    assert (slug(one) == slug(other)) == (one == other)


@given(st.text(max_size=2000))
def test_what_is_said_is_one_visible_line_of_bounded_length(text):
    for said in (sentence(text), str(InputError(text)), short(text), visible(text)):
        assert visible(said) == said
        assert "\n" not in said
    assert len(sentence(text)) <= 1_000
    assert len(short(text)) <= 8 * 100
    assert sentence(sentence(text)) == sentence(text)


def test_a_value_of_any_size_is_quoted_short():
    for value in (10**6000, "x" * 10**6, [[]] * 10**5, {"a": "b" * 10**5}, b"\0" * 10**5):
        assert len(short(value)) < 150


def test_names_that_look_alike_are_told():
    assert first_alike(["gpt", "GPT"]) == ("gpt", "GPT")
    assert first_alike(["a", "\N{CYRILLIC SMALL LETTER A}"]) == ("a", "\N{CYRILLIC SMALL LETTER A}")
    assert first_alike(["x5", "x\N{FULLWIDTH DIGIT FIVE}"]) == ("x5", "x\N{FULLWIDTH DIGIT FIVE}")
    assert first_alike(["a b", "a\N{NO-BREAK SPACE}b"]) == ("a b", "a\N{NO-BREAK SPACE}b")
    assert first_alike(["gpt-4", "gpt-5", "कि", "का"]) is None


@pytest.mark.parametrize(
    ("encoding", "expert"), [("ascii", r"\xe9 - x"), ("latin-1", "é - x"), ("cp1252", "é — x"), ("utf-8", "é — x")]
)
def test_a_terminal_that_lacks_a_character_gets_one_that_it_has(tmp_path, encoding, expert):
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    command = [*command_line.COMMAND, "table", "show", str(tmp_path / "table.csv")]
    environment = {"PYTHONIOENCODING": encoding, "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    text = done.stdout.decode(encoding)
    assert expert in text
    assert ("名前" if encoding == "utf-8" else r"\u540d\u524d") in text


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_takes_nothing_is_no_traceback(tmp_path, stream):
    arguments = ["scenario", "show", "oneshot"] if stream == "stdout" else ["status", str(tmp_path)]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = subprocess.run([*command_line.COMMAND, *arguments], **streams, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr in (None, b"jaxmoe: No space left on device\n")


def test_a_file_name_may_be_as_long_as_the_disk_takes(tmp_path):
    path = tmp_path / ("x" * 251 + ".csv")
    write_bytes(path, b"1", overwrite=False)
    assert path.read_bytes() == b"1"
    with pytest.raises(StorageError, match=r"\.csv cannot be written: File name too long"):
        write_bytes(tmp_path / ("x" * 252 + ".csv"), b"1", overwrite=False)
    assert list(tmp_path.iterdir()) == [path]
