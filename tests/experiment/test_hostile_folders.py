"""Folders that somebody else's files are in: one sentence, before anything is trained, and nothing is touched."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import engines

CALLS = {"sweep": tiny.sweep, "train": tiny.train}
both = pytest.mark.parametrize("kind", CALLS)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    def run(*_):
        raise AssertionError("a job was run")

    monkeypatch.setattr(engines, "run_job", run)


@pytest.fixture
def finished(request, swept, trained):
    """Folders of finished experiments, by what has made them."""
    return {"sweep": swept, "train": trained}[request.getfixturevalue("kind")]


def refused(kind, out, message, root):
    """The call says one sentence, and everything below `root` is as before."""
    before = tiny.contents(root)
    with pytest.raises(InputError, match=message) as refusal:
        CALLS[kind](out)
    assert "\n" not in str(refusal.value)
    assert tiny.contents(root) == before


def command_of(kind, out, tmp_path):
    if kind == "train":
        return ["train", "ppo", *tiny.train_options(), "--out", out]
    spec = tiny.spec_file(tmp_path.parent / f"{tmp_path.name}.toml")
    return ["sweep", spec, "--out", out]


USERS = {
    "chunks/chunk-0/results.parquet": "chunks",
    "jobs/000000/done.json": "jobs",
    "rounds/000/round.json": "rounds",
    "table/table.parquet": "table",
    "report/report.html": "report",
    "spec.toml": "spec.toml",
    "results.parquet": "results.parquet",
    "report.html": "report.html",
    "made.json": "made.json",
    "notes.txt": "notes.txt",
    ".hidden": ".hidden",
}


@both
@pytest.mark.parametrize("name", USERS)
def test_a_folder_with_a_users_files_is_refused(tmp_path, kind, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    refused(kind, tmp_path / "out", f"out holds '{USERS[name]}' and no experiment; choose a new or an empty", tmp_path)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", ["chunks/notes.txt", "spec.toml"])
def test_the_command_refuses_it_with_one_sentence_and_exit_code_2(tmp_path, kind, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    arguments, before = command_of(kind, tmp_path / "out", tmp_path), tiny.contents(tmp_path)
    done = tiny.command(*arguments)
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("jaxmoe: ")
    assert "and no experiment; choose a new or an empty folder" in done.stderr
    assert tiny.contents(tmp_path) == before


@both
def test_a_link_to_a_folder_with_files_is_refused(tmp_path, kind):
    (tmp_path / "elsewhere" / "chunks").mkdir(parents=True)
    (tmp_path / "elsewhere" / "chunks" / "notes.txt").write_text("precious")
    (tmp_path / "out").symlink_to("elsewhere")
    refused(kind, tmp_path / "out", "out holds 'chunks' and no experiment", tmp_path)


@both
def test_a_link_to_nothing_is_refused(tmp_path, kind):
    (tmp_path / "out").symlink_to("nowhere")
    refused(kind, tmp_path / "out", "out is a symbolic link to nothing; choose another output folder", tmp_path)


@both
def test_a_file_in_place_of_the_folder_or_above_it_is_refused(tmp_path, kind):
    (tmp_path / "out").write_text("precious")
    refused(kind, tmp_path / "out", "out is a file, not a folder; choose another output folder", tmp_path)
    refused(kind, tmp_path / "out" / "run", "out/run cannot be made or read: ", tmp_path)


@both
def test_a_name_that_no_disk_takes_is_refused(tmp_path, kind):
    refused(kind, tmp_path / ("x" * 300), "is no path: it, or a name in it, is too long", tmp_path)
    refused(kind, f"{tmp_path}/a\0b", "null", tmp_path)


@both
def test_a_folder_without_permission_is_refused(tmp_path, kind, monkeypatch):
    def touch(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "touch", touch)
    (tmp_path / "out").mkdir()
    refused(kind, tmp_path / "out", "out cannot be written: Permission denied", tmp_path)


@both
def test_a_folder_that_may_not_be_written_is_refused(tmp_path, kind):
    if os.geteuid() == 0:  # who may write everywhere but here
        refused(kind, "/proc/self/out", "/proc/self/out cannot be made or read", tmp_path)
        return
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(kind, tmp_path / "closed", "closed cannot be written: Permission denied", tmp_path)
    refused(kind, tmp_path / "closed" / "out", "closed/out cannot be made or read: Permission denied", tmp_path)


@both
def test_a_disk_without_room_for_a_job_is_refused(tmp_path, kind, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    (tmp_path / "out").mkdir()
    refused(kind, tmp_path / "out", "out: 1 MiB are free, and the first job needs ", tmp_path)


@both
def test_the_folder_of_another_experiment_is_refused(tmp_path, kind, swept, trained):
    other = {"sweep": trained, "train": swept}[kind]
    shutil.copytree(other, tmp_path / "out")
    refused(kind, tmp_path / "out", "out holds another experiment: .* was .* and is now ", tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hypers.clip": 0.1}, "holds another experiment: hypers.clip was absent and is now 0.1; choose another"),
        ({"seeds": 4}, "seeds was 3 and is now 4; choose another output folder; jaxmoe extend .*out --seeds N adds to"),
        ({"env_steps": 1024}, "env_steps was 512 and is now 1024; .* extend .* --env-steps N adds to it"),
        ({"objective.metric": "qos"}, "objective.metric was 'auto' and is now 'qos'; choose another output folder$"),
    ],
)
def test_a_changed_spec_is_refused_and_said(tmp_path, swept, overrides, message):
    shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(tmp_path)
    with pytest.raises(InputError, match=message):
        tiny.sweep(tmp_path / "out", overrides)
    assert tiny.contents(tmp_path) == before


def test_another_table_is_refused_and_the_same_elsewhere_is_not(tmp_path, swept):
    shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(tmp_path)
    with pytest.raises(InputError, match="out was begun with another expert table; choose another output folder"):
        tiny.sweep(tmp_path / "out", table=jaxmoe.load_table().select_experts(["action", "setting"]))
    assert tiny.contents(tmp_path) == before
    jaxmoe.load_table().save(tmp_path / "mine.parquet")
    assert tiny.sweep(tmp_path / "out", {"table": str(tmp_path / "mine.parquet")}).complete


OLDER = [
    ({"format": 1, "run": {"algorithm": "ppo"}}, "holds results of format 1, which jaxmoe 0.1 wrote and reads"),
    ({"format": 1, "spec": {"algorithm": ["ppo"]}}, "holds results of format 1, which jaxmoe 0.1 wrote and reads"),
    ({"run": {}, "interrupted": False}, "holds results of format 1, which jaxmoe 0.1 wrote and reads"),
    ({"name": "of an app"}, "holds no experiment: there is no experiment.json in it"),
]


@both
@pytest.mark.parametrize(("manifest", "message"), OLDER)
def test_a_folder_of_an_older_format_is_refused_with_the_version_that_reads_it(tmp_path, kind, manifest, message):
    (tmp_path / "out" / "chunks").mkdir(parents=True)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    refused(kind, tmp_path / "out", message, tmp_path)
    for reads in (jaxmoe.load, jaxmoe.report, jaxmoe.evaluate, lambda path: jaxmoe.compare([path])):
        with pytest.raises(InputError, match=message):
            reads(tmp_path / "out")


def about(**changes):
    """An `experiment.json` that is whole but for something."""
    whole = {"format": 2, "jaxmoe": "9.9", "spec": {"algorithm": ["ppo"], "env_steps": 1}, "table": {"digest": "0"}}
    whole |= {"devices": {"platform": "cpu", "devices": 1, "memory_gib": 1.0}, "keep_states": True, "start": ""}
    return json.dumps({**whole, "plugins": [], "scenarios": {}, **changes}).encode()


DAMAGED = {
    "empty": (b"", "experiment.json is damaged: it is no JSON; restore it from a copy"),
    "half": (about()[:100], "experiment.json is damaged: it is no JSON; restore it from a copy"),
    "zeros": (bytes(512), "experiment.json is damaged: it is no JSON; restore it from a copy"),
    "no text": (b"\xff\xfe\x00{", "experiment.json is damaged: it is no JSON; restore it from a copy"),
    "deep": (b"[" * 100_000, "experiment.json is damaged: it is no JSON; restore it from a copy"),
    "a list": (b"[]", "experiment.json is damaged: it is no list of names with values"),
    "a number": (b"2", "experiment.json is damaged: it is no list of names with values"),
    "a text as format": (about(format="2"), "experiment.json is damaged: format is missing or of another kind"),
    "later": (about(format=3), "has format 3, and this version of jaxmoe reads format 2; it was written by jaxmoe 9.9"),
    "no spec": (about(spec=None), "experiment.json is damaged: spec is missing or of another kind"),
    "a foreign key": (
        about(spec={"algorithm": ["ppo"], "env_steps": 1, "slots": 3}),
        "the key 'slots' is now requests",
    ),
    "a foreign file": (
        about(start="../../precious"),
        "experiment.json is damaged: start is missing or of another kind",
    ),
    "no digest": (about(table={}), "experiment.json is damaged: table.digest is missing or of another kind"),
    "not a number": (about(start=float("nan")), "experiment.json is damaged: it is no JSON"),
    "a key twice": (b'{"format": 999, ' + about()[1:], "experiment.json is damaged: it is no JSON"),
    "half a character": (about(jaxmoe="\ud800"), "experiment.json is damaged: it is no JSON"),
    "changed by hand": (about(sha256=64 * "0"), "experiment.json is damaged: it is not what was written"),
}


@both
@pytest.mark.parametrize("damage", DAMAGED)
def test_an_experiment_that_is_damaged_is_refused(tmp_path, kind, damage):
    content, message = DAMAGED[damage]
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "experiment.json").write_bytes(content)
    refused(kind, tmp_path / "out", message, tmp_path)
    with pytest.raises(InputError, match=message):
        jaxmoe.load(tmp_path / "out").results  # noqa: B018


@both
def test_a_folder_or_a_link_in_place_of_the_experiments_file_is_refused(tmp_path, kind, finished):
    (tmp_path / "out" / "experiment.json").mkdir(parents=True)
    refused(kind, tmp_path / "out", "experiment.json", tmp_path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "experiment.json").symlink_to(finished / "experiment.json")
    refused(kind, tmp_path / "linked", "is a symbolic link, and jaxmoe follows none out of", tmp_path)


@both
def test_a_tilde_is_the_home_of_the_user(tmp_path, kind, finished, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "home" / "x")
    assert CALLS[kind]("~/x").folder == tmp_path / "home" / "x"
    assert CALLS[kind](Path("~/x")).folder == tmp_path / "home" / "x"
    assert jaxmoe.load("~/x").folder == tmp_path / "home" / "x"
    refused(kind, "~nobody_such/x", "~nobody_such/x", tmp_path)
    done = tiny.command(*command_of(kind, "~nobody_such/x", tmp_path))
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "~nobody_such/x"],
        ["report", "~nobody_such/x"],
        ["compare", "~nobody_such/x"],
        ["extend", "~nobody_such/x", "--seeds", "3"],
        ["evaluate", "~nobody_such/x"],
        ["evaluate", "--policy", "~nobody_such/policy.safetensors"],
        ["evaluate", "--out", "~nobody_such/found.csv"],
        ["export", "~nobody_such/x", "--out", "policy.safetensors"],
        ["sweep", "~nobody_such/spec.toml", "--out", "out"],
        ["train", "ppo", "--table", "~nobody_such/table.csv", "--out", "out"],
        ["train", "ppo", "--init-from", "~nobody_such/p.safetensors", "--out", "out"],
    ],
    ids=" ".join,
)
def test_a_home_that_is_not_there_is_one_sentence_everywhere(tmp_path, arguments):
    done = tiny.command(*arguments, cwd=tmp_path)
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert "~nobody_such" in done.stderr
    assert list(tmp_path.iterdir()) == []


LINKED = ["jobs", "jobs/000000", "jobs/000000/done.json", "rounds", "rounds/000", "table", "results.parquet", ".lock"]


@both
@pytest.mark.parametrize("name", LINKED)
def test_a_link_inside_an_experiment_is_not_followed(tmp_path, kind, finished, name):
    out = shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (out / name).rename(tmp_path / "elsewhere" / "target")
    (out / name).symlink_to(tmp_path / "elsewhere" / "target")
    message = f"{name.split('/')[-1]} is a symbolic link, and jaxmoe follows none out of .*out; remove it"
    refused(kind, out, message, tmp_path)


@both
def test_a_link_in_place_of_a_jobs_folder_is_not_followed_when_the_job_is_to_be_done(tmp_path, kind, finished):
    out = shutil.copytree(finished, tmp_path / "out")
    last = sorted((out / "jobs").iterdir())[-1]
    shutil.rmtree(last)
    (tmp_path / "elsewhere" / "checkpoint").mkdir(parents=True)
    (tmp_path / "elsewhere" / "checkpoint" / "state.json").write_text("precious")
    last.symlink_to(tmp_path / "elsewhere")
    refused(kind, out, "is a symbolic link, and jaxmoe follows none out of", tmp_path)
