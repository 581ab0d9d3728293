"""Where experiments are kept: files that are there whole or not at all, under one root."""

import errno
import os
import threading

import pytest

from jaxmoe.errors import InputError, StorageError
from jaxmoe.training.remote import Remote
from jaxmoe.training.storage import Folder, Memory


@pytest.fixture(params=["memory", "folder", "s3", "fsspec memory"])
def storage(request, tmp_path):
    if request.param == "s3":
        return Remote(request.getfixturevalue("bucket"))
    if request.param == "fsspec memory":
        return Remote(f"memory://{tmp_path}")
    return Memory() if request.param == "memory" else Folder(tmp_path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "root").mkdir()
    return Folder(tmp_path / "root")


def failing():
    yield b"first"
    raise RuntimeError("no second piece")


def no_links(number):
    def link(source, target):
        raise OSError(number, f"{target} cannot be made: there are no hard links", source)

    return link


def test_what_is_written_is_read_again_whole_and_in_part(storage):
    storage.write("a/b/c", b"0123456789")
    assert storage.read("a/b/c") == b"0123456789"
    assert storage.read("a/b/c", 3, 4) == b"3456"
    assert storage.read("a/b/c", 8, 100) == b"89"
    assert storage.read("a/b/c", 7) == b"789"
    assert storage.size("a/b/c") == 10
    storage.write("a/b/c", iter([b"piece ", b"by ", b"piece"]))
    assert storage.read("a/b/c") == b"piece by piece"


def test_what_is_not_there_is_not_found(storage):
    with pytest.raises(FileNotFoundError):
        storage.read("a/b")
    assert storage.size("a/b") is None
    assert storage.list() == storage.list("a/") == []
    storage.delete("a/b")


def test_the_first_to_create_a_file_wins(storage):
    assert storage.create("done", b"mine") is True
    assert storage.create("done", b"yours") is False
    assert storage.read("done") == b"mine"


@pytest.mark.parametrize("make", ["write", "create"])
def test_a_file_is_whole_or_not_there(storage, make):
    with pytest.raises(RuntimeError, match="no second piece"):
        getattr(storage, make)("a/file", failing())
    assert storage.size("a/file") is None
    assert storage.list() == []
    storage.write("a/file", b"old")
    with pytest.raises(RuntimeError, match="no second piece"):
        storage.write("a/file", failing())
    assert storage.read("a/file") == b"old"


def test_files_are_listed_in_order_by_how_they_begin(storage):
    for name in ("b/2", "b/10/x", "a", "b/1", "bc"):
        storage.write(name, b"")
    assert storage.list() == ["a", "b/1", "b/10/x", "b/2", "bc"]
    assert storage.list("b/") == ["b/1", "b/10/x", "b/2"]
    assert storage.list("b/1") == ["b/1", "b/10/x"]
    assert storage.list("c/") == []


def test_files_are_renamed_and_deleted(storage):
    storage.write("a/old", b"content")
    storage.rename("a/old", "a/new")
    assert storage.list() == ["a/new"]
    storage.delete("a/new")
    assert storage.list() == []


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "a//b", "", ".", "a/./b", "a\0b"])
def test_a_name_leads_nowhere_but_down(storage, name):
    with pytest.raises(InputError, match="is no name of a file"):
        storage.write(name, b"")
    assert storage.list() == []


def test_no_link_inside_a_folder_is_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"not ours")
    (folder.root / "link").symlink_to(outside)
    (folder.root / "file").symlink_to(outside / "file")
    for call in (
        lambda: folder.read("link/file"),
        lambda: folder.read("file"),
        lambda: folder.write("link/file", b"ours"),
        lambda: folder.write("file", b"ours"),
        lambda: folder.create("link/new", b"ours"),
        lambda: folder.delete("link/file"),
        lambda: folder.delete("file"),
        lambda: folder.size("link/file"),
        lambda: folder.rename("file", "other"),
        lambda: folder.list("link/"),
    ):
        with pytest.raises(InputError, match="is a symbolic link, and jaxmoe follows none"):
            call()
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"not ours"


def test_links_and_unfinished_files_are_not_listed(folder, tmp_path):
    folder.write("jobs/own", b"")
    (folder.root / "jobs" / ".own.0123abcd.partial").write_bytes(b"")
    (folder.root / "jobs" / "link").symlink_to(tmp_path / "anything")
    (folder.root / "jobs" / "loop").symlink_to(folder.root)
    assert folder.list() == folder.list("jobs/") == ["jobs/own"]


def test_a_root_that_is_a_link_is_a_folder_like_any(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folder = Folder(tmp_path / "link")
    folder.write("a/b", b"content")
    assert folder.list() == ["a/b"]
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"content"


def test_nothing_is_left_beside_a_file(folder):
    folder.write("a/file", b"one")
    folder.write("a/file", b"two")
    folder.create("a/file", b"three")
    assert [path.name for path in (folder.root / "a").iterdir()] == ["file"]


def test_an_empty_folder_goes_with_its_last_file(folder):
    folder.write("a/b/c", b"")
    folder.delete("a/b/c")
    assert not (folder.root / "a" / "b").exists()
    assert folder.root.exists()


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_what_was_there(folder, monkeypatch):
    folder.write("file", b"old")

    def full(number):
        assert number >= 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for make in (folder.write, folder.create):
        with pytest.raises(StorageError, match="new cannot be written: No space left on device"):
            make("new", b"content")
    with pytest.raises(StorageError, match="file cannot be written"):
        folder.write("file", b"new")
    assert [path.name for path in folder.root.iterdir()] == ["file"]
    assert folder.read("file") == b"old"


def test_a_file_in_the_way_of_a_folder_is_one_sentence(folder):
    folder.write("a", b"")
    with pytest.raises(StorageError, match="cannot be written"):
        folder.write("a/b", b"")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_disks_without_hard_links_create_exclusively_too(folder, monkeypatch, number):
    monkeypatch.setattr(os, "link", no_links(number))
    assert folder.create("done", b"mine") is True
    assert folder.create("done", b"yours") is False
    assert folder.read("done") == b"mine"
    assert folder.list() == ["done"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_create_a_file_at_once_one_wins_and_its_content_stays(folder, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links(errno.EPERM))
    for number in range(10):
        barrier, won = threading.Barrier(4), []

        def create(who, name=f"done{number}", barrier=barrier, won=won):
            barrier.wait()
            if folder.create(name, who.encode() * 1000):
                won.append(who)

        threads = [threading.Thread(target=create, args=(who,)) for who in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [winner] = won
        assert folder.read(f"done{number}") == winner.encode() * 1000


def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is no plain file"):
        Folder(tmp_path).read("pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=f"{name} is no plain file; remove it"):
            Folder(tmp_path).create(name, b"x")


def test_what_a_killed_process_has_begun_is_found_and_nothing_else(tmp_path):
    storage = Folder(tmp_path)
    storage.write("jobs/000000/done.json", b"{}")
    for name in (
        ".state.json.0123abcd.partial",
        "mine.partial",
        ".mine.0123abcd.partial.txt",
        ".mine.nothex00.partial",
    ):
        (tmp_path / "jobs" / "000000" / name).write_bytes(b"half")
    assert storage.unfinished("jobs/") == ["jobs/000000/.state.json.0123abcd.partial"]
    assert storage.unfinished("rounds/") == []
    assert storage.unfinished("jobs/", older_than_s=60.0) == []
    os.utime(tmp_path / "jobs/000000/.state.json.0123abcd.partial", (0, 0))
    assert storage.unfinished("jobs/", older_than_s=60.0) == ["jobs/000000/.state.json.0123abcd.partial"]
