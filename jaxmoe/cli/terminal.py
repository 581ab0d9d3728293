"""What happens in an experiment, told at a terminal: a moving bar, or plain lines where there is none."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from jaxmoe.cli.output import ERR
from jaxmoe.progress import Display, diverged, duration, reporting

if TYPE_CHECKING:
    from jaxmoe.training.events import (
        Advanced,
        Callback,
        CheckpointSaved,
        Compiled,
        Evaluated,
        Event,
        JobFailed,
        JobFinished,
        JobStarted,
        Noted,
        Planned,
    )

_GRACE_S = 3.0  # s, in which a second Ctrl-C can end the block in the usual way


class Progress(NamedTuple):
    """Where an experiment stands."""

    agents_done: float
    agents: int
    env_steps: int  # of each agent of the job at work
    env_steps_total: int
    env_steps_per_s: float  # of all agents that are trained now
    seconds_left: float
    train_qos: float  # mean over the agents at work
    diverged: int  # agents
    requests: int = 0  # of the evaluation that gave it
    requests_total: int = 0  # of the last evaluation
    jobs: int = 1  # at work

    @property
    def share_done(self) -> float:
        """From 0 to 1."""
        return self.agents_done / max(1, self.agents)

    def __str__(self) -> str:
        at_work = f"{self.env_steps:,} of {self.env_steps_total:,} env steps each"
        if self.jobs > 1:
            at_work = f"{self.jobs} jobs at work"
        return (
            f"{int(self.agents_done):,} of {self.agents:,} agents done ({self.share_done:.0%}), {at_work}, "
            f"{self.env_steps_per_s:,.0f} env steps/s, {qos(self.train_qos, self.requests, self.requests_total)}, "
            f"{duration(self.seconds_left)} left{diverged(self.diverged)}"
        )


def qos(value: float, requests: int, total: int) -> str:
    """Mean QoS on train prompts; where it is that of a part of the requests, of how many.

    >>> qos(0.435, 1024, 8192), qos(0.415, 8192, 8192)
    ('train QoS 0.435 on 1,024 of 8,192 requests', 'train QoS 0.415')
    """
    return f"train QoS {value:.3f}" + (f" on {requests:,} of {total:,} requests" if 0 < requests < total else "")


class _AtWork:
    """A job at work."""

    def __init__(self, rows: int) -> None:
        self.rows, self.at = rows, time.monotonic()
        self.steps = 0.0  # of all its agents
        self.evaluated = False
        self.last: Advanced | None = None  # where it stands


class Teller:
    """Keeps count of events, and tells a display.

    What is left is the training that is to do at the speed of training alone, and the requests of evaluations that are
    to do at theirs; what compiles counts for neither. The first evaluation of a job may compile, and is not timed. Jobs
    that are at work at once share what is left.
    """

    def __init__(self, report: Display, warn: Callable[[str], None] | None = None) -> None:
        self.report, self.warn = report, warn or report.stage
        self.agents, self.done, self.to_do, self.did = 0, 0, 0.0, 0.0
        self.diverged, self.training_s = 0, 0.0
        self.requests_to_do, self.served, self.evaluating_s = 0.0, 0.0, 0.0
        self._at_work: dict[int, _AtWork] = {}

    def __call__(self, event: "Event") -> None:
        """Take an event."""
        handler = getattr(self, f"_on_{type(event).__name__.lower()}", None)
        if handler is not None:
            handler(event)

    def _on_planned(self, event: "Planned") -> None:
        self.agents, self.done, self.to_do = event.agents, event.agents_done, event.env_steps_to_do
        self.requests_to_do = event.requests_to_do
        if event.done:
            self.report.stage(f"{event.done} of {event.jobs} jobs are done from earlier on")

    def _on_jobstarted(self, event: "JobStarted") -> None:
        self._at_work[event.job] = _AtWork(event.rows)
        self.requests_to_do -= event.rows * event.requests_done
        rows = f", {event.rows:,} agents" if "baselines" not in event.what else ""
        self.report.stage(f"job {event.job}: {event.what}{rows}")

    def _on_compiled(self, event: "Compiled") -> None:
        self.report.stage(f"job {event.job}: compiled in {duration(event.seconds)}")
        self._job(event.job, 0).at = time.monotonic()

    def _on_advanced(self, event: "Advanced") -> None:
        if not event.agents:
            return
        job = self._job(event.job, event.agents)
        speed, steps = max(event.env_steps_per_s, 1e-9), float(event.agents * event.env_steps)
        if job.steps and event.env_steps_per_s > 0:
            self.training_s += (steps - job.steps) / speed
            self.did += steps - job.steps
        job.steps, job.at, job.last = steps, time.monotonic(), _with_known(event, job.last)
        self._tell(speed)

    def _tell(self, speed: float) -> None:
        """Where all jobs at work stand together."""
        jobs = [job for job in self._at_work.values() if job.last is not None]
        events = [job.last for job in jobs if job.last is not None]
        average = self.did / self.training_s if self.training_s else speed  # of one job
        left = max(0.0, self.to_do - sum(job.steps for job in jobs))
        known = [each for each in events if each.train_qos == each.train_qos]
        weights = sum(each.agents for each in known)
        self.report.progress(
            Progress(
                self.done + sum(each.env_steps / each.env_steps_total * each.agents for each in events), self.agents,
                events[-1].env_steps, events[-1].env_steps_total, sum(each.env_steps_per_s for each in events),
                left / average / len(events) + self._evaluations_left_s(),
                sum(each.train_qos * each.agents for each in known) / weights if weights else float("nan"),
                self.diverged + sum(each.diverged for each in events),
                min((each.requests for each in known), default=0),
                max((each.requests_total for each in known), default=0),
                len(events),
            )
        )  # fmt: skip

    def _on_evaluated(self, event: "Evaluated") -> None:
        job = self._job(event.job, 0)
        now, served = time.monotonic(), job.rows * event.requests
        if job.evaluated:
            self.evaluating_s += now - job.at
            self.served += served
        job.evaluated, job.at = True, now
        self.requests_to_do = max(0.0, self.requests_to_do - served)
        if event.last:
            self.report.stage(
                f"job {event.job}: trained, train QoS {event.train_qos:.3f} on all {event.requests:,} requests, "
                f"{event.best_qos:.3f} of the best agent"
            )

    def _evaluations_left_s(self) -> float:
        return self.requests_to_do * self.evaluating_s / self.served if self.served else 0.0

    def _on_jobfinished(self, event: "JobFinished") -> None:
        self.done += event.agents
        self.to_do -= self._job(event.job, event.agents).steps
        self.diverged += event.diverged
        self._at_work.pop(event.job)

    def _on_checkpointsaved(self, event: "CheckpointSaved") -> None:
        self._job(event.job, 0).at = time.monotonic()
        self.report.stage(f"job {event.job}: saved at {event.env_steps:,} env steps of each agent")

    def _on_jobfailed(self, event: "JobFailed") -> None:
        self._at_work.pop(event.job, None)
        self.warn(f"job {event.job}, {event.what}, failed: {event.error}")

    def _on_noted(self, event: "Noted") -> None:
        (self.report.stage if event.progress else self.warn)(event.text)

    def _job(self, number: int, rows: int) -> _AtWork:
        return self._at_work.setdefault(number, _AtWork(rows))


def _with_known(event: "Advanced", last: "Advanced | None") -> "Advanced":
    """The event, with the QoS of the one before where it knows none."""
    if last is None or event.train_qos == event.train_qos:
        return event
    return event._replace(train_qos=last.train_qos, requests=last.requests, requests_total=last.requests_total)


@contextmanager
def telling(quiet: bool = False) -> "Iterator[Callback]":
    """A callback that tells standard error how it goes, while the block runs; if quiet, only what goes wrong."""
    with reporting(quiet=quiet) as report, _answering(report):
        yield Teller(report, warn=_warn if quiet else report.stage)


def _warn(text: str) -> None:
    ERR.print(text, soft_wrap=True)


@contextmanager
def _answering(report: Display) -> Iterator[None]:
    """Answer Ctrl-C at once, also where a long compilation lets no handler run; a second one then ends the process.

    Files are written whole or not at all, so that nothing but the work since the last checkpoint is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, signalled = socket.socketpair()
    signalled.setblocking(False)
    over = threading.Event()

    def answer() -> None:
        asked = 0
        with heard:
            while number := heard.recv(1):
                if number[0] not in (signal.SIGINT, signal.SIGTERM):
                    continue
                asked += 1
                if asked == 1:
                    report.stage("stopping as soon as the step at work ends; Ctrl-C again does not wait for it")
                elif not over.wait(_GRACE_S):
                    os._exit(130)

    before = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=answer, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        signalled.close()
        listener.join()
