"""Money: what is paid is counted, what is not known is said, and what no further request mends ends the run."""

import re

import pytest
from scripted import USAGE, Reply, Scripted, on

MODELS = ("writer", "judge", "small")
PROMPTS = ("a whale who is lost", "two bakers at night", "a kite over the town", "an owl with a lamp")
PROMPTS += ("the last train", "a well of rain", "four grey geese", "an empty mill")
PLAIN, HTML = ({"Content-Type": f"text/{kind}"} for kind in ("plain", "html"))


def prices(*models):
    """A thousand US dollars for a million tokens of an answer."""
    lines = [f"{model} = {{ input = 0.0, output = 1000.0 }}\n" for model in models]
    return "".join(['date = "2026-01-01"\n[models]\n', *lines])


def error(**fields):
    return {"error": fields}


def test_reasoning_that_the_count_of_an_answer_leaves_out_is_paid(user):
    """A thousand tokens of it are in the total alone, for each of twenty answers."""
    user.write("prices.toml", prices(*MODELS))
    with Scripted((on(Reply(completion={"usage": {**USAGE, "total_tokens": 1060}})),)) as server:
        done = user.collect(server, "--prices", "prices.toml")
    assert done.code == 0
    assert "20 requests sent, 20.4000 US dollars" in done.said
    assert "20.4000 US dollars" in done.card


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(..., id="no usage"),
        pytest.param(dict.fromkeys(USAGE, 0), id="a usage of zeros"),
    ],
)
def test_a_limit_of_cost_holds_where_the_server_does_not_count(user, usage):
    """An answer counts at its worst, a dollar or two; that it is a guess is said."""
    user.write("prices.toml", prices(*MODELS))
    with Scripted((on(Reply(completion={"usage": usage})),)) as server:
        done = user.collect(server, "--prices", "prices.toml", "--max-cost", "12", "--concurrency", "2")
    assert done.code == 1
    assert 3 <= len(server.log) <= 12
    assert "--max-cost 12" in done.said
    assert re.search(r"the usage of \d+ answers is unknown", done.said)
    assert re.search(r"the usage of \d+ answers is unknown", done.card)


def test_a_limit_of_cost_that_is_no_number_is_said_before_anything_is_sent(user):
    user.write("prices.toml", prices(*MODELS))
    with Scripted() as server:
        done = user.collect(server, "--prices", "prices.toml", "--max-cost", "nan")
    assert done.code == 2
    assert server.log == []


@pytest.mark.parametrize(
    ("priced", "whole"),
    [
        pytest.param((), r"at an unknown price", id="no price is known"),
        pytest.param(
            ("judge",), r"0\.\d*[1-9]\d* US dollars and 11 requests of unknown price", id="one price is known"
        ),
    ],
)
def test_an_unknown_price_is_not_shown_as_nothing(user, priced, whole):
    """In the dry run, while it goes on, at its end and in the data card."""
    user.write("prices.toml", prices(*priced))
    options = ("--prices", "prices.toml", "--concurrency", "1")
    with Scripted() as server:
        estimated = user.collect(server, *options, "--dry-run")
        assert server.log == []
        done = user.collect(server, *options)
    assert (estimated.code, done.code) == (0, 0)
    assert "cost unknown" in estimated.said
    assert "1 of 18 requests" in done.said  # a line of progress
    assert "at an unknown price" in done.said
    for text in (done.said, done.card):
        assert re.search(whole, text)
    for text in (estimated.said, done.said, done.card):
        assert "0.0000 US dollars" not in text


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(
            429,
            error(message="The current quota is used up, see plan and billing.", code="insufficient_quota"),
            "quota is used up",
            id="429 insufficient_quota",
        ),
        pytest.param(
            429,
            error(message="Billing is not active on this account.", code="billing_not_active"),
            "Billing is not active",
            id="429 billing_not_active",
        ),
        pytest.param(
            400,
            {"type": "error", **error(message="Your credit balance is too low to use this API. Buy credits.")},
            "credit balance is too low",
            id="400 the balance is too low",
        ),
        pytest.param(402, error(message="Insufficient Balance", param=None), "Insufficient Balance", id="402"),
    ],
)
def test_an_exhausted_credit_ends_the_run(user, status, body, said):
    """After sixteen answers; once there is credit again, the same command goes on."""
    user.write("prompts.csv", "\n".join(["prompt", *PROMPTS]))
    with Scripted((on(Reply(status, body), skip=16),)) as server:
        done = user.collect(server, "--concurrency", "2")
        assert done.code == 2
        assert len(server.log) <= 20
        assert said in done.said
        assert "what was collected is kept" in done.said
        assert done.texts
        if status == 402:
            server.rules, before = (), len(server.log)
            again = user.collect(server)
            assert (again.code, len(again.texts), len(again.scores)) == (0, 32, 32)
            assert len(server.log) - before <= 62


def test_a_quota_for_a_minute_is_no_credit(user):
    """The words of an empty account, from a server that asks to come back soon."""
    message = "You exceeded your current quota, please check your plan and billing details. Please retry in 120ms."
    body = [error(code=429, message=message, details=[{"retryDelay": "0.1s"}])]
    with Scripted((on(Reply(429, body), skip=4, times=3),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert server.count(status=429) == 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(401, {"detail": "Could not validate credentials (stork)"}, "stork", id="401"),
        pytest.param(
            403,
            error(message="This API key has no scope model.request (crane).", type="insufficient_permissions"),
            "crane",
            id="403 that speaks of the key",
        ),
    ],
)
def test_a_key_that_is_not_accepted_ends_the_run(user, status, body, said):
    with Scripted((on(Reply(status, body)),)) as server:
        done = user.collect(server)
    assert done.code == 2
    assert len(server.log) <= 6
    assert "does not accept the API key" in done.said
    assert said in done.said
    assert done.lines <= 14


def test_a_403_of_one_prompt_leaves_the_others_alone(user):
    body = error(code=403, message="The input was flagged by moderation (heron).", metadata={"reasons": ["violence"]})
    with Scripted((on(Reply(403, body), contains="bakers"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (4, 4)
    assert "flagged by moderation (heron)" in done.said


def test_an_unknown_model_ends_the_run(user):
    body = error(message='model "writer" not found, try pulling it first', type="api_error", code=None)
    with Scripted((on(Reply(404, body), model="writer"),)) as server:
        done = user.collect(server)
    assert done.code == 2
    assert len(server.log) <= 30
    assert "does not know the model 'writer'" in done.said
    assert "pulling it first" in done.said


@pytest.mark.parametrize(
    ("base", "reply", "most", "said"),
    [
        pytest.param("", Reply(404, "404 page not found", headers=PLAIN), 6, "404 page not found", id="no /v1"),
        pytest.param(
            "",
            Reply(body="<!doctype html><html><head><title>Chat</title></head><body></body></html>", headers=HTML),
            12,
            "a page of HTML",
            id="no /v1, and a web interface in place of an API",
        ),
        pytest.param("/v1/chat/completions", None, 0, "the address of a single call", id="the whole address"),
    ],
)
def test_a_wrong_path_is_told_from_an_unknown_model(user, base, reply, most, said):
    with Scripted((on(reply),) if reply else ()) as server:
        done = user.collect(server, "--attempts", "2", base_url=server.place + base)
    assert done.code in (1, 2)
    assert len(server.log) <= most
    assert said in done.said
    assert f"{server.place}/v1" in done.said
    assert "know the model" not in done.said
    assert done.texts == []
