"""Where numbers come from."""

import subprocess

import jaxmoe
from jaxmoe.training.provenance import _commit, versions


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_versions_are_those_of_the_packages():
    assert versions()["jaxmoe"] == jaxmoe.__version__


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path):
    assert _commit(tmp_path) == ""
    git(tmp_path, "init")
    (tmp_path / "jaxmoe").mkdir()
    (tmp_path / "jaxmoe" / "file.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    commit = _commit(tmp_path)
    assert len(commit) == 12
    (tmp_path / "jaxmoe" / "file.py").write_text("two")
    assert _commit(tmp_path) == f"{commit}+changes"
