"""Request parameters as a user writes them."""

import pytest

from jaxmoe.collect.plan import Settings
from jaxmoe.collect.request_params import check_request_params, of_stage, parse_request_params
from jaxmoe.errors import InputError


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], {}),
        (["num_ctx=8192"], {"num_ctx": 8192}),
        (["top_p=0.9", "min_p=1e-2"], {"top_p": 0.9, "min_p": 0.01}),
        (["enable_thinking=false"], {"enable_thinking": False}),
        (["temperature=null"], {"temperature": None}),
        (["reasoning_effort=low"], {"reasoning_effort": "low"}),
        (['reasoning_effort="low"'], {"reasoning_effort": "low"}),
        (["user=007"], {"user": "007"}),
        (["stop=a=b"], {"stop": "a=b"}),
        (["stop="], {"stop": ""}),
        ([" top_p = 0.9 "], {"top_p": 0.9}),
        (['stop=["a", "b"]'], {"stop": ["a", "b"]}),
        (['provider={"order": ["x"]}'], {"provider": {"order": ["x"]}}),
        (["broken={"], {"broken": "{"}),
        (["deep=" + "[" * 100_000], {"deep": "[" * 100_000}),
        (["judge.reasoning_effort=low", "judge.top_p=1"], {"judge": {"reasoning_effort": "low", "top_p": 1}}),
        (["judge.top_p=1", "top_p=0.9"], {"judge": {"top_p": 1}, "top_p": 0.9}),
        (
            ["chat_template_kwargs.enable_thinking=false", "chat_template_kwargs.x.y=1"],
            {"chat_template_kwargs": {"enable_thinking": False, "x": {"y": 1}}},
        ),
        (["gate.chat_template_kwargs.x=1"], {"gate": {"chat_template_kwargs": {"x": 1}}}),
    ],
)
def test_parameters_as_they_are_written(texts, found):
    assert parse_request_params(texts) == found


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["num_ctx"], "'num_ctx' is not of the form KEY=VALUE or STAGE.KEY=VALUE, .* stages are gate, "),
        (["=3"], "'=3' is not of the form"),
        (["judge.=3"], "'judge.=3' is not of the form"),
        ([".a=3"], "'.a=3' is not of the form"),
        (["a..b=3"], "'a..b=3' is not of the form"),
        ([""], "'' is not of the form"),
        (["top_p=1", "top_p=2"], "'top_p=2': top_p is set twice"),
        (["a.b=1", "a.b=1"], "'a.b=1': b is set twice"),
        (["a=1", "a.b=2"], "'a.b=2': a is a value already"),
        (["a.b=1", "a=2"], "'a=2': a is set twice"),
    ],
)
def test_parameters_that_cannot_be_read_are_named(texts, message):
    with pytest.raises(InputError, match=f"--request-param {message}"):
        parse_request_params(texts)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "x"}, "the request parameter model cannot be set here; what sets it is --model"),
        ({"max_tokens": 9}, "what sets it is --max-tokens and --answer-tokens"),
        ({"judge": {"max_completion_tokens": 9}}, "the request parameter max_completion_tokens cannot be set here"),
        ({"messages": []}, "what sets it is --templates"),
        ({"stream": True}, "nothing: it is found out"),
        ({"gate": {"response_format": {}}}, "nothing: it is found out"),
        ({"logprobs": True}, "what sets it is --logprobs"),
        ({"n": 2}, "the request parameter n is 2, it must be 1"),
        ({"fusion": {"n": "1"}}, "the request parameter n is '1', it must be 1"),
        ({"judge": 3}, "request parameters of the stage judge are 3, they must have names"),
    ],
)
def test_parameters_that_are_set_in_another_way(params, message):
    with pytest.raises(InputError, match=message):
        check_request_params(params)
    with pytest.raises(InputError, match=message):
        Settings(model="m", request_params=params)


def test_parameters_that_may_be_set():
    check_request_params(
        {"n": 1, "temperature": None, "seed": 3, "judge": {"top_p": 1}, "gate": {}, "options": {"n": 2}}
    )


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        ("judge", {"top_p": 1.0, "top_k": 40}),
        ("gate", {"top_p": 0.9, "top_k": 40, "min_p": 0.1}),
        ("local", {"top_p": 0.9, "top_k": 40}),
    ],
)
def test_those_of_a_stage_go_before_those_of_all(stage, found):
    params = {"top_p": 0.9, "top_k": 40, "judge": {"top_p": 1.0}, "gate": {"min_p": 0.1}}
    assert of_stage(params, stage) == found
    assert params["judge"] == {"top_p": 1.0}


@pytest.mark.parametrize("text", ["top_p=NaN", "top_p=-Infinity", "top_p=1e999", "judge.x=[1, NaN]"])
def test_a_number_that_json_cannot_hold_is_refused(text):
    with pytest.raises(InputError, match="which JSON cannot hold"):
        check_request_params(parse_request_params([text]))
