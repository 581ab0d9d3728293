"""The driver of workers elsewhere, with workers that are a list."""

import json
from itertools import count

import pytest

from jaxmoe.errors import InputError
from jaxmoe.experiment.driving import LOSSES, Ended, drive
from jaxmoe.training.events import JobFailed, JobFinished, JobStarted, Noted
from jaxmoe.training.job import Job, Phase, Signature, Start
from jaxmoe.training.storage import Memory


def job(number, after=()):
    """A job that goes on with agents of others."""
    start = Start("states", rows=tuple((each, 0) for each in after)) if after else Start()
    return Job(
        number=number, round=0, kind="train", signature=Signature("ppo", {}, "oneshot", {}, {}, ""), rows=(number,),
        numbers=(), agents_per_device=1, root_seed=0, purpose=0, phases=(Phase(100),), evaluate_at=(0, 100),
        requests=1, families=(), start=start, keep_states=False, matmul_precision="default", platform="cpu",
    )  # fmt: skip


FILES = ("results.parquet", "curves.parquet", "evaluation.parquet", "policies.safetensors")


class Pool:
    """Ends one job after the other, in order; a function of number and attempt says how."""

    def __init__(self, storage, ends=lambda *_: ("done", ""), most=2):
        self.storage, self.ends, self.most = storage, ends, most
        self.at_work, self.submitted, self.stopped, self.attempts = [], [], False, count()

    def submit(self, job):
        assert len(self.at_work) < self.most
        assert not self.stopped
        self.at_work.append(job)
        self.submitted.append(job.number)

    def wait(self, seconds):
        assert seconds > 0
        job = self.at_work.pop(0)
        kind, said = ("stopped", "") if self.stopped else self.ends(job.number, self.submitted.count(job.number))
        if kind == "done":
            files = {name: {"sha256": 64 * "0", "bytes": 0} for name in FILES}
            done = {"attempt": "a", "files": files, "seconds": 1.0, "env_steps": 1, "hypers": [], "preferences": ""}
            for file in files:
                self.storage.create(f"{job.folder}/a/{file}", b"")
            done |= {"network": {}, "baselines": {}}
            self.storage.create(f"{job.folder}/done.json", json.dumps(done).encode())
        return [Ended(job.number, kind, said)]

    def stop(self):
        self.stopped = True


def driven(jobs, ends=lambda *_: ("done", ""), stop=lambda: False, storage=None, most=2):
    """The pool after it, the jobs that failed, and what was told."""
    storage = storage or Memory()
    pool, told = Pool(storage, ends, most), []
    return pool, drive(pool, jobs, storage, told.append, stop), told


def get_on(storage, number, env_steps):
    about = {"env_steps": env_steps, "env_steps_total": 100, "attempt": "a"}
    storage.write(f"jobs/{number:06d}/progress.json", json.dumps(about).encode())


def kinds(told, kind):
    return [event for event in told if isinstance(event, kind)]


def test_jobs_are_handed_out_in_order_and_told_of():
    pool, failed, told = driven([job(number) for number in range(5)])
    assert (pool.submitted, failed) == ([0, 1, 2, 3, 4], [])
    assert [event.job for event in kinds(told, JobFinished)] == [0, 1, 2, 3, 4]
    assert len(kinds(told, JobStarted)) == 5


def test_what_is_done_is_not_done_again():
    storage, jobs = Memory(), [job(number) for number in range(4)]
    driven(jobs[:2], storage=storage)
    assert driven(jobs, storage=storage)[0].submitted == [2, 3]


def test_a_job_waits_for_those_whose_agents_it_goes_on_with():
    jobs = [job(0, after=(3,)), job(1, after=(0, 2)), job(2), job(3)]
    assert driven(jobs, most=4)[0].submitted == [2, 3, 0, 1]
    storage = Memory()
    driven(jobs[3:], storage=storage)
    assert driven(jobs, storage=storage, most=4)[0].submitted == [0, 2, 1]


def test_what_waits_for_a_job_that_failed_is_left():
    ends = lambda number, _: ("failed", "ValueError: no") if number == 0 else ("done", "")  # noqa: E731
    pool, failed, told = driven([job(0), job(1, after=(0,)), job(2, after=(1,)), job(3)], ends)
    assert (pool.submitted, failed) == ([0, 3], [0])
    assert kinds(told, JobFailed) == [JobFailed(0, "ppo in oneshot", "ValueError: no")]


def test_a_job_that_loses_its_worker_again_and_again_has_failed():
    ends = lambda number, _: ("lost", "killed") if number == 1 else ("done", "")  # noqa: E731
    pool, failed, told = driven([job(number) for number in range(3)], ends)
    assert failed == [1]
    assert pool.submitted.count(1) == LOSSES
    assert len(kinds(told, Noted)) == LOSSES - 1
    assert [event.error for event in kinds(told, JobFailed)] == [f"it lost its worker {LOSSES} times: killed"]


@pytest.mark.parametrize("kind", ["lost", "stopped"])
def test_a_job_that_gets_on_may_lose_its_worker_ever_so_often(kind):
    storage = Memory()

    def ends(number, attempt):
        get_on(storage, number, attempt)
        return (kind, "") if attempt < 5 * LOSSES else ("done", "")

    pool, failed, told = driven([job(0)], ends, storage=storage)
    assert (len(pool.submitted), failed) == (5 * LOSSES, [])
    assert len(kinds(told, Noted)) >= 5 * LOSSES - 1


def test_only_losses_in_a_row_count():
    storage = Memory()

    def ends(number, attempt):
        get_on(storage, number, attempt // (LOSSES - 1))
        return ("lost", "killed") if attempt < 4 * LOSSES else ("done", "")

    assert driven([job(0)], ends, storage=storage)[1] == []


def test_a_worker_that_cannot_use_the_storage_ends_it_all():
    storage, told = Memory(), []
    pool = Pool(storage, lambda *_: ("refused", "job 0: the disk is full"))
    with pytest.raises(InputError, match="job 0: the disk is full"):
        drive(pool, [job(0), job(1), job(2)], storage, told.append, lambda: False)
    assert pool.stopped
    assert pool.submitted == [0, 1]


def test_when_somebody_wants_the_end_nothing_more_is_handed_out():
    asked = iter([False, False, True, True])
    pool, failed, told = driven([job(number) for number in range(6)], stop=lambda: next(asked, True))
    assert pool.stopped
    assert (pool.submitted, failed) == ([0, 1, 2], [])
    assert [event.job for event in kinds(told, JobFinished)] == [0, 1]
    assert not kinds(told, JobFailed) + kinds(told, Noted)
