"""Several processes that share one folder: whoever is first makes the plan, and all of them together are one."""

import subprocess
import sys
import threading

import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.training.job import find_job
from jaxmoe.training.running import run_job

FOUR = {"devices.agents_per_job": 4}  # two jobs of baselines and three of agents


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of one process."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    assert tiny.sweep(folder, FOUR).complete
    return folder


def test_shards_one_after_the_other_are_one_process(tmp_path, alone):
    out = tmp_path / "out"
    first = tiny.sweep(out, FOUR, shard="1/2")
    assert (first.complete, sorted(first.contents.done)) == (False, [1, 3])
    assert not (out / "results.parquet").exists()
    assert tiny.sweep(out, FOUR, shard="0/2").complete
    tiny.assert_same(out, alone)


def test_a_shard_that_is_none_or_of_another_spec_is_refused(tmp_path, alone):
    with pytest.raises(InputError, match="--shard '2/2' is not of the form i/n"):
        tiny.sweep(tmp_path / "out", FOUR, shard="2/2")
    with pytest.raises(InputError, match="holds another experiment: seeds was 3 and is now 5"):
        tiny.sweep(alone, {**FOUR, "seeds": 5}, shard="0/2")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_do_the_same_job_at_once_leave_one_result(tmp_path, alone):
    storage = tiny.sweep(tmp_path / "out", FOUR, time_budget_s=0).storage
    job = find_job(storage, 2)
    threads = [threading.Thread(target=run_job, args=(job, storage)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((tmp_path / "out" / "jobs" / "000002").glob("done.json"))) == 1
    assert tiny.sweep(tmp_path / "out", FOUR).complete
    assert len([path for path in (tmp_path / "out" / "jobs" / "000002").iterdir() if path.is_dir()]) == 1
    tiny.assert_same(tmp_path / "out", alone)


@pytest.mark.slow
def test_a_bare_process_does_one_job_from_the_folder_alone(tmp_path, alone):
    out = tmp_path / "out"
    tiny.sweep(out, FOUR, time_budget_s=0)
    worker = [sys.executable, "-m", "jaxmoe.training.worker", str(out)]
    done = subprocess.run([*worker, "3"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(jaxmoe.load(out).contents.done) == [3]
    none = subprocess.run([*worker, "99"], capture_output=True, text=True, check=False, timeout=300)
    assert (none.returncode, none.stderr.splitlines()[-1]) == (2, f"jaxmoe: {out} has no job 99")
    assert tiny.sweep(out, FOUR).complete
    tiny.assert_same(out, alone)


@pytest.mark.slow
@pytest.mark.cluster
def test_three_processes_started_together_on_a_new_folder_are_one_process(tmp_path, alone):
    spec = tiny.spec_file(tmp_path / "spec.toml")
    arguments = ["sweep", spec, "--out", tmp_path / "out", "--set", "devices.agents_per_job=4"]
    processes = [tiny.process(*arguments, "--shard", f"{index}/3") for index in range(3)]
    for process in processes:
        with process:
            _, complaints = process.communicate(timeout=600)
        assert process.returncode == 0, complaints
    found = jaxmoe.load(tmp_path / "out")
    assert found.complete
    assert not list((tmp_path / "out").rglob("*.partial"))
    tiny.assert_same(tmp_path / "out", alone)
