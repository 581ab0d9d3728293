"""The driver of workers elsewhere: it hands out jobs, watches where they stand, and hands out again what was lost.

It decides nothing about content, and keeps nothing: whatever ends it, another one goes on from what is in the storage.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from jaxmoe.errors import InputError
from jaxmoe.training.events import Advanced, Callback, JobFailed, JobFinished, JobStarted, Noted
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import finished, in_parallel, progress_of, read_done

WATCH_S = 2.0  # s, between two looks at where jobs stand
LOSSES = 5  # times in a row that a job may lose its worker without getting on

Kind = Literal["done", "stopped", "failed", "refused", "lost"]


class Ended(NamedTuple):
    """A job that a worker no longer has."""

    job: int
    kind: Kind  # refused: the storage or the machine, which the next job meets as well
    said: str = ""  # why


class Pool(Protocol):
    """Workers, wherever they are."""

    @property
    def most(self) -> int:
        """Jobs that may be handed out at once, those that wait for a worker included."""

    def submit(self, job: Job) -> None:
        """Hand out a job."""

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; wait so long for the first one."""

    def stop(self) -> None:
        """Have all workers save and end, and hand out nothing that waits."""


def drive(pool: Pool, jobs: Sequence[Job], storage: Storage, callback: Callback, stop: Callable[[], bool]) -> list[int]:
    """Have all jobs done that are not done yet.

    Returns:
        Numbers of jobs that failed with an error of their own.

    Raises:
        InputError: a worker cannot use the storage, or its machine.
    """
    planned = {job.number: job for job in jobs}
    done = set(finished(storage, jobs))
    waiting = [job for job in jobs if job.number not in done]
    at_work: dict[int, Job] = {}
    watch, losses, failed = _Watch(storage, callback), Counter[int](), list[int]()
    stopping, refused = False, ""
    while waiting or at_work:
        if not stopping and (refused or stop()):
            stopping, waiting = True, []
            pool.stop()  # and all that are at work save
        for job in [] if stopping else _ready(waiting, done, pool.most - len(at_work)):
            waiting.remove(job)
            at_work[job.number] = job
            watch.begin(job)
            pool.submit(job)
        if not at_work:
            break  # what is left waits for jobs that have failed
        for number, kind, said in pool.wait(WATCH_S):
            job = at_work.pop(number)
            if kind == "done":
                done.add(number)
                watch.end(job)
            elif kind == "failed":
                failed.append(number)
                callback(JobFailed(number, str(job.signature), said))
            elif kind in ("lost", "stopped") and not stopping:
                losses[number] = 0 if watch.got_on(job) else losses[number] + 1
                if losses[number] < LOSSES:
                    why = f"is lost ({said})" if kind == "lost" else "was told to stop"
                    callback(Noted(f"job {number}: its worker {why}; it goes on from its last checkpoint"))
                    waiting.insert(0, job)
                else:
                    failed.append(number)
                    callback(JobFailed(number, str(job.signature), f"it lost its worker {LOSSES} times: {said}"))
            elif kind == "refused":
                refused = refused or said
        watch.look([planned[number] for number in at_work])
    if refused:
        raise InputError(refused)
    return sorted(failed)


def _ready(waiting: Sequence[Job], done: set[int], most: int) -> list[Job]:
    """Jobs whose agents come from nowhere else, or from jobs that are done."""
    ready = (job for job in waiting if done.issuperset(number for number, _ in job.start.rows))
    return [job for job, _ in zip(ready, range(max(0, most)), strict=False)]


class _Watch:
    """Tells where jobs stand, from their `progress.json`."""

    def __init__(self, storage: Storage, callback: Callback) -> None:
        self.storage, self.callback = storage, callback
        self._earlier: dict[int, str] = {}  # attempts that were there before a job was handed out
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._reached: dict[int, int] = {}  # env steps when the worker was lost
        self._looked = float("-inf")

    def begin(self, job: Job) -> None:
        """A job is handed out."""
        before = progress_of(self.storage, job)
        self._earlier[job.number] = str(before.get("attempt", "")) if before else ""
        self._seen.pop(job.number, None)

    def look(self, jobs: Sequence[Job]) -> None:
        """Tell what is new."""
        if time.monotonic() - self._looked < WATCH_S:
            return
        self._looked = time.monotonic()
        found = in_parallel(lambda job: progress_of(self.storage, job), jobs)
        for job, at in zip(jobs, found, strict=True):
            if at is not None and at.get("attempt") != self._earlier[job.number]:
                self._tell(job, at)

    def got_on(self, job: Job) -> bool:
        """Whether a job that has lost its worker is further than when it last lost one."""
        at = progress_of(self.storage, job)
        reached = at["env_steps"] if at else 0
        further = reached > self._reached.get(job.number, 0)
        self._reached[job.number] = reached
        return further

    def end(self, job: Job) -> None:
        """Tell that a job is done."""
        about = read_done(self.storage, job) or {}
        if job.number not in self._seen:
            self.callback(JobStarted(job.number, str(job.signature), len(job.rows), 0))
        agents = len(job.rows) if job.kind == "train" else 0
        if agents:
            self.callback(
                Advanced(
                    job.number, agents, job.env_steps, job.env_steps, float(about.get("env_steps_per_s") or 0.0),
                    float("nan"), int(about.get("diverged") or 0),
                )
            )  # fmt: skip
        self.callback(
            JobFinished(
                job.number, agents, int(about.get("diverged") or 0), float(about.get("seconds") or 0.0),
                float(about.get("env_steps_per_s") or 0.0),
            )
        )  # fmt: skip

    def _tell(self, job: Job, at: Mapping[str, Any]) -> None:
        last = self._seen.get(job.number)
        self._seen[job.number] = at
        if last is None or last.get("attempt") != at.get("attempt"):
            self.callback(JobStarted(job.number, str(job.signature), len(job.rows), at["env_steps"]))
            self.callback(Noted(f"job {job.number} is at work on {at.get('where', 'a worker')}", progress=True))
        elif at.get("time") != last.get("time") and job.kind == "train":
            self.callback(_advanced(job, at))


def _advanced(job: Job, at: Mapping[str, Any]) -> Advanced:
    """The event that a note of progress was made of."""
    numbers = {name: float("nan") if at.get(name) is None else at[name] for name in ("env_steps_per_s", "train_qos")}
    return Advanced(
        job.number, len(job.rows), at["env_steps"], at["env_steps_total"], float(numbers["env_steps_per_s"]),
        float(numbers["train_qos"]), int(at.get("diverged") or 0), int(at.get("requests") or 0),
        int(at.get("requests_total") or 0),
    )  # fmt: skip
