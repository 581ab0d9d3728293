"""How many requests are under way at once. Pauses are some hundredths of a second long."""

import asyncio
import itertools
import math

import pytest

from jaxmoe.collect.pace import FIRST_TRUST, LONGEST_PAUSE_S, Pace


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


class Server:
    """Works on so many requests at once, and refuses more."""

    def __init__(self, capacity):
        self.capacity, self.now, self.most, self.answered, self.refusals = capacity, 0, 0, [], 0

    async def ask(self, pace, name=None):
        """Until there is an answer."""
        again = False
        while True:
            async with pace.turn(again=again):
                if await self._answers():
                    self.answered.append(name)
                    pace.went_well()
                    return
                pace.too_many()
                again = True

    async def asked(self, pace, count):
        await asyncio.gather(*(self.ask(pace, name) for name in range(count)))

    async def _answers(self):
        if self.now >= self.capacity:
            await asyncio.sleep(0)
            self.refusals += 1
            return False
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return True


async def refused(pace, wait_s=None):
    """One that comes and is refused; how long the server is left alone."""
    async with pace.turn():
        return pace.too_many(wait_s)


# ---- how many at once


@pytest.mark.parametrize("capacity", [1, 2, 3, 7])
def test_from_a_crowd_of_refusals_the_capacity_is_read_off(capacity):
    async def run():
        pace, server = Pace(8), Server(capacity)
        asking = asyncio.create_task(server.asked(pace, 8))
        while server.refusals < 8 - capacity:
            await asyncio.sleep(0)
        assert pace.limit == capacity
        assert (pace.refusals, pace.waited_s) == (8 - capacity, 0.0)
        await asking
        assert server.most == capacity

    within_seconds(run())


@pytest.mark.parametrize(("capacity", "most"), [(2, 16), (2, 64), (1, 16), (5, 32)])
def test_few_are_refused_by_a_small_server(capacity, most):
    """The first crowd, and then few: the ceiling is tried again more and more rarely."""

    async def run():
        pace, server = Pace(most, 0.001), Server(capacity)
        await server.asked(pace, 54)
        first = min(most, 54) - capacity
        assert sorted(server.answered) == list(range(54))
        assert first <= server.refusals < first + 12
        if most == 16:
            assert server.refusals < 40

    within_seconds(run())


def test_the_ceiling_is_tried_again_and_rises_with_the_server():
    async def run():
        pace, server = Pace(8), Server(2)
        await server.asked(pace, 40)
        assert pace.limit < 4
        server.capacity = math.inf
        await server.asked(pace, 400)
        assert pace.limit > 7
        assert server.most == 8

    within_seconds(run())


def test_the_ceiling_is_tried_after_twice_as_many_answers_each_time_that_it_holds():
    async def run():
        pace, server, ends = Pace(4), Server(2), []
        await server.asked(pace, 4)
        for _ in range(3):
            before, answers = server.refusals, 0
            while server.refusals == before:
                await server.asked(pace, 4)
                answers += 4
            ends.append(answers)
        assert ends[0] >= FIRST_TRUST
        assert ends[1] >= 2 * FIRST_TRUST
        assert ends[2] >= 4 * FIRST_TRUST

    within_seconds(run())


def test_the_limit_is_at_least_one():
    async def run():
        pace = Pace(5)
        for _ in range(4):
            await refused(pace, 0.001)
            assert pace.limit == 1.0
        crowd = Crowd(pace)
        await crowd.turns(3)
        assert (crowd.most, crowd.done) == (1, 3)

    within_seconds(run())


def test_the_limit_grows_back_by_one_for_as_many_answers_as_are_under_way():
    """Where one was refused while nothing was under way, no ceiling is known."""

    async def run():
        pace = Pace(4)
        await refused(pace, 0.0)
        assert pace.limit == 1
        found = []
        for _ in range(100):
            pace.went_well()
            found.append(pace.limit)
        assert found[:2] == [2.0, 2.5]
        assert found[-1] == 4
        assert all(later - earlier < 1 / earlier + 1e-9 for earlier, later in itertools.pairwise(found))

    within_seconds(run())


def test_troubles_in_a_row_halve_the_limit():
    async def run():
        pace, clock = Pace(8), asyncio.get_running_loop().time
        sent_at = clock()
        pace.trouble(sent_at)
        assert pace.limit == 8  # one by itself says nothing
        await asyncio.sleep(0.001)
        pace.trouble(sent_at)
        assert pace.limit == 4
        pace.trouble(sent_at)  # was sent before the limit was halved
        assert pace.limit == 4
        await asyncio.sleep(0.001)
        for expected in (2, 1, 1):
            pace.trouble(clock())
            assert pace.limit == expected
            await asyncio.sleep(0.001)
        pace.went_well()
        grown = pace.limit
        pace.trouble(clock())
        assert pace.limit == grown

    within_seconds(run())


# ---- in turn


def test_who_was_refused_is_the_next():
    async def run():
        pace, order = Pace(1), []

        async def comes(name, *, again=False):
            async with pace.turn(again=again):
                order.append(name)
                await asyncio.sleep(0)

        async with pace.turn():
            tasks = [asyncio.create_task(comes(name)) for name in ("a", "b", "c")]
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(comes("refused", again=True)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == ["refused", "a", "b", "c"]

    within_seconds(run())


def test_all_come_in_once_nothing_more_is_sent():
    async def run():
        pace, crowd = Pace(2), []
        await refused(pace, 60.0)

        async def sees():
            async with pace.turn():
                crowd.append(None)
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(sees()) for _ in range(20)]
        await asyncio.sleep(0.002)
        assert crowd == []
        pace.open()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(crowd) == 20
        await asyncio.gather(*tasks)
        async with pace.turn():  # who comes later waits neither
            pass

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


# ---- pauses


def test_a_pause_is_kept():
    async def run():
        pace, clock = Pace(4), asyncio.get_running_loop().time
        assert await refused(pace, 0.03) == 0.03
        end = clock() + 0.03
        async with pace.turn() as began:
            assert clock() >= end - 0.001
            assert began == pytest.approx(clock(), abs=0.01)

    within_seconds(run())


def test_a_longer_pause_holds_those_who_wait_already_and_a_shorter_one_takes_nothing_away():
    async def run():
        pace, clock, release = Pace(4), asyncio.get_running_loop().time, asyncio.Event()

        async def refused_after(wait_s):
            async with pace.turn():
                await release.wait()
                pace.too_many(wait_s)

        async def when_begun():
            async with pace.turn():
                return clock()

        waits = [asyncio.create_task(refused_after(wait_s)) for wait_s in (0.01, 0.03, 0.001)]
        await asyncio.sleep(0.001)
        release.set()
        began = clock()
        later = asyncio.create_task(when_begun())
        await asyncio.gather(*waits)
        assert await later >= began + 0.03 - 0.001
        assert 0.029 < pace.waited_s < 0.035  # pauses at the same time are waited for once
        assert pace.refusals == 3

    within_seconds(run())


def test_those_under_way_are_not_held():
    async def run():
        pace, clock = Pace(2), asyncio.get_running_loop().time
        async with pace.turn():
            pace.too_many(10.0)
            began = clock()
            await asyncio.sleep(0)
        assert clock() - began < 1.0

    within_seconds(run())


def test_pauses_double_where_nothing_is_under_way_that_would_make_room():
    async def run():
        pace = Pace(4, first_pause_s=0.001)
        for number in range(5):
            wait_s = await refused(pace)
            assert 0.0005 * 2**number <= wait_s <= 0.001 * 2**number
        pace.went_well()
        assert await refused(pace) <= 0.001
        assert pace.waited_s > 0.0005 * (2**5 - 1)

    within_seconds(run())


def test_no_pause_is_made_while_the_server_works_on_others():
    async def run():
        pace = Pace(4, first_pause_s=60.0)
        async with pace.turn(), pace.turn():
            assert await refused(pace) == 0.0
            assert pace.limit == 2
        async with pace.turn():
            pass
        assert pace.waited_s == 0.0

    within_seconds(run())


@pytest.mark.parametrize("first_pause_s", [30.0, 1e6, 1e300])
def test_a_pause_has_an_end(first_pause_s):
    async def run():
        pace = Pace(4, first_pause_s)
        async with pace.turn():
            for _ in range(2):
                longest = pace.too_many()
        assert LONGEST_PAUSE_S / 2 <= longest <= LONGEST_PAUSE_S

    within_seconds(run())


# ---- ends


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


def test_who_is_cancelled_with_the_place_in_hand_gives_it_back():
    async def run():
        pace = Pace(1)
        async with pace.turn():
            waiter = asyncio.create_task(take(pace))
            await asyncio.sleep(0)
        waiter.cancel()  # the place was given, and it has not begun
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await take(pace)

    async def take(pace):
        async with pace.turn():
            pass

    within_seconds(run())


def test_who_is_cancelled_in_a_pause_leaves_the_others_their_turn():
    async def run():
        pace, crowd = Pace(1), Crowd(Pace(1))
        crowd.pace = pace
        await refused(pace, 0.01)
        tasks = [asyncio.create_task(crowd.turn()) for _ in range(4)]
        await asyncio.sleep(0.001)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (crowd.most, crowd.done) == (1, 2)

    within_seconds(run())
