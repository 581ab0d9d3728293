"""Folders of experiments that somebody has bent: each is read soundly or refused, and nothing else is touched."""

import hashlib
import io
import json
import os
import shutil

import fuzzing
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run

OUT = "out"
READERS = (
    ("status", OUT),
    ("status", OUT, "--json"),
    ("best", OUT),
    ("compare", OUT, OUT),
    ("export", OUT, "--agent", "0", "--out", "exported/policy.safetensors"),
)
REPORT = ("report", OUT)  # which takes longest
MAY_WRITE = {"report": f"{OUT}/report", "export": "exported"}


def seal(document):
    """The document with the checksum that it should have: whoever bends it on purpose does so too."""
    if not isinstance(document, dict):
        return document
    rest = {name: value for name, value in document.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def bend_document(path, chance):
    """A bent JSON document; of two in three its checksum is right."""
    if chance.random() < 0.33:
        path.write_bytes(fuzzing.bent_json(path.read_bytes(), chance))
        return
    bent = fuzzing.bent_document(json.loads(path.read_bytes()), chance)
    path.write_text(json.dumps(seal(bent)), encoding="utf-8")


def bend_lines(path, chance):
    """Jobs, one of them bent."""
    lines = path.read_bytes().splitlines()
    at = chance.randrange(len(lines))
    lines[at] = fuzzing.bent_json(lines[at], chance)
    path.write_bytes(b"\n".join(lines) + b"\n")


def bend_table(path, chance):
    """A table with other columns, kinds, numbers or rows; or bent in its bytes."""
    if path.name == "table.parquet" or chance.random() < 0.2:
        path.write_bytes(fuzzing.bent_bytes(path.read_bytes(), chance))
        return
    rows = pd.read_parquet(path)
    column = chance.choice(list(rows.columns))
    what = chance.choice(["drop", "kind", "number", "gap", "rows", "none", "swap", "nested", "name"])
    if what == "drop":
        rows = rows.drop(columns=column)
    elif what == "kind":
        rows[column] = rows[column].astype(object).map(lambda value: chance.choice([str(value), f"{value}x"]))
    elif what == "number" and rows[column].dtype.kind in "iuf":
        rows[column] = rows[column].astype(np.float64)
        rows.loc[chance.randrange(len(rows)), column] = chance.choice([-1, 1e18, 1e300, np.nan, np.inf, 0.5])
    elif what == "gap":
        rows[column] = rows[column].astype(object)
        rows.loc[chance.randrange(len(rows)), column] = None
    elif what == "rows":
        rows = pd.concat([rows, rows.sample(3, random_state=chance.randrange(99))])
    elif what == "none":
        rows = rows.head(chance.choice([0, 1]))
    elif what == "swap":
        rows[column] = rows[chance.choice(list(rows.columns))]
    elif what == "name":
        rows = rows.rename(columns={column: chance.choice([text for text in fuzzing.STRANGE if text != "\ud800"])})
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if what == "nested":
        lists = pa.array([[1]] * len(table)) if chance.random() < 0.5 else pa.array([b"x"] * len(table))
        table = table.set_column(table.column_names.index(column), column, lists)
    content = io.BytesIO()
    pq.write_table(table, content)
    path.write_bytes(content.getvalue())


def note(path):
    """Have the document that stands for a file say its new checksum."""
    content = path.read_bytes()
    for document in (path.parent / "round.json", path.parent.parent / "done.json"):
        if document.exists():
            about = json.loads(document.read_bytes())
            if path.name in about["files"]:
                about["files"][path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            document.write_text(json.dumps(seal(about)), encoding="utf-8")


def bend_names(out, chance):
    """A file or folder that is gone, elsewhere, a link, another kind of thing, or has others beside it."""
    paths = [path for path in sorted(out.rglob("*")) if path.name != ".lock"]
    path = chance.choice(paths)
    what = chance.choice(["remove", "link", "link", "outside", "folder", "empty", "stranger", "swap"])
    if what == "stranger":
        (path if path.is_dir() else path.parent).joinpath(chance.choice(["x", "report.html", "a\nb", "-rf"])).touch()
        return
    if what == "swap":
        other = chance.choice(paths)
        if path.is_file() and other.is_file():
            path.write_bytes(other.read_bytes())
        return
    kept = out.parent / "victim" / "kept"
    path.rename(kept)
    if what == "link":
        path.symlink_to(kept)
    elif what == "outside":
        path.symlink_to(out.parent / "victim")
    elif what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()


def bend(out, chance):
    """Something in a folder."""
    if chance.random() < 0.2:
        bend_names(out, chance)
        return
    kinds = {".json": bend_document, ".jsonl": bend_lines, ".parquet": bend_table}
    path = chance.choice([path for path in sorted(out.rglob("*")) if path.suffix in (*kinds, ".safetensors")])
    if path.suffix in kinds:
        kinds[path.suffix](path, chance)
    else:
        path.write_bytes(fuzzing.bent_bytes(path.read_bytes(), chance))
    if path.suffix != ".json" and chance.random() < 0.7:
        note(path)


@fuzzing.cases()
@pytest.mark.filterwarnings("ignore")  # numbers that no agent reaches are read as they are
def test_a_bent_folder_is_read_soundly_or_refused(swept, tmp_path, numbers):
    for chance in fuzzing.each(numbers, "folder"):
        root = tmp_path / "case"
        (root / "victim" / "jobs").mkdir(parents=True)
        (root / "exported").mkdir()
        (root / "victim" / "notes.txt").write_text("precious")
        shutil.copytree(swept, root / OUT)
        bend(root / OUT, chance)
        for command in [REPORT] if chance.random() < 0.1 else chance.sample(READERS, 2):
            print(*command)
            fuzzing.keeps_the_rule(*command, root=root, out=root / MAY_WRITE.get(command[0], "nothing"))
        shutil.rmtree(root)


def test_a_small_file_that_holds_very_many_rows_is_refused(swept, tmp_path):
    shutil.copytree(swept, tmp_path / OUT)
    [path] = (tmp_path / OUT).glob("jobs/*/*/curves.parquet")
    schema = pq.read_schema(path)
    same = pa.array(np.zeros(4_000_000, np.int8))
    pq.write_table(pa.table({field.name: same.cast(field.type) for field in schema}), path, compression="zstd")
    note(path)
    done = fuzzing.keeps_the_rule("report", OUT, root=tmp_path)
    assert "curves.parquet is damaged: it is larger than any that jaxmoe writes" in done.error


@pytest.mark.parametrize("name", ["experiment.json", "rounds/000/round.json", "jobs/000000/done.json"])
def test_nobody_waits_for_a_pipe_in_a_folder(swept, tmp_path, name):
    shutil.copytree(swept, tmp_path / OUT)
    (tmp_path / OUT / name).unlink()
    os.mkfifo(tmp_path / OUT / name)
    with fuzzing.within_limits():
        done = run("status", OUT, cwd=tmp_path)
    if done.code:  # or the job is not done
        fuzzing.assert_one_sentence(done.error)
