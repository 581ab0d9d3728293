"""Object stores: a real S3 server that is slow or busy, breaks off, or has no such bucket; an upload that is killed."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxmoe.errors import InputError, StorageError
from jaxmoe.training import remote
from jaxmoe.training.remote import Remote, is_address, storage_at
from jaxmoe.training.storage import Folder


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)


def failing(kind, times, method="PUT", within=""):
    """So many requests of a method fail; then all is well."""
    left = [times]

    def decide(asked, path):
        if asked != method or within not in path or not left[0]:
            return None
        left[0] -= 1
        return kind

    return decide


@pytest.mark.parametrize("kind", [500, 503, "break off"])
@pytest.mark.parametrize("make", ["write", "create"])
def test_a_server_that_is_busy_or_breaks_off_is_asked_again(bucket, s3, kind, make):
    storage = Remote(bucket)
    s3[1].decide = failing(kind, 7)  # more often than s3fs itself tries
    getattr(storage, make)("a/file", b"all of it" * 1000)
    assert storage.read("a/file") == b"all of it" * 1000


def test_what_was_created_by_a_request_whose_answer_was_lost_is_created(bucket, s3):
    storage = Remote(bucket)
    lost = []

    def decide(method, path):
        if method == "PUT" and not lost:
            lost.append(path)
            return "lose the answer"
        return None

    s3[1].decide = decide
    assert storage.create("done.json", b"mine") is True
    assert lost
    assert storage.read("done.json") == b"mine"
    assert storage.create("done.json", b"yours") is False


def test_a_slow_server_is_waited_for(bucket, s3):
    storage = Remote(bucket)
    s3[1].decide = lambda method, _: 1.0 if method in ("PUT", "GET") else None
    storage.write("file", b"content")
    assert storage.read("file") == b"content"


def test_what_does_not_pass_is_a_sentence(bucket, s3):
    storage = Remote(bucket, patience_s=0.1)
    storage.write("file", b"content")
    s3[1].decide = lambda *_: 503
    with pytest.raises(StorageError, match="/other cannot be written: try later"):
        storage.write("other", b"content")
    with pytest.raises(OSError, match=r"Service Unavailable: .*/file") as caught:
        storage.read("file")
    assert not isinstance(caught.value, InputError | FileNotFoundError)  # nothing is taken for missing or damaged
    s3[1].decide = lambda *_: 403
    began = time.monotonic()
    with pytest.raises(StorageError, match="/other cannot be written: "):
        Remote(bucket).write("other", b"content")
    assert time.monotonic() - began < 10  # it is not asked again for what nobody may do


def test_an_upload_in_many_parts_that_is_killed_leaves_nothing(bucket, s3):
    slow = threading.Event()

    def decide(_, path):
        if "partNumber" in path:
            slow.set()
            return 5.0
        return None

    s3[1].decide = decide
    code = (
        "import sys; from jaxmoe.training.remote import Remote\n"
        "Remote(sys.argv[1]).write('large', (bytes(2**20) for _ in range(120)))"
    )
    with subprocess.Popen([sys.executable, "-c", code, bucket]) as process:
        assert slow.wait(120)
        process.send_signal(signal.SIGKILL)
    s3[1].decide = lambda *_: None
    storage = Remote(bucket)
    assert storage.size("large") is None
    assert storage.list() == []
    storage.write("large", (bytes(2**20) for _ in range(120)))
    assert storage.size("large") == 120 * 2**20
    assert storage.read("large", 100 * 2**20, 3) == bytes(3)


def test_a_file_that_is_read_in_many_parts_is_fetched_once(bucket, s3):
    storage = Remote(bucket)
    storage.write("a/file", bytes(range(100)))
    near = storage.at_hand("a/file")
    asked = len(s3[1].requests)
    assert [near.read("a/file", place, 1) for place in range(100)] == [bytes([place]) for place in range(100)]
    assert len(s3[1].requests) == asked
    assert isinstance(near, Folder)
    root = near.root
    del near
    assert not root.exists()
    with pytest.raises(FileNotFoundError):
        storage.at_hand("a/other")


def test_a_store_is_found_out_before_it_is_needed(bucket, monkeypatch):
    Remote(bucket).require_usable()
    assert Remote(bucket).list() == []
    with pytest.raises(StorageError, match="The specified bucket does not exist"):
        Remote("s3://nobodys-bucket/a").require_usable()
    monkeypatch.setattr(remote, "FIRST_PATIENCE_S", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot be used: .*127\.0\.0\.1:9"):
        Remote(bucket).require_usable()


def test_a_store_that_ignores_conditions_is_refused(bucket, monkeypatch):
    storage = Remote(bucket)
    put = storage._put
    monkeypatch.setattr(storage, "_put", lambda name, content, _: put(name, content, "overwrite"))
    with pytest.raises(InputError, match="makes a file although there is one"):
        storage.require_usable()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://example.org/a", "at an address that begins with s3:// or gs://"),
        ("s3://bucket", "names no place in a bucket; write s3://BUCKET/NAME"),
        ("s3://", "names no place in a bucket"),
        ("s3://bucket/../other", "is no name of a file"),
    ],
)
def test_what_is_no_address_is_refused(address, sentence):
    with pytest.raises(InputError, match=sentence):
        storage_at(address)


def test_paths_stay_paths(tmp_path):
    assert isinstance(storage_at(tmp_path), Folder)
    assert storage_at(f"file://{tmp_path}").where == str(tmp_path)
    assert not is_address("runs/a:b")
    with pytest.raises(InputError, match="give the address as a text"):
        is_address(Path("s3://bucket/name"))
