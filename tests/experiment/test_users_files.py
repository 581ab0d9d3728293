"""A user's files inside a valid experiment: they stay, whatever they are called and whatever is done beside them."""

import os
import shutil

import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError

NOTES = [
    "notes.txt",
    "jobs/notes.txt",
    "jobs/mine/notes.txt",
    "jobs/000000/notes.txt",
    "jobs/000000/checkpoint/notes.txt",
    "jobs/000000/deadbeef/notes.txt",
    "jobs/000002/backup/policies.safetensors",
    "rounds/notes.txt",
    "rounds/000/notes.txt",
    "table/notes.txt",
    "report/notes.txt",
    "report/figures/notes.txt",
    "figures/settings.csv",
    "chunks/notes.txt",
]


@pytest.mark.slow
def test_a_users_files_inside_an_experiment_survive_everything(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    for name in NOTES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("precious")
    (out / "spec.toml").write_text("# mine")
    (out / "jobs" / "000001" / "done.json").unlink()

    def untouched():
        assert (out / "spec.toml").read_text() == "# mine"
        return all((out / name).read_text() == "precious" for name in NOTES)

    assert tiny.sweep(out).complete
    assert untouched()
    jaxmoe.report(out)
    assert untouched()
    assert jaxmoe.load(out).extend(seeds=4).complete  # and reports again
    assert untouched()


def test_a_table_that_a_user_has_edited_is_left_alone(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    (out / "results.parquet").write_bytes(b"edited")
    before = tiny.contents(out)
    with pytest.raises(
        InputError, match=r"results.parquet is not as jaxmoe made it; it is left alone: give it another"
    ):
        tiny.sweep(out)
    assert tiny.contents(out) == before
    with pytest.raises(InputError, match=r"results.parquet is not as jaxmoe made it"):
        jaxmoe.load(out).extend(seeds=4)
    assert (out / "results.parquet").read_bytes() == b"edited"
    (out / "results.parquet").rename(out / "mine.parquet")
    assert jaxmoe.load(out).extend(seeds=4).complete
    assert (out / "mine.parquet").read_bytes() == b"edited"


@pytest.mark.slow
def test_a_report_that_a_user_has_edited_is_left_alone(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    jaxmoe.report(out)
    page = out / "report" / "report.html"
    page.write_text(page.read_text() + "<!-- mine -->")
    before = tiny.contents(out)
    with pytest.raises(InputError, match=r"report.html is not as jaxmoe made it; it is left alone"):
        jaxmoe.report(out)
    assert tiny.contents(out) == before


def test_a_reading_command_changes_nothing_but_its_own_output(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(tmp_path, leave_out=())
    for arguments in (["status", out], ["best", out], ["compare", out, out]):
        assert tiny.command(*arguments).code == 0
    assert tiny.contents(tmp_path, leave_out=()) == before


def test_a_report_depends_on_nothing_that_a_user_sets_for_matplotlib(tmp_path, swept):
    shutil.copytree(swept, tmp_path / "out")
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nfoo.bar: 1\nfont.size: huge\n")
    with tiny.process("report", "out", cwd=tmp_path, env=os.environ | {"MPLBACKEND": "nonsense"}) as process:
        _, said = process.communicate(timeout=300)
    assert (process.returncode, "matplotlib" in said) == (0, False), said
    assert (tmp_path / "out" / "report" / "report.html").exists()
