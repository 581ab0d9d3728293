"""Request parameters: a user's own ones, for all stages or for one."""

import pytest
from scripted import STAGES, Scripted


@pytest.mark.parametrize(
    ("option", "sent", "said"),
    [
        pytest.param("enable_thinking=false", {"enable_thinking": False}, "enable_thinking false", id="a boolean"),
        pytest.param("num_ctx=8192", {"num_ctx": 8192}, "num_ctx 8192", id="a number"),
    ],
)
def test_a_parameter_is_sent_with_each_request(user, option, sent, said):
    with Scripted() as server:
        done = user.collect(server, "--request-param", option)
    assert done.code == 0
    assert len(done.texts) == 8
    assert server.count(stage=STAGES, sent=sent) == 18
    assert done.card.count(said) >= 5  # with each stage


def test_a_parameter_of_a_stage_is_sent_with_no_other(user):
    """Judges think little, experts sample in their own way."""
    options = ("judge.reasoning_effort=low", "expert.top_k=40", "expert.min_p=0.05")
    with Scripted() as server:
        done = user.collect(server, *(part for option in options for part in ("--request-param", option)))
    assert done.code == 0
    assert len(done.texts) == 8
    assert server.count(stage="judge", sent={"reasoning_effort": "low"}) == 8
    assert server.count(stage="expert", sent={"top_k": 40, "min_p": 0.05}) == 4
    assert {asked.stage for asked in server.asked(has="reasoning_effort")} <= {"judge", "probe"}
    assert server.count(stage=("gate", "fusion", "local", "judge"), lacks=("top_k", "min_p")) == 14


def test_a_parameter_without_a_value_is_said_before_anything_is_sent(user):
    with Scripted() as server:
        done = user.collect(server, "--request-param", "enable_thinking")
    assert done.code == 2
    assert server.log == []
    assert "is not of the form KEY=VALUE" in done.said


@pytest.mark.parametrize(
    "options",
    [("--temperature", "nan"), ("--judge-temperature", "inf"), ("--request-param", "top_p=1e999")],
    ids=" ".join,
)
def test_a_number_that_json_cannot_hold_is_said_before_anything_is_sent(user, options):
    with Scripted() as server:
        done = user.collect(server, *options)
    assert done.code == 2
    assert server.log == []
