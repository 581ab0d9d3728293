"""What a refusal changes, and what is sent then."""

import json

import pytest

from jaxmoe.collect.answers import ReplyError, judge_structure
from jaxmoe.collect.dialects import LADDER, Dialect, body, probe, sent_parameters, without_system
from jaxmoe.collect.reasons import of_words, read_reason
from jaxmoe.collect.requests import Endpoint, Request

SYSTEM, USER = {"role": "system", "content": "You judge."}, {"role": "user", "content": "Score this."}
OURS = {"max_tokens": 9, "temperature": 0.7, "seed": 1}


def asking(*, structure=True, messages=(SYSTEM, USER), **parameters):
    own = judge_structure("integer") if structure else None
    return Request("judge", "p", "a", 1, Endpoint("http://s/v1", "m"), list(messages), OURS | parameters, own)


def adapted(message, request=None, dialect=None, **error):
    """After a refusal in OpenAI's form."""
    reason = read_reason(json.dumps({"error": {"message": message, **error}}))
    return (dialect or Dialect()).adapted(reason, request or asking())


def without(*names):
    return Dialect(without=names)


# ---- refusals


@pytest.mark.parametrize(
    ("message", "found"),
    [
        # the limit of tokens
        (
            "Unsupported parameter: 'max_tokens' is not supported by this model. Use 'max_completion_tokens' instead.",
            Dialect(token_limit="max_completion_tokens"),
        ),
        ("max_tokens is not supported", Dialect(token_limit="max_completion_tokens")),
        # temperature and seed
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", without("temperature")),
        ("temperature: Extra inputs are not permitted", without("temperature")),
        ("property 'seed' is unsupported", without("seed")),
        ("Unrecognized request argument supplied: seed", without("seed")),
        # structures
        ("response_format is not supported", Dialect("json_schema")),
        ("Invalid schema for response_format 'judge': 'maxLength' is not permitted.", Dialect("json_schema")),
        ("This model does not support JSON mode", Dialect("json_schema")),
        ("failed to parse grammar", Dialect("json_schema")),
        ("guided decoding is not enabled", Dialect("json_schema")),
        ("'additionalProperties' is not permitted", Dialect("json_schema")),
        # the system's part
        ("System role not supported", Dialect(system=False)),
        ("Developer instruction is not enabled for models/m", Dialect(system=False)),
        ("Conversation roles must alternate user/assistant/user/assistant/...", Dialect(system=False)),
        ("only user and assistant roles are supported", Dialect(system=False)),
        ("Unknown role: system", Dialect(system=False)),
        ("messages[0].role must be user or assistant", Dialect(system=False)),
        # streams
        ("This model only supports streaming; set stream=true", Dialect(stream=True)),
        ("Non-streaming requests are not supported", Dialect(stream=True)),
        ("parameter.enable_thinking must be set to false for non-streaming calls", Dialect(stream=True)),
    ],
)
def test_what_a_refusal_changes(message, found):
    assert adapted(message) == found


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 32768. This model supports at most 16384 completion tokens.",
        "max_tokens must be less than or equal to 4096",
        "This model's maximum context length is 8192 tokens, and you requested 9000.",
        "'max_tokens' must be in the range [1, 8192]",
        "The prompt is too long.",
        "You must accept the terms of use.",
        "bad request",
        "",
    ],
)
def test_what_nothing_can_change(message):
    assert adapted(message) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", 40, "top_k: Extra inputs are not permitted"),
        ("min_p", 0.1, "Unrecognized request argument supplied: min_p"),
        ("reasoning_effort", "low", "'reasoning_effort' is not supported with this model"),
        ("chat_template_kwargs", {"enable_thinking": False}, "unknown field chat_template_kwargs"),
        ("n", 1, "the parameter n is not allowed"),
    ],
)
def test_a_parameter_of_the_user_is_left_out_by_its_name(name, value, message):
    assert adapted(message, asking(**{name: value})) == without(name)
    assert adapted(f"{name} is bad", asking(**{name: value})) == without(name)
    assert adapted(f"all{name} and {name}s are bad", asking(**{name: value})) is None
    other = Dialect(without=("seed",)).adapted(of_words(message), asking(**{name: value}))
    assert other == without("seed", name)
    assert without(name).adapted(of_words(f"{name} is bad"), asking(**{name: value})) is None


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("top_logprobs must be at most 5", Dialect(alternatives=5)),
        ("logprobs are not available for this model", without("logprobs")),
        ("You requested log probabilities; log probs are off", without("logprobs")),
    ],
)
def test_log_probabilities_become_fewer_and_then_none(message, found):
    assert adapted(message, asking(logprobs=True)) == found
    assert adapted(message, asking(logprobs=True), Dialect(alternatives=5)) == found._replace(
        alternatives=5, without=("logprobs",)
    )
    assert adapted(message, asking()) is None


def test_what_the_server_points_at_goes_before_what_it_says():
    message = "temperature and seed do not go with response_format"
    assert adapted(message) == without("temperature")
    assert adapted(message, param="seed") == without("seed")
    assert adapted(message, param="response_format") == Dialect("json_schema")
    assert adapted("no", param="messages[0].role") == Dialect(system=False)
    assert adapted("no", param="max_tokens") == Dialect(token_limit="max_completion_tokens")
    assert adapted("no", param="stream") is None
    reason = read_reason('{"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "no"}]}')
    assert Dialect().adapted(reason, asking()) == Dialect(system=False)
    reason = read_reason('{"detail": [{"loc": ["body", "seed"], "msg": "no"}, {"loc": ["body", "x"], "msg": "no"}]}')
    assert Dialect().adapted(reason, asking()) == without("seed")


def test_what_is_named_first_is_changed_first():
    assert adapted("seed and temperature are not supported") == without("seed")
    assert adapted("temperature and seed are not supported") == without("temperature")
    request = asking()
    reason = of_words("temperature and seed are not supported")
    after = without("temperature").adapted(reason, request)
    assert after == without("temperature", "seed")
    assert after.adapted(reason, request) is None


def test_a_value_that_does_not_fit_leaves_the_next_change():
    assert adapted("max_tokens exceeds the maximum; seed is ignored") == without("seed")


def test_a_complaint_without_a_name_takes_away_one_after_the_other():
    """The least usual first: the user's, then ours, until nothing is left."""
    request, dialect, ways = asking(top_k=40, logprobs=True), Dialect(), []
    while (dialect := adapted("Unknown parameter in request", request, dialect)) is not None:
        ways.append(dialect)
        assert len(ways) < 20
    assert [way.without for way in ways[:3]] == [("top_k",), ("top_k", "logprobs"), ("top_k", "logprobs", "seed")]
    assert [way.structure for way in ways[3:6]] == list(LADDER[1:])
    assert ways[6].system is False
    assert ways[7].stream
    assert "stream_options" in ways[8].without
    assert ways[9].token_limit == "max_completion_tokens"
    assert ways[10].without[-1] == "temperature"
    assert len(ways) == 11


@pytest.mark.parametrize(
    "message",
    [
        "Unrecognized request arguments",
        "Extra inputs are not permitted",
        "Requested parameters are not supported",
        "Unsupported field",
        "unexpected keys",
        "some arguments are not allowed",
    ],
)
def test_complaints_without_a_name(message):
    assert adapted(message) == without("seed")


def test_a_request_without_what_is_refused_is_not_changed():
    plain = Request("expert", "p", "a", 1, Endpoint("u", "m"), [USER], {"max_tokens": 9, "temperature": None})
    for message in ("response_format", "System role not supported", "seed", "temperature", "logprobs"):
        assert adapted(message, plain) is None
    used = Dialect("prompt", "max_completion_tokens", ("seed", "temperature", "stream_options"), False, True)
    for message in (
        "response_format",
        "System role",
        "seed",
        "temperature",
        "max_tokens",
        "only stream",
        "Unknown field",
    ):
        assert adapted(message, asking(), used) is None


def test_a_stream_without_its_options():
    assert adapted("unknown field stream_options", dialect=Dialect(stream=True)) == Dialect(
        stream=True, without=("stream_options",)
    )


def test_the_ladder_has_an_end():
    rungs = [Dialect()]
    while lower := rungs[-1].lower():
        rungs.append(lower)
    assert [rung.structure for rung in rungs] == list(LADDER)
    assert adapted("response_format", dialect=rungs[-1]) is None


# ---- what is sent


def test_a_body_in_the_first_dialect():
    found = body(asking(top_k=40), Dialect())
    assert found == {
        "model": "m",
        "messages": [SYSTEM, USER],
        "max_tokens": 9,
        "temperature": 0.7,
        "seed": 1,
        "top_k": 40,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "judge", "strict": True, "schema": judge_structure("integer").schema},
        },
    }


@pytest.mark.parametrize(
    ("dialect", "there", "absent"),
    [
        (Dialect(token_limit="max_completion_tokens"), {"max_completion_tokens": 9}, {"max_tokens"}),
        (without("seed", "temperature"), {"max_tokens": 9}, {"seed", "temperature"}),
        (Dialect("json_object"), {"response_format": {"type": "json_object"}}, set()),
        (Dialect("prompt"), {}, {"response_format"}),
        (Dialect(stream=True), {"stream": True, "stream_options": {"include_usage": True}}, set()),
        (Dialect(stream=True, without=("stream_options",)), {"stream": True}, {"stream_options"}),
        (Dialect(), {"max_tokens": 9}, {"stream", "stream_options", "logprobs", "top_logprobs"}),
    ],
)
def test_a_body_in_other_dialects(dialect, there, absent):
    found = body(asking(), dialect)
    assert {name: found[name] for name in there} == there
    assert not absent & set(found)


def test_log_probabilities_in_a_body():
    request = asking(logprobs=True)
    found = body(request, Dialect())
    assert (found["logprobs"], found["top_logprobs"]) == (True, 20)
    assert body(request, Dialect(alternatives=5))["top_logprobs"] == 5
    assert not {"logprobs", "top_logprobs"} & set(body(request, without("logprobs")))


def test_a_parameter_that_is_none_is_not_sent_and_a_request_is_not_changed():
    request = asking(temperature=None, messages=[SYSTEM, USER])
    before = json.dumps([request.messages, request.parameters])
    assert "temperature" not in body(request, Dialect())
    body(request, Dialect(system=False, stream=True))
    assert json.dumps([request.messages, request.parameters]) == before


def test_lengths_of_strings_are_on_the_first_rung_alone():
    asked = probe(Endpoint("u", "m"))
    assert ["maxLength" in json.dumps(body(asked, Dialect(rung))) for rung in LADDER] == [True, False, False, False]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([SYSTEM, USER], [{"role": "user", "content": "You judge.\n\nScore this."}]),
        ([USER], [USER]),
        ([SYSTEM], [SYSTEM]),
        ([], []),
        (
            [SYSTEM, SYSTEM, USER, {"role": "assistant", "content": "7"}, USER],
            [
                {"role": "user", "content": "You judge.\n\nYou judge.\n\nScore this."},
                {"role": "assistant", "content": "7"},
                USER,
            ],
        ),
    ],
)
def test_the_words_of_the_system_go_before_the_users(messages, found):
    assert without_system(messages) == found
    assert body(asking(messages=messages or [USER]), Dialect(system=False))["messages"] == (found or [USER])


def test_what_was_sent_is_kept_for_the_journal():
    assert sent_parameters(body(asking(), Dialect())) == OURS | {"response_format": "json_schema"}
    assert sent_parameters(body(asking(), Dialect("prompt", system=False))) == OURS | {"roles": "user"}
    assert sent_parameters(body(asking(structure=False, messages=[USER]), Dialect()))["roles"] == "user"


# ---- the probe


def test_the_probe_takes_the_users_parameters():
    asked = probe(Endpoint("u", "m"), {"top_k": 40, "max_tokens": 7})
    assert asked.parameters == {"max_tokens": 7, "top_k": 40}
    assert asked.structure.parse('{"word": "seven", "score": 7}') is None


@pytest.mark.parametrize(
    "reply", ["7", '{"word": "seven"}', '{"word": "seven", "score": 11}', '{"word": "a", "score": 7, "b": 1}', "Sure!"]
)
def test_a_probe_that_keeps_to_no_schema(reply):
    with pytest.raises(ReplyError):
        probe(Endpoint("u", "m")).structure.parse(reply)
