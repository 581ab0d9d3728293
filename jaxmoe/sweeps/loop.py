"""The loop around the engine: when agents are evaluated, how fast they learn, and how a signal ends it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.agents.algorithm import Clock
from jaxmoe.intervals import Tally
from jaxmoe.sweeps.engine import Block, Engine

STRETCH_S = 2.0  # s, about as long the host lets the devices alone


def evaluation_times(iterations: int, evaluations: int) -> list[int]:
    """Iterations after which agents are evaluated: so often at equal distances, and before the first after 1, 2, 4, ...

    What is simple is learned at once; equal distances alone would not show how.

    >>> evaluation_times(100, 5)
    [1, 2, 4, 8, 16, 20, 40, 60, 80, 100]
    """
    even = {-(-iterations * part // evaluations) for part in range(1, evaluations + 1)}
    doubling = {2**power for power in range(iterations.bit_length()) if 2**power < min(even)}
    return sorted(even | doubling)


class Pace:
    """How fast a program's agents advance, in environment steps; what compiles is not counted, if there is more."""

    def __init__(self) -> None:
        self.env_steps_per_s = float("nan")  # of the last stretch, all agents together
        self._speeds: list[float] = []
        self._seconds = 0.0  # of an iteration of the last stretch
        self._stretches = 0

    def note(self, env_steps: int, iterations: int, seconds: float) -> None:
        """Keep the time of a stretch."""
        self.env_steps_per_s = env_steps / seconds
        self._stretches += 1
        before = self._speeds if self._stretches > 2 else []  # the first has compiled
        self._speeds, self._seconds = [*before, self.env_steps_per_s], seconds / iterations

    def next_length(self, length: int) -> int:
        """Iterations of the next stretch after one of this length: about `STRETCH_S`, at most twice as many."""
        return max(1, min(2 * length, int(STRETCH_S / self._seconds)))

    def median(self) -> float:
        """Environment steps per second of all agents."""
        return float(np.median(self._speeds))


class Trainer:
    """The agents of an engine in a training run of so many iterations, and how far they are."""

    def __init__(self, engine: Engine, iterations: int, pace: Pace) -> None:
        self.engine, self.iterations, self.pace = engine, iterations, pace
        self.blocks: list[Block] = engine.init()
        self.reached = 0  # iterations
        self.measured = 0  # the iteration at which the metrics were taken last
        self._length = 1  # iterations of the next stretch

    @property
    def env_steps(self) -> int:
        """Environment steps of each agent so far."""
        return self.reached * self.engine.env_steps

    def advance_to(self, end: int) -> Iterator[None]:
        """Train until an iteration, and let the host look after each stretch."""
        while self.reached < end:
            length = min(self._length, end - self.reached)
            began = time.monotonic()
            clock = Clock(jnp.int32(self.reached), jnp.int32(self.iterations))
            self.blocks = self.engine.advance(self.blocks, clock, length)
            jax.block_until_ready([block.totals for block in self.blocks])
            env_steps = length * self.engine.env_steps * self.engine.agents
            self.pace.note(env_steps, length, time.monotonic() - began)
            self.reached += length
            self._length = self.pace.next_length(length)
            yield

    def take_metrics(self) -> dict[str, np.ndarray]:
        """Means of the metrics since they were taken last, one number per agent."""
        self.blocks, metrics = self.engine.metrics(self.blocks, self.reached - self.measured)
        self.measured = self.reached
        return metrics


def curve_rows(
    who: Mapping[str, Sequence[int]],
    env_steps: int,
    metrics: Mapping[str, np.ndarray],
    tallies: Mapping[str, Tally],
) -> pd.DataFrame:
    """One row per agent: mean training metrics since the last evaluation, QoS of the greedy policy per split."""
    columns: dict[str, Any] = {**who, "env_steps": env_steps, **metrics}
    for split, tally in tallies.items():
        columns[f"{split}_qos"] = mean_qos(tally)
    return pd.DataFrame(columns)


def mean_qos(tally: Tally) -> np.ndarray:
    """Mean QoS of each row of a tally."""
    return tally.sums[:, :, 0].sum(axis=1) / tally.counts.sum(axis=1)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, or the SIGTERM of a batch system, ask for the end, which the block must grant soon.

    A second one ends the block at once.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: Any) -> None:
        del number, frame
        requested.set()
        restore()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield requested.is_set
    finally:
        restore()
