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
    from jaxmoe.training.events import Callback, Event

_GRACE_S = 3.0  # s, in which a second Ctrl-C can end the block in the usual way


class Progress(NamedTuple):
    """Where an experiment stands."""

    agents_done: float
    agents: int
    env_steps: int  # of each agent of the job at work
    env_steps_total: int
    env_steps_per_s: float  # of all agents trained together
    seconds_left: float
    train_qos: float  # mean over the agents at work
    diverged: int  # agents
    requests: int = 0  # of the evaluation that gave it
    requests_total: int = 0  # of the last evaluation

    @property
    def share_done(self) -> float:
        """From 0 to 1."""
        return self.agents_done / max(1, self.agents)

    def __str__(self) -> str:
        return (
            f"{int(self.agents_done):,} of {self.agents:,} agents done ({self.share_done:.0%}), "
            f"{self.env_steps:,} of {self.env_steps_total:,} env steps each, {self.env_steps_per_s:,.0f} env steps/s, "
            f"{qos(self.train_qos, self.requests, self.requests_total)}, {duration(self.seconds_left)} left"
            f"{diverged(self.diverged)}"
        )


def qos(value: float, requests: int, total: int) -> str:
    """Mean QoS on train prompts; where it is that of a part of the requests, of how many.

    >>> qos(0.435, 1024, 8192), qos(0.415, 8192, 8192)
    ('train QoS 0.435 on 1,024 of 8,192 requests', 'train QoS 0.415')
    """
    return f"train QoS {value:.3f}" + (f" on {requests:,} of {total:,} requests" if 0 < requests < total else "")


class Teller:
    """Keeps count of events, and tells a display.

    What is left is the training that is to do at the speed of training alone, and the requests of evaluations that are
    to do at theirs; what compiles counts for neither. The first evaluation of a job may compile, and is not timed.
    """

    def __init__(self, report: Display, warn: Callable[[str], None] | None = None) -> None:
        self.report, self.warn = report, warn or report.stage
        self.agents, self.done, self.to_do, self.did = 0, 0, 0.0, 0.0
        self.diverged, self.training_s = 0, 0.0
        self.requests_to_do, self.served, self.evaluating_s = 0.0, 0.0, 0.0
        self._job_steps, self._rows, self._evaluated, self._at = 0.0, 0, False, time.monotonic()

    def __call__(self, event: "Event") -> None:
        """Take an event."""
        name = type(event).__name__
        handler = getattr(self, f"_on_{name.lower()}", None)
        if handler is not None:
            handler(event)

    def _on_planned(self, event: "Event") -> None:
        self.agents, self.done, self.to_do = event.agents, event.agents_done, event.env_steps_to_do  # type: ignore[union-attr]
        self.requests_to_do = event.requests_to_do  # type: ignore[union-attr]
        if event.done:  # type: ignore[union-attr]
            self.report.stage(f"{event.done} of {event.jobs} jobs are done from earlier on")  # type: ignore[union-attr]

    def _on_jobstarted(self, event: "Event") -> None:
        self._job_steps, self._rows, self._evaluated, self._at = 0.0, event.rows, False, time.monotonic()  # type: ignore[union-attr]
        self.requests_to_do -= event.rows * event.requests_done  # type: ignore[union-attr]
        rows = f", {event.rows:,} agents" if "baselines" not in event.what else ""  # type: ignore[union-attr]
        self.report.stage(f"job {event.job}: {event.what}{rows}")  # type: ignore[union-attr]

    def _on_compiled(self, event: "Event") -> None:
        self.report.stage(f"job {event.job}: compiled in {duration(event.seconds)}")  # type: ignore[union-attr]
        self._at = time.monotonic()

    def _on_advanced(self, event: "Event") -> None:
        if not event.agents:  # type: ignore[union-attr]
            return
        speed = max(event.env_steps_per_s, 1e-9)  # type: ignore[union-attr]
        steps = float(event.agents * event.env_steps)  # type: ignore[union-attr]
        if self._job_steps:
            self.training_s += (steps - self._job_steps) / speed
            self.did += steps - self._job_steps
        self._job_steps, self._at = steps, time.monotonic()
        average = self.did / self.training_s if self.training_s else speed
        share = event.env_steps / event.env_steps_total * event.agents  # type: ignore[union-attr]
        left = max(0.0, self.to_do - steps)
        self.report.progress(
            Progress(
                self.done + share, self.agents, event.env_steps, event.env_steps_total, event.env_steps_per_s,  # type: ignore[union-attr]
                left / average + self._evaluations_left_s(), event.train_qos, self.diverged + event.diverged,  # type: ignore[union-attr]
                event.requests, event.requests_total,  # type: ignore[union-attr]
            )
        )  # fmt: skip

    def _on_evaluated(self, event: "Event") -> None:
        now, served = time.monotonic(), self._rows * event.requests  # type: ignore[union-attr]
        if self._evaluated:
            self.evaluating_s += now - self._at
            self.served += served
        self._evaluated, self._at = True, now
        self.requests_to_do = max(0.0, self.requests_to_do - served)
        if event.last:  # type: ignore[union-attr]
            self.report.stage(
                f"job {event.job}: trained, train QoS {event.train_qos:.3f} on all {event.requests:,} requests, "  # type: ignore[union-attr]
                f"{event.best_qos:.3f} of the best agent"  # type: ignore[union-attr]
            )

    def _evaluations_left_s(self) -> float:
        return self.requests_to_do * self.evaluating_s / self.served if self.served else 0.0

    def _on_jobfinished(self, event: "Event") -> None:
        self.done += event.agents  # type: ignore[union-attr]
        self.to_do -= self._job_steps
        self.diverged += event.diverged  # type: ignore[union-attr]

    def _on_checkpointsaved(self, event: "Event") -> None:
        self._at = time.monotonic()
        self.report.stage(f"job {event.job}: saved at {event.env_steps:,} env steps of each agent")  # type: ignore[union-attr]

    def _on_jobfailed(self, event: "Event") -> None:
        self.warn(f"job {event.job}, {event.what}, failed: {event.error}")  # type: ignore[union-attr]

    def _on_noted(self, event: "Event") -> None:
        (self.report.stage if event.progress else self.warn)(event.text)  # type: ignore[union-attr]


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
