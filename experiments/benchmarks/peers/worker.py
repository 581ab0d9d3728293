"""The protocol between driver and worker, and what a worker measures of itself.

A worker is given its task and, where its contender has several, its form as arguments. It reads commands from stdin,
one a line, and answers each with one line of JSON on stdout.
"""

import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable

import jax

from peers.machine import timed
from peers.tasks import Task

Command = Callable[[], dict[str, float]]


def task() -> Task:
    """What this worker is to do."""
    return Task(**json.loads(sys.argv[1]))


def form() -> str:
    """Which form of its contender this worker is."""
    return sys.argv[2]


def serve(packages: tuple[str, ...], commands: dict[str, Command]) -> None:
    """Say the versions of the packages, then time commands until stdin ends.

    A command returns only once its work is done, and says in `env_steps` how many environment steps that was.
    """
    compiling: list[tuple[float, float]] = []

    def listen(event: str, seconds: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            compiling.append((time.perf_counter() - seconds, time.perf_counter()))

    jax.monitoring.register_event_duration_secs_listener(listen)
    _say({name: importlib.metadata.version(name) for name in packages})
    for line in sys.stdin:
        result, times = timed(commands[line.strip()])
        _say({**result, **times, "compile_s": covered(compiling), "peak_mib": _peak_mib(), **_device_peak()})


def covered(spans: list[tuple[float, float]]) -> float:
    """Time covered by spans, which may lie within each other: tracing a function traces those it calls.

    >>> covered([(1.0, 2.0), (0.0, 3.0), (5.0, 6.0)])
    4.0
    """
    total, end = 0.0, float("-inf")
    for begin, until in sorted(spans):
        total += max(0.0, until - max(begin, end))
        end = max(end, until)
    return total


def _peak_mib() -> float:
    """Largest resident set so far; Linux counts it in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _device_peak() -> dict[str, float]:
    """Largest memory in use so far of the first device that says it, in MiB; a CPU does not."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return {"device_mib": stats["peak_bytes_in_use"] / 2**20} if "peak_bytes_in_use" in stats else {}


def _say(what: dict[str, float] | dict[str, str]) -> None:
    print(json.dumps(what), flush=True)
