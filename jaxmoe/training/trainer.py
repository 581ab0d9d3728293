"""The loop around the program: how far agents are, in which phase of their schedules, and how fast they learn."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.training.program import Batch, Engine

SEGMENT_S = 2.0  # s, about as long the host lets the devices alone


def evaluation_times(iterations: int, evaluations: int) -> list[int]:
    """Iterations after which agents are evaluated: so often at equal distances, and before the first after 1, 2, 4, ...

    What is simple is learned at once; equal distances alone would not show how.

    >>> evaluation_times(100, 5)
    [1, 2, 4, 8, 16, 20, 40, 60, 80, 100]
    """
    even = {-(-iterations * part // evaluations) for part in range(1, evaluations + 1)}
    doubling = {2**power for power in range(iterations.bit_length()) if 2**power < min(even)}
    return sorted(even | doubling)


class Leg(NamedTuple):
    """A phase in iterations: until when, and over which of them schedules run."""

    engine: Engine  # with the hyperparameters of this phase
    end: int
    schedule_begin: int
    schedule_length: int


class Pace:
    """How fast a program's agents advance, in environment steps; what compiles is not counted, if there is more."""

    def __init__(self) -> None:
        self.env_steps_per_s = float("nan")  # of the last segment, all agents together
        self._speeds: list[float] = []
        self._seconds = 0.0  # of an iteration of the last segment
        self.segments = 0

    def note(self, env_steps: int, iterations: int, seconds: float) -> None:
        """Keep the time of a segment."""
        self.env_steps_per_s = env_steps / seconds
        self.segments += 1
        before = self._speeds if self.segments > 2 else []  # the first has compiled
        self._speeds, self._seconds = [*before, self.env_steps_per_s], seconds / iterations

    def next_length(self, length: int) -> int:
        """Iterations of the next segment after one of this length: about `SEGMENT_S`, at most twice as many."""
        return max(1, min(2 * length, int(SEGMENT_S / self._seconds)))

    def median(self) -> float:
        """Environment steps per second of all agents; 0 where nothing was trained."""
        return float(np.median(self._speeds)) if self._speeds else 0.0


class Trainer:
    """Agents in training, and how far they are."""

    def __init__(self, legs: list[Leg]) -> None:
        self.legs, self.pace = legs, Pace()
        self.engine = legs[0].engine
        self.batches: list[Batch] = []  # once they are made, or restored
        self.reached = 0  # iterations
        self.measured = 0  # the iteration at which the metrics were taken last
        self._length = 1  # iterations of the next segment

    @property
    def iterations(self) -> int:
        """Of the whole training."""
        return self.legs[-1].end

    @property
    def env_steps(self) -> int:
        """Environment steps of each agent so far."""
        return self.reached * self.engine.env_steps

    def look(self, qos: np.ndarray, counts: bool) -> None:
        """Let an evaluation decide whose policy is kept, and who stops; it counts towards a plateau, or does not."""
        if self.engine.keeping.looks:
            self.batches = self.engine.look(self.batches, qos, self.reached, counts)

    @property
    def over(self) -> bool:
        """Whether every agent has stopped."""
        return bool(self.engine.stopped(self.batches).all())

    def advance_to(self, end: int, meanwhile: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
        """Train until an iteration, and let the host look after each segment.

        Args:
            end: the iteration.
            meanwhile: called once a segment is queued; it ends what the devices were given before, and returns when
                they were free.
        """
        learning = int((~self.engine.stopped(self.batches)).sum())
        while self.reached < end:
            leg = next(leg for leg in self.legs if self.reached < leg.end)
            length = min(self._length, end - self.reached, leg.end - self.reached)
            began = time.monotonic()
            numbers = (self.reached, leg.schedule_length, leg.schedule_begin)
            self.batches = leg.engine.advance(self.batches, Clock(*map(jnp.int32, numbers)), length)
            began = max(began, meanwhile())
            jax.block_until_ready([batch.totals for batch in self.batches])
            env_steps = length * self.engine.env_steps * learning
            self.pace.note(env_steps, length, time.monotonic() - began)
            self.reached += length
            self._length = self.pace.next_length(length)
            yield

    def take_metrics(self) -> dict[str, np.ndarray]:
        """Means of the metrics since they were taken last, one number per agent."""
        self.batches, metrics = self.engine.metrics(self.batches)
        self.measured = self.reached
        return metrics
