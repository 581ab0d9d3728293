"""How many requests may be under way at a server: as many as it bears, and none while it asks to wait.

Additive increase, as in the congestion control of Chiu and Jain 1989, doi:10.1016/0169-7552(89)90019-6. Where a server
says that there are too many, those that it still works on are as many as it bears; just above them is a ceiling, which
is tried again after a while, each time that it holds after twice as many good answers. Time-outs and broken
connections, which do not tell how many were too many, halve the crowd where several come in a row.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LONGEST_PAUSE_S = 60.0
FIRST_TRUST = 8  # good answers before a ceiling is tried again, at first
MOST_TRUST = 64


def backoff_s(failures: int, first_s: float) -> float:
    """Pause after so many failures: exponential, with a random part so that who failed together comes back apart."""
    return min(LONGEST_PAUSE_S, first_s * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


class Pace:
    """The limit of one server, between 1 and what the user allows. For one event loop."""

    def __init__(self, most: int, first_pause_s: float = 0.5) -> None:
        """Begin with as many as are allowed."""
        self.most, self.limit = most, float(most)
        self.refusals, self.waited_s = 0, 0.0  # so far: too many requests, and pauses of the whole crowd
        self._first_pause_s = first_pause_s
        self._ceiling, self._trust, self._good, self._held = math.inf, FIRST_TRUST, 0, False
        self._refused_in_a_row, self._troubles = 0, 0  # since the last good answer
        self._shrunk_at = -math.inf  # by the event loop's clock
        self._not_before = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._under_way, self._open = 0, False
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def alone(self) -> bool:
        """Whether no more than one is under way."""
        return self._under_way <= 1

    @asynccontextmanager
    async def turn(self, *, again: bool = False) -> AsyncIterator[float]:
        """Wait for a place, and for the end of a pause; when that was, by the event loop's clock.

        Whoever was refused comes `again` and is the next.
        """
        place = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if again else self._queue.append)(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            self._leave(place)
            raise
        try:
            yield asyncio.get_running_loop().time()
        finally:
            self._under_way -= 1
            self._admit()

    def went_well(self) -> None:
        """After as many answers as are under way, one more may be, up to the ceiling."""
        self._refused_in_a_row, self._troubles, self._good = 0, 0, self._good + 1
        grown = min(float(self.most), self.limit + 1.0 / self.limit)
        if grown >= self._ceiling and self._good >= self._trust:
            self._trust = max(FIRST_TRUST, self._trust // 2) if self._held else self._trust
            self._ceiling, self._good, self._held = self._ceiling + 1, 0, True
        if grown < self._ceiling:
            self.limit = grown
        self._admit()

    def too_many(self, wait_s: float | None = None) -> float:
        """Fewer from now on, called by one that was refused; how long the server is left alone, in seconds.

        A pause is made where the server asks for one, and where it works on nothing that would make room.
        """
        self.refusals += 1
        left = self._under_way - 1
        self._ceiling = min(self._ceiling, left + 1.0) if left else math.inf  # of a pause no ceiling can be read off
        self.limit = max(1.0, min(self.limit, float(left)))
        if self._good or self._held:  # the first of a crowd, which may come before any answer
            self._trust, self._good, self._held = min(MOST_TRUST, 2 * self._trust), 0, False
        if wait_s is None and not left:
            self._refused_in_a_row += 1
            wait_s = backoff_s(self._refused_in_a_row, self._first_pause_s)
        wait_s = wait_s or 0.0
        self._pause(wait_s)
        return wait_s

    def trouble(self, sent_at: float) -> None:
        """Half as many from now on, unless it is the first in a row or was sent before the last halving."""
        self._troubles += 1
        if self._troubles > 1 and sent_at >= self._shrunk_at:
            self.limit, self._shrunk_at = max(1.0, self.limit / 2), asyncio.get_running_loop().time()

    def end_pause(self) -> None:
        """Some of those who wait will not ask: let them see it, and the others try."""
        self._not_before = -math.inf
        self._admit()

    def open(self) -> None:
        """Let all in at once: nothing more is to be sent, and who waits shall see it."""
        self._open = True
        self._admit()

    def _pause(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        if now + seconds > self._not_before:
            self.waited_s += now + seconds - max(now, self._not_before)
            self._not_before = now + seconds

    def _admit(self) -> None:
        """Let in who may go, in turn; come back at the end of a pause."""
        loop = asyncio.get_running_loop()
        while self._queue and (self._open or self._under_way < max(1, int(self.limit))):
            pause_s = self._not_before - loop.time()
            if pause_s > 0 and not self._open:
                self._wake_after(pause_s)
                return
            place = self._queue.popleft()
            if not place.done():
                self._under_way += 1
                place.set_result(None)

    def _wake_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._admit)

    def _leave(self, place: "asyncio.Future[None]") -> None:
        """Whoever is cancelled while waiting gives the place back, if it was given already."""
        if place in self._queue:
            self._queue.remove(place)
        elif place.done() and not place.cancelled():
            self._under_way -= 1
            self._admit()
