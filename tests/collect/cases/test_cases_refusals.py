"""Refusals: the reason is read from any body and adapted to where it names what can change, else it is shown."""

import json

import pytest
from scripted import STAGES, Reply, Scripted, fits, on, refusal

PLAIN, HTML = ({"Content-Type": f"text/{kind}"} for kind in ("plain", "html"))
PAGE = (
    "<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title><style>body{color:red}</style></head>\r\n"
    "<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>Request Header Or Cookie Too Large</center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
OF_A_PROVIDER = json.dumps({"error": {"message": "seed is not taken by this model"}})


def too_hot(asked):
    return asked.body.get("temperature", 1) != 1


def bounded(asked):
    return '"maxLength"' in json.dumps(asked.body.get("response_format"))


@pytest.mark.parametrize(
    ("when", "reply", "most", "then"),
    [
        pytest.param(
            {"has": "max_tokens"},
            Reply(
                400,
                {
                    "error": {
                        "message": "The parameter max_tokens cannot be used with this model; max_completion_tokens "
                        "takes its place.",
                        "param": "max_tokens",
                        "code": "unsupported_parameter",
                    }
                },
            ),
            6,
            ({"has": "max_completion_tokens"}, 18),
            id="max_tokens, an error object with a message",
        ),
        pytest.param(
            {"has": "seed"},
            Reply(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
            6,
            ({"lacks": "seed"}, 18),
            id="seed, a list of objects under detail",
        ),
        pytest.param(
            {"has": "seed"},
            Reply(400, [{"error": {"code": 400, "message": 'Invalid JSON. Unknown name "seed": Cannot find field.'}}]),
            6,
            ({"lacks": "seed"}, 18),
            id="seed, a list with one error object",
        ),
        pytest.param(
            {"has": "seed"},
            Reply(400, {"error": {"message": "Provider returned error", "metadata": {"raw": OF_A_PROVIDER}}}),
            6,
            ({"lacks": "seed"}, 18),
            id="seed, JSON in a text under metadata",
        ),
        pytest.param(
            {"where": too_hot},
            Reply(400, {"error": "this model runs at temperature 1 and at no other"}),
            6,
            ({"lacks": "temperature"}, 16),
            id="temperature, an error that is a text",
        ),
        pytest.param(
            {"structure": "json_schema", "where": bounded},
            Reply(400, {"error": {"message": "Failed to initialize samplers: failed to parse grammar"}}),
            4,
            ({"structure": "json_schema"}, 10),
            id="lengths of texts in a schema",
        ),
        pytest.param(
            {"structure": "json_schema"},
            Reply(400, {"message": "response_format of type json_schema is unknown here; json_object is known"}),
            8,
            ({"structure": "json_object"}, 10),
            id="schemas, a text under message",
        ),
        pytest.param(
            {"role": "system"},
            Reply(400, {"object": "error", "message": "System role not supported", "type": "BadRequestError"}),
            6,
            ({"contains": "You score stories"}, 8),
            id="the system role",
        ),
    ],
)
def test_a_refusal_is_adapted_to_and_seldom_met_again(user, when, reply, most, then):
    """`then` is what at least so many requests are that are answered."""
    with Scripted((on(reply, **when),)) as server:
        done = user.collect(server, "--concurrency", "1")
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert 1 <= server.count(status=reply.status) <= most
    fitting, least = then
    assert server.count(status=200, **fitting) >= least


def test_without_a_system_role_its_words_go_before_the_users(user):
    """Some servers answer 500, with the exception of their chat template."""
    said = "Conversation roles must alternate user/assistant/user/assistant/... at row 3, column 9"
    with Scripted((on(Reply(500, {"error": {"code": 500, "message": said}}), role="system"),)) as server:
        done = user.collect(server, "--concurrency", "1", "--attempts", "3")
    assert done.code == 0
    assert len(done.scores) == 8
    experts = server.asked(stage="expert", status=200)
    assert sum(asked.said.startswith("You write of places.\n\nA user asked") for asked in experts) == 2
    assert server.count(status=500) <= 3


def test_several_parameters_are_refused_one_after_another(user):
    """A model that reasons, in three forms of body."""
    with Scripted(
        (
            refusal("max_tokens is not supported, use max_completion_tokens", has="max_tokens"),
            on(Reply(400, {"detail": "temperature does not support this value"}), has="temperature"),
            on(Reply(400, {"message": "unknown parameter seed"}), has="seed"),
        )
    ) as server:
        done = user.collect(server, "--concurrency", "1")
    assert done.code == 0
    assert len(done.scores) == 8
    assert server.count(status=400) <= 15
    assert server.count(status=200, lacks=("max_tokens", "temperature", "seed"), stage=STAGES) == 18


def test_a_server_without_any_structured_output_is_asked_in_words(user):
    """Schemas are refused in plain text, JSON of any form with an error that is a text."""
    with Scripted(
        (
            on(Reply(400, "failed to compile grammar", headers=PLAIN), structure="json_schema"),
            on(
                Reply(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}), structure="json_object"
            ),
        )
    ) as server:
        done = user.collect(server, "--concurrency", "1")
    assert done.code == 0
    assert len(done.scores) == 8
    assert server.count(status=400) <= 12
    assert server.count(status=200, stage=("gate", "judge"), lacks="response_format") == 10


def test_a_judge_without_log_probabilities_judges_all_the_same(user):
    reply = Reply(400, [{"error": {"code": 400, "message": "Logprobs is not enabled for models/judge"}}])
    with Scripted((on(reply, has="logprobs"),)) as server:
        done = user.collect(server, "--concurrency", "1", "--logprobs")
    assert done.code == 0
    assert len(done.scores) == 8
    assert 1 <= server.count(status=400) <= 3
    assert "refuses logprobs: it was asked without" in done.said


def test_what_a_server_refuses_is_learned_once_for_all_runs(user):
    """The first run stops at a limit of requests, the second goes on."""
    rule = refusal("max_tokens: use max_completion_tokens", model="writer", has="max_tokens")
    with Scripted((rule,)) as server:
        assert user.collect(server, "--concurrency", "1", "--max-requests", "9").code == 1
        assert 1 <= server.count(model="writer", status=400) <= 2
        before = len(server.log)
        done = user.collect(server, "--concurrency", "1", "--max-requests", "100")
    assert done.code == 0
    assert len(done.texts) == 8
    assert not [asked for asked in server.log[before:] if fits(asked, status=400)]


def test_the_data_card_says_what_was_sent_and_what_was_refused(user):
    """The judge takes no temperature: it judged at the server's own."""
    rule = refusal("temperature is not supported with this model", model="judge", has="temperature")
    with Scripted((rule,)) as server:
        options = ("--concurrency", "1", "--temperature", "0.4", "--judge-temperature", "0.9")
        done = user.collect(server, *options)
    assert done.code == 0
    assert len(done.scores) == 8
    assert "temperature 0.4" in done.card
    assert "refused by the server and not sent: temperature" in done.card
    assert "temperature 0.9" not in done.card


@pytest.mark.parametrize(
    ("reply", "said", "never"),
    [
        pytest.param(
            Reply(422, "input validation error: the ferret queue is closed", headers=PLAIN),
            "ferret queue is closed",
            (),
            id="plain text",
        ),
        pytest.param(
            Reply(400, PAGE, headers=HTML),
            "Request Header Or Cookie Too Large",
            ("<center>", "<html", "color:red"),
            id="a page of HTML",
        ),
        pytest.param(
            Reply(400, {"error": dict.fromkeys(("message", "type", "param", "code")), "detail": None, "message": None}),
            "400: the server gave no reason",
            ("None", "null"),
            id="nulls everywhere",
        ),
        pytest.param(Reply(400, "", headers=PLAIN), "400: the server gave no reason", (), id="an empty body"),
        pytest.param(
            Reply(
                400,
                {
                    "object": "error",
                    "message": "This model's maximum context length is 1024 tokens, and 1024 were asked for on top of "
                    "190 in the messages. Please ask for less.",
                    "code": 400,
                },
            ),
            "maximum context length is 1024",
            (),
            id="a context that is too short",
        ),
    ],
)
def test_a_reason_that_names_nothing_to_change_is_shown(user, reply, said, never):
    with Scripted((on(reply, stage="judge"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (8, 0)
    assert len(server.log) <= 40
    assert said in done.said
    assert said in done.card
    assert not [word for word in never if word in done.said]
