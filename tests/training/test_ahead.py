"""What an idle host does while devices compute: the next job's programs are compiled, and evaluations are noted."""

import threading

import pytest

from jaxmoe.experiment.engines import Local
from jaxmoe.training import ahead, training_run
from jaxmoe.training.attempt import leaves_host_idle
from jaxmoe.training.events import SILENT, JobFinished, JobStarted

CHANGES = {"config__num_envs": [4, 8], "seeds": 1, "env_steps": 1024, "keep": "best"}


def weights(storage):
    return [storage.read(name) for name in storage.list("jobs/") if name.endswith("policies.safetensors")]


def compiles(thread):
    return thread.name.endswith("(_compile)")


def run(planned, callback=SILENT):
    storage, jobs = planned(**CHANGES)
    assert len({job.signature.key for job in jobs}) == len(jobs) == 2
    assert Local()(jobs, storage, callback, lambda: False, 1e9) == []
    return weights(storage)


@pytest.fixture
def forced(monkeypatch):
    for module in (ahead, training_run):
        monkeypatch.setattr(module, "leaves_host_idle", lambda platform: platform == "cpu")


@pytest.mark.usefixtures("quick_compilation", "forced")
def test_the_second_job_compiles_nothing_itself_and_its_bits_are_the_same(planned, compilations, monkeypatch):
    def wait(event):
        if isinstance(event, JobFinished):  # on a CPU the thread has no time of its own
            for thread in filter(compiles, threading.enumerate()):
                thread.join()

    found = run(planned, wait)
    in_thread = list(map(compiles, compilations))
    assert sorted(in_thread) == [False] * 4 + [True] * 4  # init, advance, look and evaluation
    monkeypatch.undo()
    assert run(planned) == found


@pytest.mark.usefixtures("quick_compilation", "forced")
def test_what_goes_wrong_in_the_thread_is_nobodys_concern(planned, monkeypatch):
    monkeypatch.setattr(ahead.TrainingRun, "compile", None)
    started = []
    run(planned, lambda event: started.append(event.job) if isinstance(event, JobStarted) else None)
    assert started == [0, 1]
    assert not list(filter(compiles, threading.enumerate()))


def test_on_a_cpu_the_cores_are_busy():
    assert not leaves_host_idle("cpu")
    assert leaves_host_idle("gpu")
    assert leaves_host_idle("tpu")


@pytest.mark.usefixtures("quick_compilation")
def test_an_evaluation_that_is_noted_while_the_next_segment_runs_is_the_same(planned, monkeypatch):
    def tables():
        storage, jobs = planned(evaluations=4, env_steps=2048)
        assert Local()(jobs, storage, SILENT, lambda: False, 1e9) == []
        names = [name for name in storage.list("jobs/") if name.endswith(".parquet")]
        return [storage.read(name) for name in sorted(names, key=lambda name: name.rsplit("/", 1)[-1])]

    expected, queued = tables(), []
    monkeypatch.setattr(training_run, "leaves_host_idle", lambda platform: queued.append(platform) or True)
    assert tables() == expected
    assert len(queued) > 4
