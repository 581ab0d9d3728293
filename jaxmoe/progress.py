"""How a long run tells a person where it stands: a moving bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from jaxmoe.names import visible


class Terminal(Console):
    """Where commands print: texts come from data, and hold neither markup nor anything that moves a cursor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts with every character visible; what rich draws itself is as rich draws it."""
        super().print(*(visible(each, keep="\n\t") if isinstance(each, str) else each for each in objects), **options)


class Standing(Protocol):
    """Where a long run stands, for a bar and for a reader."""

    @property
    def share_done(self) -> float:
        """From 0 to 1."""

    def __str__(self) -> str:
        """One line."""


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(59.4), duration(61), duration(7260)
    ('59 s', '1 min 1 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes as a person says them.

    >>> size(512), size(3 * 2**20)
    ('512 B', '3.0 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class Display(NamedTuple):
    """Who is told how a long run goes."""

    stage: Callable[[str], None]  # what is being done now
    progress: Callable[[Standing], None]


LINES_APART_S = 5.0  # s, at least, between two lines of progress

SILENT = Display(stage=lambda _: None, progress=lambda _: None)


@contextmanager
def reporting(console: Console | None = None, *, quiet: bool = False) -> Iterator[Display]:
    """A display that writes to standard error while the block runs, or nothing at all."""
    if quiet:
        yield SILENT
        return
    console = console or Terminal(stderr=True)
    with _bar(console) if console.is_terminal else _lines(console) as report:
        yield report


@contextmanager
def _lines(console: Console) -> Iterator[Display]:
    began, told = time.monotonic(), -math.inf

    def line(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", soft_wrap=True)

    def progress(at: Standing) -> None:
        nonlocal told
        if at.share_done >= 1 or time.monotonic() - told >= LINES_APART_S:
            told = time.monotonic()
            line(str(at))

    yield Display(stage=line, progress=progress)


@contextmanager
def _bar(console: Console) -> Iterator[Display]:
    with Bar(TextColumn("{task.description}", markup=False), BarColumn(20), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(at: Standing) -> None:
            bar.update(task, description=visible(str(at)), total=1.0, completed=at.share_done)

        yield Display(stage=lambda text: bar.update(task, description=visible(text)), progress=progress)


def diverged(agents: int) -> str:
    """What is said of agents that diverged; nothing of none."""
    return f", {agents} diverged" if agents else ""
