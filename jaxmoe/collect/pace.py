"""How many requests may be under way at a server: fewer when it says that they are too many, else slowly more.

Additive increase and multiplicative decrease, as in the congestion control of Chiu and Jain 1989,
doi:10.1016/0169-7552(89)90019-6.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pace:
    """The limit of one server, between 1 and what the user allows."""

    def __init__(self, most: int) -> None:
        """Begin with as many as are allowed."""
        self.most = most
        self.limit = float(most)
        self._under_way = 0
        self._not_before = 0.0  # of the event loop's clock
        self._shrunk_at = -math.inf  # when the limit was last halved
        self._waiting: asyncio.Condition = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a place, and for the end of a pause; when that was, by the event loop's clock."""
        async with self._waiting:
            await self._waiting.wait_for(lambda: self._under_way < max(1, int(self.limit)))
            self._under_way += 1
        try:
            while (pause := self._not_before - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(pause)
            yield asyncio.get_running_loop().time()
        finally:
            self._under_way -= 1
            async with self._waiting:
                self._waiting.notify(max(1, int(self.limit)) - self._under_way)

    def went_well(self) -> None:
        """After as many answers as are under way, one more may be."""
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def too_many(self, pause_s: float, sent_at: float) -> None:
        """Half as many from now on, and none for a while; what was sent before the last halving counts no more."""
        now = asyncio.get_running_loop().time()
        if sent_at >= self._shrunk_at:
            self.limit, self._shrunk_at = max(1.0, self.limit / 2), now
        self._not_before = max(self._not_before, now + pause_s)
