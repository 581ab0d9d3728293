"""Whether somebody wants the end: a signal, or a time that is up."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopping:
    """Whether somebody wants the end: by a signal, or because the time is up."""

    def __init__(self, time_budget_s: float | None) -> None:
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._signalled, self._warned = threading.Event(), threading.Event()

    @property
    def why(self) -> str:
        """What it was: "interrupted", "time budget", or nothing."""
        if self._signalled.is_set():
            return "interrupted"
        over = self._warned.is_set() or (self._deadline is not None and time.monotonic() > self._deadline)
        return "time budget" if over else ""

    def __call__(self) -> bool:
        """Whether to save and stop."""
        return bool(self.why)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C, a batch system's SIGTERM or a closed terminal ask for the end, which the block must grant soon.

        A second one ends the block at once. SIGUSR1, which SLURM sends before a limit (`--signal=USR1@90`), is as if a
        time budget were over; a second one is heard as well.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ends, warning = ("SIGINT", "SIGTERM", "SIGHUP"), getattr(signal, "SIGUSR1", None)
        before = {number: signal.getsignal(number) for name in ends if (number := getattr(signal, name, None))}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def on_signal(number: int, frame: Any) -> None:
            del frame
            self._signalled.set()
            if number == getattr(signal, "SIGHUP", None):
                signal.signal(number, signal.SIG_IGN)  # the terminal is gone; it comes once for each line
            else:
                restore()

        for number in before:
            if before[number] is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, on_signal)
        deaf = None if warning is None else signal.signal(warning, lambda *_: self._warned.set())
        try:
            yield
        finally:
            restore()
            if warning is not None:
                signal.signal(warning, deaf)
