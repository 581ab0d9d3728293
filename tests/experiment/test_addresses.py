"""Experiments in an object store: a real S3 server that is slow, fails and breaks off, and uploads that are killed."""

import random
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.training import remote

TROUBLES = [503, 500, "break off", 0.2]


@pytest.fixture
def rough(bucket, s3, monkeypatch):
    """A server that does not do what one request in fifteen asks for, or does it slowly."""
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)
    chance = random.Random(0)
    s3[1].decide = lambda *_: chance.choice(TROUBLES) if chance.random() < 1 / 15 else None
    return bucket


@pytest.fixture(scope="module")
def extended(swept, tmp_path_factory):
    """A folder that was extended."""
    folder = tmp_path_factory.mktemp("extended") / "out"
    shutil.copytree(swept, folder)
    assert jaxmoe.load(folder).extend(seeds=4).complete
    return folder


def files(experiment):
    """What is in an experiment, but what is of one process."""
    return {name for name in experiment.storage.list() if "/" not in name or name.startswith(("rounds/", "report/"))}


@pytest.mark.slow
def test_an_address_is_as_good_as_a_folder(rough, swept, extended, tmp_path):
    bucket, address = rough, f"{rough}/mine"
    made = tiny.sweep(address)
    assert (made.complete, made.folder) == (True, address)
    again = jaxmoe.load(address)
    assert str(again.status()).partition(", about")[0] == str(jaxmoe.load(swept).status()).partition(", about")[0]
    tiny.assert_equal_tables(again, jaxmoe.load(swept), but=())
    here, there = shutil.copytree(swept, tmp_path / "here"), again.report()
    assert there.sentences == jaxmoe.report(here).sentences
    assert files(again) - {".lock"} == files(jaxmoe.load(here)) - {".lock"}
    for each in (address, swept):
        jaxmoe.export(each, tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors")
    one, other = sorted(tmp_path.glob("*.safetensors"))
    assert one.read_bytes() == other.read_bytes()
    assert again.extend(seeds=4).complete
    tiny.assert_equal_tables(again, jaxmoe.load(extended), but=())
    again.save(tmp_path / "copy")
    tiny.assert_same(tmp_path / "copy", extended)
    assert jaxmoe.load(tmp_path / "copy").save(f"{bucket}/copy").complete
    with pytest.raises(InputError, match="holds an experiment already"):
        again.save(f"{bucket}/copy")
    with pytest.raises(InputError, match="holds another experiment: seeds was 3 and is now 5"):
        tiny.sweep(address, {"seeds": 5})
    with pytest.raises(InputError, match=r"holds 'copy/.*' and no experiment; choose a new address"):
        tiny.sweep(bucket)
    with pytest.raises(InputError, match=r"/nothing holds no experiment"):
        jaxmoe.load(f"{bucket}/nothing")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["done.json", "results.parquet", "checkpoint"])
def test_an_upload_that_is_killed_is_made_again(bucket, s3, swept, tmp_path, file):
    spec, reached = tiny.spec_file(tmp_path / "spec.toml"), threading.Event()

    def decide(method, path):
        if method == "PUT" and file in path and "jobs/000002" in path:
            reached.set()
            return 30.0
        return None

    s3[1].decide = decide
    with tiny.process("sweep", spec, "--out", bucket, "--checkpoint-every", "0") as process:
        assert reached.wait(300)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    s3[1].decide = lambda *_: None
    found = jaxmoe.load(bucket)
    assert not found.complete
    assert found.storage.size("jobs/000002/done.json") is None
    assert tiny.sweep(bucket).complete
    jaxmoe.load(bucket).save(tmp_path / "copy")
    tiny.assert_same(tmp_path / "copy", swept)


def test_a_store_that_is_gone_is_one_sentence(bucket, s3, monkeypatch, tmp_path):
    s3[1].decide = lambda *_: 403
    done = tiny.command("status", bucket)
    assert (done.code, done.error.count("\n")) == (2, 1)
    assert done.error.startswith(f"jaxmoe: {bucket}/experiment.json")
    done = tiny.command("sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", bucket)
    assert (done.code, done.error.count("\n")) == (2, 1), done.error
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    done = tiny.command("status", "s3://nowhere")
    assert done.error == "jaxmoe: s3://nowhere names no place in a bucket; write s3://BUCKET/NAME\n"


def test_what_reaches_a_store_must_be_installed():
    code = "import sys; sys.modules['s3fs'] = None; from jaxmoe.cli import main; sys.argv = sys.argv[:1] + "
    code += "['status', 's3://bucket/name']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "pip install 'jaxmoe[s3]'" in done.stderr
