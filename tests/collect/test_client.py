"""When a server is asked again, waited for, and given up. Pauses are thousandths of a second long."""

import asyncio
import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chat_server import ChatServer, send

from jaxmoe.collect.answers import judge_structure
from jaxmoe.collect.budget import Budget, LimitError, Prices
from jaxmoe.collect.client import Client, Limits, understood
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.requests import DONE, FAILED, INVALID, LENGTH, NOT_ASKED, REFUSED, Answer, Endpoint, Request
from jaxmoe.collect.servers import Address
from jaxmoe.errors import InputError
from jaxmoe.progress import Display

LIMITS = Limits(concurrency=4, attempts=3, timeout_s=2.0, first_pause_s=0.001, patience_s=0.15)


def asking(base_url, number=0, model="m", **parameters):
    messages = [{"role": "user", "content": f"question {number}"}]
    return Request("expert", f"p{number}", "a", 1, Endpoint(base_url, model), messages, {"max_tokens": 9} | parameters)


class Session:
    """What a client says and keeps."""

    def __init__(self, limits=LIMITS, max_requests=None, **changes):
        self.said, self.journal = [], Journal(Path(":memory:"))
        report = Display(stage=self.said.append, progress=lambda _: None)
        budget = Budget(Prices("d", {}), 0.0, 0, None, max_requests)
        address_of = lambda base_url: Address(base_url, "")  # noqa: E731
        self.client = Client(self.journal, budget, limits._replace(**changes), address_of, report)

    def ask(self, *requests):
        """All at once; a wait without end is a failure."""

        async def run():
            try:
                return await asyncio.gather(*map(self.client.ask, requests))
            finally:
                await self.client.close()

        with closing(self.journal):
            answers = asyncio.run(asyncio.wait_for(run(), 20.0))
            self.rows = self.journal.rows()
        return answers


@dataclass
class Waiting(ChatServer):
    """Too busy for everyone, and says for how long."""

    headers: dict = field(default_factory=dict)
    message: str = ""

    def _answer(self, http, *_):
        send(http, 429, json.dumps({"error": {"message": self.message}}).encode(), headers=self.headers)


def question(asked):
    return int(asked.body["messages"][-1]["content"].split()[-1])


# ---- patience


def test_a_server_that_is_busy_for_ever_is_given_up():
    session = Session()
    with ChatServer(lambda *_: "429") as server:
        began = time.monotonic()
        answers = session.ask(*(asking(server.base_url, number) for number in range(12)))
        assert time.monotonic() - began < 5.0
    assert {answer.status for answer in answers} <= {FAILED, NOT_ASKED.status}
    assert {answer.error for answer in answers} <= {"429: slow down", NOT_ASKED.error}
    [(where, why)] = session.client.given_up.items()
    assert where == Endpoint(server.base_url, "m")
    assert why.startswith("too busy for 0 s without an answer, and --patience is 0.15 s (429: slow down)")
    assert [line for line in session.said if "no longer asked" in line] == [
        f"no longer asked in this run: {where}: {why}"
    ]
    assert next(session.client.notes()) == f"no longer asked in this run: {where}: {why}"
    assert any("was too busy" in note for note in session.client.notes())
    assert session.client.stopped is None


def test_a_crowded_server_is_no_failed_attempt():
    with ChatServer(lambda _, times: "429" if times < 6 else None) as server:
        [answer] = Session(attempts=1, patience_s=30.0).ask(asking(server.base_url))
    assert (answer.status, answer.attempts) == (DONE, 6)


@pytest.mark.parametrize(
    ("headers", "message", "asked"),
    [
        ({"Retry-After": "120"}, "slow down", "2 min 0 s (120 s)"),
        ({"Retry-After-Ms": "120000", "Retry-After": "0.1"}, "slow down", "2 min 0 s (120 s)"),
        ({}, "Please try again in 1h2m3s.", "1 h 2 min (3,723 s)"),
    ],
)
def test_a_server_that_asks_for_more_than_the_users_patience_is_given_up_at_once(headers, message, asked):
    session = Session(concurrency=1, patience_s=60.0)
    with Waiting(headers=headers, message=message) as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(5)))
    assert len(server.log) == 1
    assert sorted(answer.status for answer in answers) == [FAILED, *[NOT_ASKED.status] * 4]
    [why] = session.client.given_up.values()
    assert why == f"it asks to wait for {asked}, and --patience is 60 s (429: {message})"
    assert len([line for line in session.said if "no longer asked" in line]) == 1


def test_a_wait_within_patience_is_kept():
    def fault(_, times):
        return "429 retry-after" if times == 1 else None

    with ChatServer(fault) as server:
        [answer] = Session(attempts=1, patience_s=10.0).ask(asking(server.base_url))
    assert answer.status == DONE
    assert server.log[1].at - server.log[0].at >= 0.05


def test_patience_begins_anew_with_every_answer():
    """A server that is slow and gets on with it is waited for, however long it takes."""

    def fault(*_):
        return "429" if server.under_way > 1 else None

    session = Session(concurrency=8, patience_s=0.7)
    with ChatServer(fault, latency_s=0.05) as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(20)))
    assert {answer.status for answer in answers} == {DONE}
    assert session.client.given_up == {}


@pytest.mark.parametrize("concurrency", [1, 2, 16])
@pytest.mark.parametrize("fault", ["429", "429 retry-after"])
def test_a_request_that_alone_is_refused_does_not_stop_the_others(fault, concurrency):
    def refused(asked, _):
        return fault if question(asked) in (3, 4) else None

    session = Session(concurrency=concurrency, patience_s=0.3)
    with ChatServer(refused, latency_s=0.005) as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(40)))
    assert [number for number, answer in enumerate(answers) if answer.status != DONE] == [3, 4]
    assert {(answers[number].status, answers[number].error) for number in (3, 4)} == {(FAILED, "429: slow down")}


def test_one_model_that_is_busy_does_not_stop_another_of_the_same_server():
    def fault(asked, _):
        return "429" if asked.body["model"] == "busy" else None

    session = Session()
    with ChatServer(fault, latency_s=0.005) as server:
        models = ["busy", "free"] * 10
        answers = session.ask(*(asking(server.base_url, number, model) for number, model in enumerate(models)))
    assert {answer.status for answer, model in zip(answers, models, strict=True) if model == "free"} == {DONE}
    assert DONE not in {answer.status for answer, model in zip(answers, models, strict=True) if model == "busy"}
    assert set(session.client.given_up) <= {Endpoint(server.base_url, "busy")}


# ---- servers that are not there


def test_a_server_that_is_not_there_is_given_up_with_one_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    session = Session()
    answers = session.ask(*(asking(base_url, number) for number in range(40)))
    assert {answer.status for answer in answers} <= {FAILED, NOT_ASKED.status}
    [(where, why)] = session.client.given_up.items()
    assert where == base_url
    assert why.startswith(f"{base_url} cannot be reached: ")
    assert why.endswith(f"; is a server running at {base_url}, and is the base URL right?")
    assert session.said == [f"no longer asked in this run: {where}: {why}"]
    assert sum(row["attempts"] for row in session.rows) <= LIMITS.attempts * 40
    assert session.client.stopped is None


def test_a_server_that_is_there_is_not_given_up_for_a_single_request():
    """Connections break for one request; others are answered."""

    class Hanging(ChatServer):
        def _answer(self, http, asked, _):
            if question(asked) == 3:
                http.close_connection = True
                http.connection.close()
            else:
                super()._answer(http, asked, None)

    session = Session()
    with Hanging(latency_s=0.005) as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(20)))
    assert [number for number, answer in enumerate(answers) if answer.status != DONE] == [3]
    assert answers[3].attempts == LIMITS.attempts
    assert session.client.given_up == {}


def test_an_address_with_nothing_but_pages_is_given_up_with_one_sentence():
    session = Session()
    with ChatServer(lambda *_: "html") as server:
        session.ask(*(asking(server.base_url, number) for number in range(10)))
    [(where, why)] = session.client.given_up.items()
    assert where == Endpoint(server.base_url, "m")
    assert why.startswith("the server sent a page of HTML in place of an answer: Bad gateway; jaxmoe asks ")
    assert why.endswith("/v1/chat/completions: is that the address of its API?")
    assert len([line for line in session.said if "no longer asked" in line]) == 1


def test_a_page_between_answers_gives_nothing_up():
    session = Session(attempts=6)
    with ChatServer(lambda asked, times: "html" if question(asked) == 3 and times == 1 else None) as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(10)))
    assert {answer.status for answer in answers} == {DONE}
    assert session.client.given_up == {}


# ---- the end of a run


@pytest.mark.parametrize("fault", ["key", "model", "quota"])
def test_an_error_that_no_retry_mends_ends_all_at_once(fault):
    """Also for those who wait behind a pause."""
    session = Session(concurrency=2, patience_s=60.0)
    with ChatServer(lambda asked, _: fault if question(asked) else "429 retry-after") as server:
        began = time.monotonic()
        session.ask(*(asking(server.base_url, number) for number in range(30)))
        assert time.monotonic() - began < 5.0
    assert isinstance(session.client.stopped, InputError)
    assert len(server.log) <= 4


def test_a_limit_ends_all_at_once():
    session = Session(concurrency=2, max_requests=3)
    with ChatServer() as server:
        answers = session.ask(*(asking(server.base_url, number) for number in range(10)))
    assert len(server.log) == 3
    assert sum(answer.status == DONE for answer in answers) == 3
    assert isinstance(session.client.stopped, LimitError)


# ---- once


def test_two_requests_that_are_the_same_are_sent_once():
    with ChatServer(latency_s=0.01) as server:
        answers = Session().ask(*[asking(server.base_url)] * 5, asking(server.base_url, 1))
    assert len(server.log) == 2
    assert len({answer.text for answer in answers[:5]}) == 1


def test_a_refused_parameter_is_learned_by_all_that_are_under_way():
    def fault(asked, _):
        return (400, "'temperature' is not supported") if "temperature" in asked.body else None

    session = Session(concurrency=8, attempts=1)
    with ChatServer(fault, latency_s=0.01) as server:
        answers = session.ask(*(asking(server.base_url, number, temperature=0.7) for number in range(24)))
    assert {answer.status for answer in answers} == {DONE}
    assert len(server.log) - 24 <= 8
    assert {answer.sent for answer in answers} == {'{"max_tokens": 9, "roles": "user"}'}
    assert list(session.client.notes()) == [f"m at {server.base_url} refuses temperature: it was asked without"]


@pytest.mark.parametrize(
    ("status", "message", "found", "times"),
    [
        (400, "The prompt is too long.", FAILED, 1),
        (422, "no", FAILED, 1),
        (400, "flagged by moderation", REFUSED, 1),
        (500, "oh no", FAILED, 3),
        (409, "conflict", FAILED, 3),
        (504, "time-out", FAILED, 3),
    ],
)
def test_only_what_may_pass_is_tried_again(status, message, found, times):
    with ChatServer(lambda *_: (status, message)) as server:
        [answer] = Session().ask(asking(server.base_url))
    assert (answer.status, answer.error) == (found, f"{status}: {message}")
    assert len(server.log) == answer.attempts == times


# ---- what an answer says


@pytest.mark.parametrize(
    ("stage", "status", "text", "found", "error"),
    [
        ("judge", DONE, '{"score": 7}', DONE, ""),
        ("judge", DONE, "seven", INVALID, "the answer is not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("judge", LENGTH, '{"score": 7}', INVALID, "the judgement was cut at the limit of tokens (9)"),
        ("judge", LENGTH, '{"sco', INVALID, "the judgement was cut at the limit of tokens (9)"),
        ("gate", LENGTH, '{"score": 7}', LENGTH, ""),
        ("judge", REFUSED, '{"score": 7}', REFUSED, "no"),
    ],
)
def test_a_structured_answer_says_what_was_asked_for_or_is_invalid(stage, status, text, found, error):
    request = Request(stage, "p", "", 1, Endpoint("u", "m"), [], {"max_tokens": 9}, judge_structure("integer"))
    answer = understood(request, Answer(status, text=text, error="no" if status == REFUSED else ""))
    assert (answer.status, answer.error) == (found, error)
    assert answer.value == (7.0 if found in (DONE, LENGTH) else None)
