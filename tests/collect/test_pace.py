"""How many requests are under way at once. Pauses are some hundredths of a second long."""

import asyncio

import pytest

from jaxmoe.collect.pace import Pace


def within_seconds(work):
    """Run a coroutine; a place that nobody gets back is a failure, not a wait."""
    asyncio.run(asyncio.wait_for(work, 5.0))


class Crowd:
    """Takes turns and counts how many there are at once."""

    def __init__(self, pace):
        self.pace, self.now, self.most, self.done = pace, 0, 0, 0

    async def turn(self):
        async with self.pace.turn():
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            self.done += 1

    async def turns(self, count):
        await asyncio.gather(*(self.turn() for _ in range(count)))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_as_many_as_allowed_and_never_more(most):
    crowd = Crowd(Pace(most))
    within_seconds(crowd.turns(20))
    assert (crowd.most, crowd.done) == (most, 20)


def test_a_crowd_of_refusals_halves_the_limit_once():
    async def run():
        pace, crowd = Pace(8), []

        async def refused():
            async with pace.turn() as sent_at:
                crowd.append(None)
                await asyncio.sleep(0.002)
                pace.too_many(0.02, sent_at)

        await asyncio.gather(*(refused() for _ in range(8)))
        assert len(crowd) == 8
        assert pace.limit == 4
        later = Crowd(pace)
        await later.turns(12)
        assert (later.most, later.done) == (4, 12)

    within_seconds(run())


def test_the_limit_ends_at_one():
    async def run():
        pace, found = Pace(5), []
        for _ in range(4):
            pace.too_many(0.001, asyncio.get_running_loop().time())
            found.append(pace.limit)
            await asyncio.sleep(0.003)
        assert found == [2.5, 1.25, 1.0, 1.0]
        crowd = Crowd(pace)
        await crowd.turns(3)
        assert (crowd.most, crowd.done) == (1, 3)

    within_seconds(run())


def test_the_limit_grows_back_by_one_for_as_many_answers_as_are_under_way():
    async def run():
        pace = Pace(4)
        pace.too_many(0.0, asyncio.get_running_loop().time())
        assert pace.limit == 2
        pace.went_well()
        assert pace.limit == 2.5
        for _ in range(100):
            pace.went_well()
        assert pace.limit == 4

    within_seconds(run())


def test_those_who_wait_come_in_when_the_limit_grows():
    async def run():
        pace = Pace(4)
        pace.limit = 1.0
        crowd = Crowd(pace)

        async def well():
            await crowd.turn()
            pace.went_well()

        await asyncio.gather(*(well() for _ in range(30)))
        assert (crowd.most, crowd.done) == (4, 30)

    within_seconds(run())


def test_a_pause_is_kept():
    async def run():
        pace, clock = Pace(4), asyncio.get_running_loop().time
        pace.too_many(0.03, asyncio.get_running_loop().time())
        end = clock() + 0.03
        async with pace.turn():
            assert clock() >= end - 0.001

    within_seconds(run())


def test_a_longer_pause_holds_those_who_wait_already_and_a_shorter_one_takes_nothing_away():
    async def run():
        pace, clock = Pace(4), asyncio.get_running_loop().time
        pace.too_many(0.01, asyncio.get_running_loop().time())
        began = asyncio.create_task(when_begun(pace))
        await asyncio.sleep(0.002)
        pace.too_many(0.03, asyncio.get_running_loop().time())
        end = clock() + 0.03
        pace.too_many(0.001, asyncio.get_running_loop().time())
        assert await began >= end - 0.001

    async def when_begun(pace):
        async with pace.turn():
            return asyncio.get_running_loop().time()

    within_seconds(run())


def test_those_under_way_are_not_held():
    async def run():
        pace, clock = Pace(2), asyncio.get_running_loop().time
        async with pace.turn():
            pace.too_many(10.0, asyncio.get_running_loop().time())
            began = clock()
            await asyncio.sleep(0)
        assert clock() - began < 1.0

    within_seconds(run())


def test_who_fails_or_is_cancelled_gives_the_place_back():
    async def run():
        pace = Pace(1)
        with pytest.raises(ValueError, match="broken"):
            async with pace.turn():
                raise ValueError("broken")
        holder = asyncio.create_task(hold(pace))
        waiter = asyncio.create_task(hold(pace))
        await asyncio.sleep(0.001)
        for task in (waiter, holder):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with pace.turn():
            pass

    async def hold(pace):
        async with pace.turn():
            await asyncio.sleep(60)

    within_seconds(run())
