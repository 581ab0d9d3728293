"""How a long run tells a person where it stands: a moving bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar


class Progress(NamedTuple):
    """Where a training run stands."""

    env_steps: int  # of one agent
    env_steps_total: int  # of one agent
    agents: int
    seconds: float  # since training began, compilation included
    env_steps_per_s: float  # of all agents, in the last segment
    train_qos: float  # mean over agents
    diverged: int  # agents

    @property
    def seconds_left(self) -> float:
        """Expected from the speed of the last segment."""
        return (self.env_steps_total - self.env_steps) * self.agents / self.env_steps_per_s


class Reporter(NamedTuple):
    """Who is told how a long run goes."""

    stage: Callable[[str], None]  # what is being done now
    progress: Callable[[Progress], None]


SILENT = Reporter(stage=lambda _: None, progress=lambda _: None)


@contextmanager
def reporting(console: Console | None = None) -> Iterator[Reporter]:
    """A reporter that writes to standard error while the block runs."""
    console = console or Console(stderr=True, highlight=False)
    with _bar(console) if console.is_terminal else _lines(console) as report:
        yield report


@contextmanager
def _lines(console: Console) -> Iterator[Reporter]:
    began = time.monotonic()

    def line(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", soft_wrap=True)

    yield Reporter(stage=line, progress=lambda at: line(_summary(at)))


@contextmanager
def _bar(console: Console) -> Iterator[Reporter]:
    with Bar(TextColumn("{task.description}"), BarColumn(20), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(at: Progress) -> None:
            bar.update(task, description=_summary(at), total=at.env_steps_total, completed=at.env_steps)

        yield Reporter(stage=lambda text: bar.update(task, description=text), progress=progress)


def _summary(at: Progress) -> str:
    diverged = f", {at.diverged} diverged" if at.diverged else ""
    return (
        f"{at.agents} agents, {at.env_steps:,} of {at.env_steps_total:,} env steps each, "
        f"{at.env_steps_per_s:,.0f} env steps/s, train QoS {at.train_qos:.3f}, {at.seconds_left:.0f} s left{diverged}"
    )
