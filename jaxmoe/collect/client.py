"""Asking until there is an answer, within the user's limits, and nothing twice.

Only what may pass is tried again: errors of the server, time-outs, broken connections, replies that are no completion,
each a few times; a server that is crowded, or loads its model, as long as the user's patience lasts. A refusal is
adapted to where it names what can change. A cut text or a wrong form is an answer, and is recorded as what it is. A
wrong key, an unknown model, a wrong address and a used-up account end the run.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from jaxmoe.collect import reasons
from jaxmoe.collect.answers import ReplyError
from jaxmoe.collect.budget import Budget, LimitError
from jaxmoe.collect.completions import RetryError, StrangeError
from jaxmoe.collect.dialects import OWN, Dialect, probe
from jaxmoe.collect.exchange import CrowdedError, Exchange, RefusedError, TroubleError, UnreachableError
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.pace import Pace, backoff_s
from jaxmoe.collect.requests import (
    ANSWERED,
    DONE,
    FAILED,
    INVALID,
    LENGTH,
    NOT_ASKED,
    REFUSED,
    Answer,
    Endpoint,
    Request,
)
from jaxmoe.collect.servers import Address, split_version
from jaxmoe.errors import InputError
from jaxmoe.progress import SILENT, Display, duration

SAID_APART_S = 5.0  # between two sentences on the same crowded model


class Limits(NamedTuple):
    """What the user allows."""

    concurrency: int = 16  # requests under way at a server
    attempts: int = 6  # of a request, the first included; waiting for a crowded server is none
    timeout_s: float = 120.0  # of an attempt
    first_pause_s: float = 0.5  # before the second attempt, doubled before each further one
    patience_s: float = 600.0  # that a model is waited for whose server is crowded and answers nothing


@dataclass
class _Tries:
    """What became of a request so far."""

    made: int  # attempts, in earlier runs too
    spent_usd: float | None
    reserved_usd: float | None = None  # what the attempt under way can cost at most
    failures: int = 0  # that count against the limit of attempts
    reason: str = ""  # of the last attempt that came to nothing
    pause_s: float = 0.0  # before the next one
    began: float = 0.0  # by the clock of `time.monotonic`
    first_in_turn: bool = False  # whether it goes before all that wait
    refused_at: float = math.inf  # when the server was last too busy for it
    passed_over: int = 0  # times that it was refused again although others had been answered


@dataclass
class _Crowd:
    """Since when a model has given no answer because its server was crowded, and what was said."""

    since: float | None = None
    answered_at: float = -math.inf
    said_at: float = -math.inf
    reason: str = ""


class Client:
    """Asks what the journal does not know, within the limits."""

    def __init__(
        self,
        journal: Journal,
        budget: Budget,
        limits: Limits,
        address_of: Callable[[str], Address],
        report: Display = SILENT,
    ) -> None:
        """`address_of` says where the server of an endpoint is, and its key."""
        self.stopped: Exception | None = None  # `LimitError` or `InputError`: nothing more is sent
        self.given_up: dict[Endpoint | str, str] = {}  # models, or servers by base URL, that are asked no more, and why
        self._journal, self._budget, self._limits, self._report = journal, budget, limits, report
        self._exchange = Exchange(address_of, limits.timeout_s)
        self._paces: dict[str, Pace] = {}
        self._crowds: dict[Endpoint, _Crowd] = {}
        self._heard_at: dict[str, float] = {}  # by server: when it last answered anything at all
        self._dialects: dict[Endpoint, Dialect] = {}
        self._probing: dict[Endpoint, asyncio.Lock] = {}
        self._tried: set[Endpoint] = set()  # endpoints that were probed in this run
        self._under_way: dict[str, asyncio.Future[Answer]] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._exchange.close()

    @property
    def secrets(self) -> set[str]:
        """Keys and passwords in use; the set grows with the servers that are asked."""
        return self._exchange.secrets

    @property
    def concurrency(self) -> int:
        """Requests that may be under way now, at all servers."""
        return sum(int(pace.limit) for pace in self._paces.values())

    def notes(self) -> Iterator[str]:
        """Which models were given up, which servers were crowded, and what was refused."""
        for where, why in self.given_up.items():
            yield f"no longer asked in this run: {where}: {why}"
        for base_url, pace in self._paces.items():
            if pace.refusals:
                said = next((crowd.reason for at, crowd in self._crowds.items() if at.base_url == base_url), "")
                waited = f"left alone for {duration(pace.waited_s)} in all"
                yield f"{base_url} was too busy {pace.refusals} times and was {waited} ({said})"
        for endpoint, dialect in self._dialects.items():
            if refused := [name for name in dialect.without if name != "stream_options"]:
                yield f"{endpoint} refuses {', '.join(refused)}: it was asked without"

    async def ask(self, request: Request) -> Answer:
        """The answer, from the journal or from the server; two requests with the same key are sent once."""
        if found := self._journal.answered(request.key):
            return understood(request, found)
        if request.key in self._under_way:
            return await asyncio.shield(self._under_way[request.key])
        if self._is_over(request.endpoint):
            return NOT_ASKED
        future = self._under_way[request.key] = asyncio.get_running_loop().create_future()
        try:
            if request.structure is not None:
                await self._probed(request)
            answer = await self._attempts(request)
            future.set_result(answer)
            return answer
        finally:
            del self._under_way[request.key]
            future.cancel()

    async def _attempts(self, request: Request) -> Answer:
        """Ask until there is an answer, the attempts are used up, or nothing may be sent any more."""
        before = self._journal.answer(request.key) or replace(NOT_ASKED, cost_usd=0.0)
        tries = _Tries(before.attempts, before.cost_usd, began=time.monotonic())
        pace = self._paces.setdefault(
            request.endpoint.base_url, Pace(self._limits.concurrency, self._limits.first_pause_s)
        )
        while tries.failures < self._limits.attempts and not self._is_over(request.endpoint):
            async with pace.turn(again=tries.first_in_turn) as sent_at:
                if self._is_over(request.endpoint) or not self._within_limits(request, tries):
                    break
                if answer := await self._attempt(request, tries, pace, sent_at):
                    return self._settled(request, answer)
            if tries.pause_s and tries.failures < self._limits.attempts and not self._is_over(request.endpoint):
                await asyncio.sleep(tries.pause_s)
        if not tries.reason:
            return NOT_ASKED
        return self._settled(request, Answer(FAILED, error=tries.reason, attempts=tries.made, cost_usd=tries.spent_usd))

    async def _attempt(self, request: Request, tries: _Tries, pace: Pace, sent_at: float) -> Answer | None:
        """Send once, what it can cost at most being reserved; the answer, or None and a reason."""
        dialect = self._dialect(request.endpoint)
        tries.made, tries.pause_s, tries.first_in_turn = tries.made + 1, 0.0, True
        self._journal.ask(request, _sum(tries.spent_usd, tries.reserved_usd), tries.made)
        answer, unpaid = None, True
        try:
            answer = await self._exchange.send(request, dialect)
        except CrowdedError as crowded:
            self._after_crowding(request.endpoint, pace, crowded, tries)
        except RefusedError as refused:
            answer = self._after_refusal(request, dialect, refused, tries)
        except RetryError as broken:
            unpaid = broken.unpaid
            self._after_failure(request.endpoint, pace, broken, tries, sent_at)
        except InputError as error:
            tries.reason = str(error)
            self._stop(error)
        if answer is None:
            self._settle_cost(tries, 0.0 if unpaid else tries.reserved_usd)
            return None
        self._heard(request.endpoint)
        pace.went_well()
        spent = self._budget.cost_usd(request, answer.prompt_tokens, answer.completion_tokens)
        self._settle_cost(tries, spent)
        return understood(request, replace(answer, attempts=tries.made, cost_usd=tries.spent_usd))

    def _after_refusal(self, request: Request, dialect: Dialect, refused: RefusedError, tries: _Tries) -> Answer | None:
        """Ask in another way if the reason names one; else there is no answer, or it is an error that may pass."""
        where, tries.reason = request.endpoint, str(refused)
        self._heard_at[where.base_url] = time.monotonic()
        if refused.meaning == reasons.FILTERED:
            return Answer(REFUSED, error=tries.reason, prompt_tokens=0, completion_tokens=0)
        current = self._dialect(where)  # another request may have found out meanwhile
        adapted = current if current != dialect else dialect.adapted(refused.reason, request)
        if adapted is not None:
            self._learn(where, adapted)
            return None
        if refused.last is not None:
            tries.reason = str(refused.last)
            self._stop(refused.last)
            return None
        if refused.meaning == reasons.REFUSED:
            return Answer(FAILED, error=tries.reason, prompt_tokens=0, completion_tokens=0)
        self._failed(tries)
        return None

    def _after_failure(self, endpoint: Endpoint, pace: Pace, broken: RetryError, tries: _Tries, sent_at: float) -> None:
        """Try again later; a server that was not reached once in all attempts is given up."""
        is_strange = isinstance(broken, StrangeError)  # which seldom passes: two failures in one
        tries.reason = str(broken)
        self._failed(tries, 1 + is_strange)
        if isinstance(broken, TroubleError):
            pace.trouble(sent_at)
        if not isinstance(broken, UnreachableError | StrangeError):
            self._heard_at[endpoint.base_url] = time.monotonic()
        elif tries.failures >= self._limits.attempts and self._heard_at.get(endpoint.base_url, -1.0) < tries.began:
            place = split_version(endpoint.base_url)[0]
            advice = f"; is a server running at {place}, and is the base URL right?"
            self._give_up(*((endpoint, str(broken)) if is_strange else (endpoint.base_url, f"{broken}{advice}")))

    def _after_crowding(self, endpoint: Endpoint, pace: Pace, crowded: CrowdedError, tries: _Tries) -> None:
        """Leave the server alone for a while, and give the model up when patience ends.

        A request that is refused while nothing else is under way lets others go before it, which may be answered; one
        that is refused again although others were answered waits by itself: it is not the crowd.
        """
        now, patience_s, wait_s = time.monotonic(), self._limits.patience_s, crowded.wait_s
        self._heard_at[endpoint.base_url] = now
        crowd = self._crowds.setdefault(endpoint, _Crowd())
        crowd.since, crowd.reason = now if crowd.since is None else crowd.since, str(crowded)
        tries.reason, tries.passed_over = str(crowded), tries.passed_over + (crowd.answered_at > tries.refused_at)
        tries.refused_at, tries.first_in_turn = now, not pace.alone
        if wait_s is not None and wait_s > patience_s:
            asked = f"{duration(wait_s)} ({wait_s:,.0f} s)"
            self._give_up(endpoint, f"it asks to wait for {asked}, and --patience is {patience_s:g} s ({crowded})")
            return
        if tries.passed_over > 1 and wait_s is None:
            tries.first_in_turn = False
            tries.pause_s = backoff_s(tries.passed_over, self._limits.first_pause_s)
            if now - tries.began > patience_s:
                tries.failures = self._limits.attempts
            return
        paused_s = pace.too_many(wait_s)
        if now - crowd.since + paused_s > patience_s:
            busy = f"too busy for {duration(now - crowd.since)} without an answer"
            self._give_up(endpoint, f"{busy}, and --patience is {patience_s:g} s ({crowded})")
        elif now - crowd.said_at >= SAID_APART_S:
            crowd.said_at = now
            pause = f", the next one in {duration(paused_s)}" if paused_s >= 1 else ""
            self._report.stage(f"{endpoint} is too busy ({crowded}): {int(pace.limit)} at once{pause}")

    def _heard(self, endpoint: Endpoint) -> None:
        """The model has answered: its server is there, and is not too busy."""
        now = self._heard_at[endpoint.base_url] = time.monotonic()
        if endpoint in self._crowds:
            self._crowds[endpoint].since, self._crowds[endpoint].answered_at = None, now

    def _give_up(self, where: Endpoint | str, why: str) -> None:
        """Ask this model, or all of this server, no more in this run."""
        if where not in self.given_up:
            self.given_up[where] = why
            self._paces[where.base_url if isinstance(where, Endpoint) else where].end_pause()
            self._report.stage(f"no longer asked in this run: {where}: {why}")

    def _is_over(self, endpoint: Endpoint) -> bool:
        return self.stopped is not None or endpoint in self.given_up or endpoint.base_url in self.given_up

    def _stop(self, error: Exception) -> None:
        """Send nothing more; the first reason is the one that is told."""
        if self.stopped is None:
            self.stopped = error
        for pace in self._paces.values():
            pace.open()

    def _within_limits(self, request: Request, tries: _Tries) -> bool:
        """Reserve what an attempt can cost at most; where a limit is reached, nothing more is sent."""
        try:
            tries.reserved_usd = self._budget.reserve(request)
        except LimitError as limit:
            self._stop(limit)
            return False
        return True

    def _settle_cost(self, tries: _Tries, cost_usd: float | None) -> None:
        self._budget.settle(tries.reserved_usd, cost_usd)
        tries.spent_usd = _sum(tries.spent_usd, cost_usd)

    async def _probed(self, request: Request) -> None:
        """Find out, once, how an endpoint gives structured answers."""
        endpoint = request.endpoint
        async with self._probing.setdefault(endpoint, asyncio.Lock()):
            if self._dialect(endpoint).probed or endpoint in self._tried or self._is_over(endpoint):
                return
            self._tried.add(endpoint)  # where it is not found out, the next run tries again
            asked = probe(endpoint, {name: value for name, value in request.parameters.items() if name not in OWN})
            answer = await self._attempts(asked)
            while answer.status in (REFUSED, INVALID) and (lower := self._dialect(endpoint).lower()):
                self._learn(endpoint, lower)
                answer = await self._attempts(asked)
            if answer.status in ANSWERED:
                self._learn(endpoint, self._dialect(endpoint)._replace(probed=True))

    def _dialect(self, endpoint: Endpoint) -> Dialect:
        """As far as it is known, in this run or from an earlier one."""
        if endpoint not in self._dialects and (known := self._journal.dialect(endpoint)):
            fields = {name: value for name, value in known.items() if name in Dialect._fields}
            self._dialects[endpoint] = Dialect(**{"probed": True, **fields, "without": tuple(fields["without"])})
        return self._dialects.get(endpoint, Dialect())

    def _learn(self, endpoint: Endpoint, dialect: Dialect) -> None:
        self._dialects[endpoint] = dialect
        self._journal.put_dialect(endpoint, dialect._asdict())

    def _settled(self, request: Request, answer: Answer) -> Answer:
        answer = replace(answer, answered_at=datetime.now(UTC).isoformat(timespec="seconds"))
        self._journal.settle(request.key, answer)
        return answer

    def _failed(self, tries: _Tries, count: int = 1) -> None:
        """Come back later, behind those who wait."""
        tries.failures, tries.first_in_turn = tries.failures + count, False
        tries.pause_s = backoff_s(tries.failures, self._limits.first_pause_s)


def understood(request: Request, answer: Answer) -> Answer:
    """The answer with what it says, if it is structured; invalid if that is not what was asked for."""
    if request.structure is None or answer.status not in (DONE, LENGTH):
        return answer
    if answer.status == LENGTH and request.stage == "judge":
        cut = f"the judgement was cut at the limit of tokens ({request.parameters['max_tokens']})"
        return replace(answer, status=INVALID, error=cut)
    try:
        value = request.structure.parse(answer.text)
    except ReplyError as error:
        return replace(answer, status=INVALID, error=str(error))
    return replace(answer, error="", value=value)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
