"""Asking a server, and telling an answer from all the ways in which there is none.

Only what may pass is tried again: too many requests, errors of the server, time-outs, broken connections, replies that
are no completion. A refusal, a cut text or a wrong form is an answer, and is recorded as what it is. A wrong key, an
unknown model and a used-up quota end the run.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import openai

from jaxmoe.collect.answers import ReplyError
from jaxmoe.collect.budget import Budget, LimitError
from jaxmoe.collect.completions import RetryError, message_of, read_completion, retry_after_s, shortened
from jaxmoe.collect.dialects import Dialect, body, probe
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.pace import Pace
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
from jaxmoe.collect.servers import Address, redacted
from jaxmoe.errors import InputError

LONGEST_PAUSE_S = 60.0
_SAID = ("text", "error", "returned_model", "fingerprint", "finish_reason")  # by a server, which may repeat a key
_PASSING = (408, 409, 425, 429)  # and all from 500 on


class Limits(NamedTuple):
    """What the user allows."""

    concurrency: int = 16  # requests under way at a server
    attempts: int = 6  # of a request, the first included
    timeout_s: float = 120.0  # of an attempt
    first_pause_s: float = 0.5  # before the second attempt, doubled before each further one


class Client:
    """Asks what the journal does not know, within the limits."""

    def __init__(
        self,
        journal: Journal,
        budget: Budget,
        limits: Limits,
        address_of: Callable[[str], Address],
    ) -> None:
        """`address_of` says where the server of an endpoint is, and its key."""
        self.stopped: Exception | None = None  # `LimitError` or `InputError`: nothing more is sent
        self._journal, self._budget, self._limits, self._address_of = journal, budget, limits, address_of
        self._sdks: dict[str, openai.AsyncOpenAI] = {}
        self._paces: dict[str, Pace] = {}
        self._dialects: dict[Endpoint, Dialect] = {}
        self._probing: dict[Endpoint, asyncio.Lock] = {}
        self._under_way: dict[str, asyncio.Future[Answer]] = {}
        self._keys: set[str] = set()

    async def close(self) -> None:
        """Close all connections."""
        for sdk in self._sdks.values():
            await sdk.close()

    @property
    def concurrency(self) -> int:
        """Requests that may be under way now, at all servers."""
        return sum(int(pace.limit) for pace in self._paces.values())

    async def ask(self, request: Request) -> Answer:
        """The answer, from the journal or from the server; two requests with the same key are sent once."""
        if found := self._journal.answered(request.key):
            return understood(request, found)
        if request.key in self._under_way:
            return await asyncio.shield(self._under_way[request.key])
        if self.stopped is not None:
            return NOT_ASKED
        future = self._under_way[request.key] = asyncio.get_running_loop().create_future()
        try:
            if request.structure is not None:
                await self._probed(request.endpoint)
            answer = await self._attempts(request)
            future.set_result(answer)
            return answer
        finally:
            del self._under_way[request.key]
            future.cancel()

    async def _attempts(self, request: Request) -> Answer:
        """Ask until there is an answer, the attempts are used up, or nothing may be sent any more."""
        before = self._journal.answer(request.key) or replace(NOT_ASKED, cost_usd=0.0)
        made, spent, reason = before.attempts, before.cost_usd, ""
        pace = self._pace(request.endpoint.base_url)
        for attempt in range(1, self._limits.attempts + 1):
            pause_s = self._pause_s(attempt)
            async with pace.turn() as sent_at:
                reserved = self._reserved(request)
                if self.stopped is not None:
                    break
                made += 1
                self._journal.ask(request, _sum(spent, reserved), made)
                try:
                    answer = await self._attempt(request)
                except RetryError as again:
                    cost, reason = 0.0 if again.unpaid else reserved, str(again)
                    pause_s = pause_s if again.pause_s is None else again.pause_s
                    if again.crowded:
                        pace.too_many(pause_s, sent_at)
                except InputError as error:
                    cost, reason, self.stopped = 0.0, str(error), error
                else:
                    pace.went_well()
                    cost = self._budget.cost_usd(request, answer.prompt_tokens, answer.completion_tokens)
                    self._budget.settle(reserved, cost)
                    answer = replace(answer, attempts=made, cost_usd=_sum(spent, cost))
                    return self._settled(request, understood(request, answer))
            self._budget.settle(reserved, cost)
            spent = _sum(spent, cost)
            if self.stopped is None and attempt < self._limits.attempts:
                await asyncio.sleep(pause_s)
        if not reason:
            return NOT_ASKED
        return self._settled(request, Answer(FAILED, error=reason, attempts=made, cost_usd=spent))

    async def _attempt(self, request: Request) -> Answer:
        """One request. Raises `RetryError` if another may bring an answer, and `InputError` if none will."""
        dialect = self._dialect(request.endpoint)
        create = self._sdk(request.endpoint.base_url).chat.completions.create
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                completion = await create(**body(request, dialect), extra_headers={"Idempotency-Key": request.key})
        except (openai.APITimeoutError, TimeoutError):
            raise RetryError(f"timed out after {self._limits.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise RetryError(self._clean(f"the connection failed ({error.__cause__ or error})")) from None
        except openai.APIStatusError as error:
            return self._after_status(request, dialect, error)
        except (openai.OpenAIError, ValueError) as error:  # ValueError: the body is no JSON
            raise RetryError(f"the reply is no completion ({type(error).__name__})") from None
        answer = read_completion(completion)
        seconds = time.monotonic() - began
        said: dict[str, Any] = {name: self._clean(getattr(answer, name)) for name in _SAID}
        return replace(answer, **said, latency_s=seconds)

    def _after_status(self, request: Request, dialect: Dialect, error: openai.APIStatusError) -> Answer:
        """What an error of the server means. Raises as `_attempt` does, or says that there will be no answer."""
        where, status, message = request.endpoint, error.status_code, shortened(self._clean(message_of(error)))
        if status in (401, 403):
            raise InputError(
                f"{where.base_url} does not accept the API key or its rights ({status}: {message})"
            ) from None
        if status == 429 and "insufficient_quota" in (error.code, error.type):
            raise InputError(
                f"the quota at {where.base_url} is used up ({message}); what was collected is kept"
            ) from None
        if status == 404:
            raise InputError(f"{where.base_url} does not know the model {where.model!r} ({message})") from None
        if status in _PASSING or status >= 500:
            pause_s = retry_after_s(error.response.headers)
            raise RetryError(f"{status}: {message}", pause_s=pause_s, crowded=status == 429, unpaid=True) from None
        current = self._dialect(where)  # another request may have found out meanwhile
        if (adapted := current if current != dialect else dialect.adapted(message)) is not None:
            self._learn(where, adapted)
            raise RetryError(f"{status}: {message}", pause_s=0.0, unpaid=True) from None
        refused = "content_filter" in (error.code, error.type)
        return Answer(
            REFUSED if refused else FAILED, error=f"{status}: {message}", prompt_tokens=0, completion_tokens=0
        )

    async def _probed(self, endpoint: Endpoint) -> None:
        """Find out, once, how an endpoint gives structured answers."""
        async with self._probing.setdefault(endpoint, asyncio.Lock()):
            self._dialect(endpoint)
            if endpoint in self._dialects:
                return
            answer = await self._attempts(probe(endpoint))
            while answer.status in (REFUSED, INVALID) and (lower := self._dialect(endpoint).lower()):
                self._learn(endpoint, lower)
                answer = await self._attempts(probe(endpoint))
            if answer.status in ANSWERED:
                self._learn(endpoint, self._dialect(endpoint))
            self._dialects.setdefault(endpoint, Dialect())  # not found out: the next run tries again

    def _dialect(self, endpoint: Endpoint) -> Dialect:
        """As far as it is known, in this run or from an earlier one."""
        if endpoint not in self._dialects and (known := self._journal.dialect(endpoint)):
            self._dialects[endpoint] = Dialect(**{**known, "without": tuple(known["without"])})
        return self._dialects.get(endpoint, Dialect())

    def _learn(self, endpoint: Endpoint, dialect: Dialect) -> None:
        self._dialects[endpoint] = dialect
        self._journal.put_dialect(endpoint, dialect._asdict())

    def _reserved(self, request: Request) -> float | None:
        """What an attempt can cost at most; where a limit is reached, nothing more is sent."""
        if self.stopped is None:
            try:
                return self._budget.reserve(request)
            except LimitError as limit:
                self.stopped = limit
        return 0.0

    def _settled(self, request: Request, answer: Answer) -> Answer:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        answer = replace(answer, answered_at=now)
        self._journal.settle(request.key, answer)
        return answer

    def _sdk(self, base_url: str) -> openai.AsyncOpenAI:
        if base_url not in self._sdks:
            url, key = self._address_of(base_url)
            self._keys.add(key)
            timeout_s = self._limits.timeout_s
            self._sdks[base_url] = openai.AsyncOpenAI(base_url=url, api_key=key, timeout=timeout_s, max_retries=0)
        return self._sdks[base_url]

    def _pace(self, base_url: str) -> Pace:
        return self._paces.setdefault(base_url, Pace(self._limits.concurrency))

    def _pause_s(self, attempt: int) -> float:
        """Exponential, with a random part so that those who were refused together do not come back together."""
        return min(LONGEST_PAUSE_S, self._limits.first_pause_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)

    def _clean(self, text: str) -> str:
        return redacted(text, self._keys)


def understood(request: Request, answer: Answer) -> Answer:
    """The answer with what it says, if it is structured; invalid if that is not what was asked for."""
    if request.structure is None or answer.status not in (DONE, LENGTH, INVALID):
        return answer
    try:
        value = request.structure.parse(answer.text)
    except ReplyError as error:
        return replace(answer, status=INVALID, error=str(error))
    return replace(answer, status=LENGTH if answer.finish_reason == "length" else DONE, error="", value=value)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
