"""Pace: a server that is crowded, or asks to wait, is waited for; one that is broken is tried again, and given up."""

import json
import socket
from collections import deque
from itertools import pairwise
from types import SimpleNamespace

import pytest
from scripted import Reply, Scripted, on, refusal

from jaxmoe.collect import reasons

HTML = {"Content-Type": "text/html"}
PROMPTS = ("a whale who is lost", "two bakers at night", "a kite over the town", "an owl with a lamp")
PROMPTS += ("the last train", "a well of rain")


def page(title):
    return f"<html>\r\n<head><title>{title}</title></head>\r\n<body><center><h1>{title}</h1></center></body></html>"


def for_the_first(seconds):
    """A condition that holds so long after the first request."""
    began = []

    def holds(asked):
        began.append(asked.at)
        return asked.at - began[0] < seconds

    return holds


def beyond(requests, seconds):
    """A condition that holds for what comes beyond so many requests in so many seconds."""
    passed = deque()

    def holds(asked):
        while passed and passed[0] <= asked.at - seconds:
            passed.popleft()
        if len(passed) >= requests:
            return True
        passed.append(asked.at)
        return False

    return holds


def quiet_after(server, status):
    """The shortest time from a request that was answered so to the next one."""
    return min(after.at - one.at for one, after in pairwise(server.log) if one.status == status)


def a_free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(429, {"Retry-After": "0.2"}, id="seconds"),
        pytest.param(429, {"retry-after-ms": "200"}, id="milliseconds"),
        pytest.param(503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, id="a date"),
    ],
)
def test_a_server_that_asks_to_wait_is_left_alone(user, monkeypatch, status, headers):
    """A date has whole seconds, so the clock that it is compared with stands still, 0.2 s before."""
    just_before = SimpleNamespace(time=lambda: 1792567680 - 0.2)
    monkeypatch.setattr(reasons, "time", just_before)
    with Scripted((on(Reply(status, {"error": {"message": "busy"}}, headers=headers), skip=5, times=1),)) as server:
        done = user.collect(server, "--concurrency", "1")
    assert done.code == 0
    assert len(done.texts) == 8
    assert quiet_after(server, status) >= 0.19


def test_a_retry_after_that_says_nothing_is_no_harm(user):
    """A word, a negative number, a date of last week."""
    slow = Reply(429, {"error": {"message": "slow down"}})
    last_week = {"Retry-After": "Wed, 01 Oct 2025 07:28:00 GMT"}
    with Scripted(
        (
            on(slow._replace(headers={"Retry-After": "soon"}), stage="gate", times=1),
            on(slow._replace(headers={"Retry-After": "-5"}), stage="expert", times=2),
            on(slow._replace(status=503, headers=last_week), stage="judge", times=2),
        )
    ) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)


def test_a_retry_after_of_two_days_is_not_waited_for(user):
    """What was answered before is kept, and how long it would take is said."""
    reply = Reply(429, {"error": {"message": "daily limit"}}, headers={"Retry-After": "172800"})
    with Scripted((on(reply, skip=8),)) as server:
        done = user.collect(server, "--concurrency", "1", "--attempts", "2", "--patience", "3")
    assert done.code == 1
    assert len(server.log) <= 16
    assert "it asks to wait for 48 h 0 min (172,800 s), and --patience is 3 s" in done.said
    assert done.texts


def test_a_model_that_loads_is_waited_for(user):
    user.write("prompts.csv", "\n".join(["prompt", *PROMPTS]))
    with Scripted((refusal("Loading model", 503, where=for_the_first(0.15)),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (24, 24)
    assert 1 <= server.count(status=503) <= 24


def test_a_free_tier_is_waited_for(user):
    """Six requests in a fifth of a second; the rest is 429 without any header."""
    with Scripted((refusal("Rate limit reached for requests", 429, where=beyond(6, 0.2)),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert "is too busy (429: Rate limit reached for requests)" in done.said
    assert "was too busy" in done.said


def test_a_crowd_shrinks_to_what_a_server_bears(user):
    """56 answers from one that bears two requests at once, and answers 529 to more: none fails."""
    user.write("prompts.csv", "\n".join(["prompt", *PROMPTS]))
    crowded = refusal("Overloaded", 529, where=lambda asked: asked.under_way > 2)
    with Scripted((crowded, on(Reply(delay_s=0.02)))) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (24, 24)
    assert server.count(status=200) == 56
    assert 1 <= server.count(status=529) < 40
    assert "failed" not in done.said


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            {"expert": Reply(drop="reset"), "judge": Reply(drop="close")}, id="connections reset, or without a word"
        ),
        pytest.param({"expert": Reply(524, page("524: A timeout occurred"), headers=HTML)}, id="524, a page of HTML"),
    ],
)
def test_what_breaks_twice_is_tried_again(user, faults):
    rules = [on(reply, stage=stage, times=2) for stage, reply in faults.items()]
    with Scripted(tuple(rules)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert len(server.log) == 20 + 2 * len(faults)


def test_a_gateway_that_does_not_recover_costs_only_its_expert(user):
    experts = [{"expert": "setting", "system_prompt": "Of places."}]
    experts += [{"expert": "action", "system_prompt": "Of events.", "model": "broken"}]
    user.write("experts.json", json.dumps(experts))
    with Scripted((on(Reply(502, page("502 Bad Gateway"), headers=HTML), model="broken"),)) as server:
        done = user.collect(server, "--attempts", "2")
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (4, 4)
    assert server.count(model="broken") == 4
    assert "502: 502 Bad Gateway" in done.said
    assert "<center>" not in done.said
    assert "<html" not in done.said


def test_nobody_listens(user):
    place = f"http://127.0.0.1:{a_free_port()}"
    done = user.collect(None, "--attempts", "2", base_url=f"{place}/v1")
    assert done.code == 1
    assert "nothing listens there (connection refused)" in done.said
    assert f"is a server running at {place}/v1, and is the base URL right?" in done.said
    assert "The same command" in done.said
    assert done.lines <= 20
