"""The driver of workers elsewhere: it hands out jobs, watches where they stand, and hands out again what was lost.

It decides nothing about content, and keeps nothing: whatever ends it, another one goes on from what is in the storage.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol

from jaxmoe.errors import InputError
from jaxmoe.training.events import Advanced, Callback, JobFailed, JobFinished, JobStarted, Noted
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import READERS, finished, progress_of, read_done

WATCH_S = 2.0  # s, between two looks at where jobs stand
LOOK_SHARE = 0.1  # of the time, at most, goes into such looks
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
    done = finished(storage, jobs)
    waiting = _Waiting([job for job in jobs if job.number not in done], done)
    watch = _Watch(storage, callback)
    try:
        return _drive(pool, waiting, watch, callback, stop)
    finally:
        watch.close()


def _drive(pool: Pool, waiting: "_Waiting", watch: "_Watch", callback: Callback, stop: Callable[[], bool]) -> list[int]:
    """Hand out, watch and hand out again; numbers of jobs that failed."""
    at_work: dict[int, Job] = {}
    losses, failed = Counter[int](), list[int]()
    stopping, refused = False, ""
    while True:
        if not stopping and (refused or stop()):
            stopping = True
            pool.stop()  # and all that are at work save
        begun = [] if stopping else waiting.take(pool.most - len(at_work))
        watch.begin(begun)
        for job in begun:
            at_work[job.number] = job
            pool.submit(job)
        if not at_work:
            break  # what is left waits for jobs that have failed
        ended = pool.wait(WATCH_S)
        watch.end([at_work[number] for number, kind, _ in ended if kind == "done"])
        for number, kind, said in ended:
            job = at_work.pop(number)
            if kind == "done":
                waiting.done(number)
            elif kind == "failed":
                failed.append(number)
                callback(JobFailed(number, str(job.signature), said))
            elif kind in ("lost", "stopped") and not stopping:  # a machine that is taken away has its workers stop
                losses[number] = 0 if watch.got_on(job) else losses[number] + 1
                why = f"is lost ({said})" if kind == "lost" else "was told to stop"
                if losses[number] < LOSSES:
                    callback(Noted(f"job {number}: its worker {why}; it goes on from its last checkpoint"))
                    waiting.again(job)
                else:
                    failed.append(number)
                    callback(
                        JobFailed(
                            number, str(job.signature), f"it lost its worker {LOSSES} times: {said or 'told to stop'}"
                        )
                    )
            elif kind == "refused":
                refused = refused or said
        watch.look(list(at_work.values()))
    if refused:
        raise InputError(refused)
    return sorted(failed)


class _Waiting:
    """Jobs that nobody has yet, in order: those that can begin, and those whose agents come from jobs not done yet."""

    def __init__(self, jobs: Sequence[Job], done: Collection[int]) -> None:
        self._ready: deque[Job] = deque()
        self._needs: dict[int, set[int]] = {}  # jobs that a job waits for
        self._then: dict[int, list[Job]] = {}  # jobs that wait for a job
        for job in jobs:
            needs = {number for number, _ in job.start.rows}.difference(done)
            if not needs:
                self._ready.append(job)
                continue
            self._needs[job.number] = needs
            for number in needs:
                self._then.setdefault(number, []).append(job)

    def take(self, most: int) -> list[Job]:
        """So many jobs that can begin, at most."""
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def again(self, job: Job) -> None:
        """A job is next once more."""
        self._ready.appendleft(job)

    def done(self, number: int) -> None:
        """A job is done, on which others may have waited."""
        for job in self._then.pop(number, []):
            self._needs[job.number].discard(number)
            if not self._needs[job.number]:
                self._ready.append(job)


class _Watch:
    """Tells where jobs stand, from their `progress.json`."""

    def __init__(self, storage: Storage, callback: Callback) -> None:
        self.storage, self.callback = storage, callback
        self._earlier: dict[int, str] = {}  # attempts that were there before a job was handed out
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._reached: dict[int, int] = {}  # env steps when the worker was lost
        self._next_look = float("-inf")
        self._readers = ThreadPoolExecutor(READERS)  # kept, because to start threads takes longer than to read a file

    def begin(self, jobs: Sequence[Job]) -> None:
        """Jobs are handed out."""
        for job, before in zip(jobs, self._progress(jobs), strict=True):
            self._earlier[job.number] = str(before.get("attempt", "")) if before else ""
            self._seen.pop(job.number, None)

    def look(self, jobs: Sequence[Job]) -> None:
        """Tell what is new; an object store may be slow, and looking takes a part of the time alone."""
        began = time.monotonic()
        if began < self._next_look:
            return
        for job, at in zip(jobs, self._progress(jobs), strict=True):
            if at is not None and at.get("attempt") != self._earlier[job.number]:
                self._tell(job, at)
        ended = time.monotonic()
        self._next_look = ended + max(WATCH_S, (ended - began) / LOOK_SHARE)

    def got_on(self, job: Job) -> bool:
        """Whether a job that has lost its worker is further than when it last lost one."""
        at = progress_of(self.storage, job)
        reached = at["env_steps"] if at else 0
        further = reached > self._reached.get(job.number, 0)
        self._reached[job.number] = reached
        return further

    def end(self, jobs: Sequence[Job]) -> None:
        """Tell that jobs are done."""
        found = self._readers.map(lambda job: read_done(self.storage, job), jobs)
        for job, about in zip(jobs, found, strict=True):
            self._tell_end(job, about or {})

    def close(self) -> None:
        """Nothing more is read."""
        self._readers.shutdown()

    def _progress(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any] | None]:
        return self._readers.map(lambda job: progress_of(self.storage, job), jobs)

    def _tell_end(self, job: Job, about: Mapping[str, Any]) -> None:
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
