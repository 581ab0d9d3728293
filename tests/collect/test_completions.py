"""Replies of status 200 in the forms that compatible servers give them."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from jaxmoe.collect.completions import ErrorInside, RetryError, StrangeError, read_completion
from jaxmoe.collect.requests import ANSWERED, DONE, INVALID, LENGTH, REFUSED

STREAM = "text/event-stream; charset=utf-8"


def body(message="Once.", finish="stop", **fields):
    """A completion as text; `message` is a content or a whole message."""
    message = message if isinstance(message, dict) else {"role": "assistant", "content": message}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields})


def events(*parts, end="\n\n", done=True):
    """A stream of pieces."""
    lines = [f"data: {part if isinstance(part, str) else json.dumps(part)}{end}" for part in parts]
    return "".join([*lines, f"data: [DONE]{end}"] if done else lines)


def piece(delta, finish=None, **fields):
    delta = delta if isinstance(delta, dict) else {"content": delta}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}


# ---- texts


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ("Once.", "Once.", ""),
        (" Once.\n", " Once.\n", ""),
        ("A key sk-1 <b>", "A key sk-1 <b>", ""),
        ([{"type": "text", "text": "On"}, {"type": "text", "text": "ce."}], "Once.", ""),
        ([{"type": "output_text", "text": "Once."}], "Once.", ""),
        ([{"text": "Once."}], "Once.", ""),
        (["On", "ce."], "Once.", ""),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": "b"}], "b", "a"),
        ([{"type": "reasoning", "text": "a"}, {"type": "text", "text": "b"}], "b", "a"),
        ([{"type": "text", "text": None}, None, 3, {"type": "text", "text": "b"}], "b", ""),
        ("<think>a</think>b", "b", "a"),
        ("half \ud800 of", "half \ufffd of", ""),
    ],
)
def test_a_text_and_its_reasoning(content, text, reasoning):
    found = read_completion(body(content))
    assert (found.status, found.text, found.reasoning, found.error) == (DONE, text, reasoning, "")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_beside_the_content(name):
    found = read_completion(body({"content": "b", name: "a"}))
    assert (found.text, found.reasoning) == ("b", "a")
    found = read_completion(body({"content": "<think>a</think>b", name: "a"}))
    assert (found.text, found.reasoning) == ("b", "a")
    found = read_completion(body({"content": "b", name: None}))
    assert (found.text, found.reasoning) == ("b", "")


def test_the_same_reasoning_in_two_fields_is_there_once():
    found = read_completion(body({"content": "b", "reasoning": "a", "reasoning_content": "a"}))
    assert found.reasoning == "a"


@pytest.mark.parametrize(
    ("fields", "model", "fingerprint"),
    [
        ({"model": "m-1", "system_fingerprint": "fp"}, "m-1", "fp"),
        ({"model": None}, "", ""),
        ({}, "", ""),
        ({"model": {"id": 1}, "system_fingerprint": [2]}, "{'id': 1}", "[2]"),
    ],
)
def test_what_the_server_says_of_itself(fields, model, fingerprint):
    found = read_completion(body(**fields))
    assert (found.returned_model, found.fingerprint) == (model, fingerprint)


# ---- ends


@pytest.mark.parametrize(
    ("finish", "status", "error"),
    [
        ("stop", DONE, ""),
        ("STOP", DONE, ""),
        ("eos", DONE, ""),
        ("end_turn", DONE, ""),
        ("FINISH_REASON_STOP", DONE, ""),
        ("COMPLETE", DONE, ""),
        ("stop_sequence", DONE, ""),
        (None, DONE, ""),
        ("", DONE, ""),
        ("length", LENGTH, ""),
        ("max_tokens", LENGTH, ""),
        ("MAX_TOKENS", LENGTH, ""),
        ("FINISH_REASON_MAX_TOKENS", LENGTH, ""),
        ("max_output_tokens", LENGTH, ""),
        ("model_length", LENGTH, ""),
        ("content_filter", REFUSED, "stopped by the server's filter (finish reason content_filter)"),
        ("SAFETY", REFUSED, "stopped by the server's filter (finish reason SAFETY)"),
        ("RECITATION", REFUSED, "stopped by the server's filter (finish reason RECITATION)"),
        ("PROHIBITED_CONTENT", REFUSED, "stopped by the server's filter (finish reason PROHIBITED_CONTENT)"),
        ("BLOCKLIST", REFUSED, "stopped by the server's filter (finish reason BLOCKLIST)"),
        ("sensitive", REFUSED, "stopped by the server's filter (finish reason sensitive)"),
        ("refusal", REFUSED, "stopped by the server's filter (finish reason refusal)"),
        ("guardrail_intervened", REFUSED, "stopped by the server's filter (finish reason guardrail_intervened)"),
        ("tool_calls", INVALID, "this is no text (finish reason tool_calls)"),
        ("function_call", INVALID, "this is no text (finish reason function_call)"),
        ("MALFORMED_FUNCTION_CALL", INVALID, "this is no text (finish reason MALFORMED_FUNCTION_CALL)"),
        ("OTHER", INVALID, "this is no text (finish reason OTHER)"),
    ],
)
def test_how_a_text_ended(finish, status, error):
    found = read_completion(body(finish=finish))
    assert (found.status, found.error, found.finish_reason) == (status, error, finish or "")
    assert found.text == ("Once." if status in (DONE, LENGTH) else "")


@pytest.mark.parametrize(
    "finish",
    ["error", "ERROR", "abort", "cancelled", "insufficient_system_resource", "network_error", "time_limit", "timeout"],
)
def test_a_text_that_a_fault_ended_is_asked_again(finish):
    with pytest.raises(RetryError, match=rf"the server ended the text early \(finish reason {finish}\)") as caught:
        read_completion(body(finish=finish))
    assert not caught.value.unpaid


@pytest.mark.parametrize(
    ("message", "finish", "status", "error"),
    [
        ({"content": None, "refusal": "I cannot."}, "stop", REFUSED, "I cannot."),
        ({"content": "Once.", "refusal": "I cannot."}, "stop", REFUSED, "I cannot."),
        ({"content": "", "refusal": ["no"]}, "stop", REFUSED, "['no']"),
        ({"content": None}, "stop", INVALID, "the text is empty"),
        ({}, "stop", INVALID, "the text is empty"),
        ({"content": " \n"}, "stop", INVALID, "the text is empty"),
        ({"content": []}, "stop", INVALID, "the text is empty"),
        ({"content": {"a": 1}}, "stop", INVALID, "the text is empty"),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", INVALID, "this is no text (finish reason tool_calls)"),
        ({"content": None, "reasoning": "a"}, "stop", INVALID, "there is reasoning and no text"),
        ({"content": "<think>a</think>"}, "stop", INVALID, "there is reasoning and no text"),
        (
            {"content": None, "reasoning": "a"},
            "length",
            INVALID,
            "there is reasoning and no text (it was cut at the limit of tokens, finish reason length)",
        ),
        (
            {"content": ""},
            "length",
            INVALID,
            "the text is empty (it was cut at the limit of tokens, finish reason length)",
        ),
        (
            {"content": "<think>a"},
            "length",
            INVALID,
            "the answer was cut while the model was reasoning (finish reason length)",
        ),
        (
            {"content": "<think>a"},
            None,
            INVALID,
            "the answer was cut while the model was reasoning (no finish reason)",
        ),
    ],
)
def test_what_is_no_text(message, finish, status, error):
    found = read_completion(body(message, finish))
    assert (found.status, found.error, found.text.strip()) == (status, error, "")


# ---- usage


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}, (40, 20)),
        ({"prompt_tokens": 40, "completion_tokens": 20}, (40, 20)),
        ({"input_tokens": 40, "output_tokens": 20}, (40, 20)),
        ({"prompt_tokens": 40, "output_tokens": 20}, (40, 20)),
        ({"prompt_tokens": None, "input_tokens": 40, "completion_tokens": 20}, (40, 20)),
        ({"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 560}, (40, 520)),  # of which it reasoned 500
        ({"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 50}, (40, 20)),
        (
            {"prompt_tokens": 40, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 500}},
            (40, 520),
        ),
        (
            {"prompt_tokens": 40, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 15}},
            (40, 20),
        ),
        ({"prompt_tokens": 40, "completion_tokens": 20, "completion_tokens_details": [3]}, (40, 20)),
        ({"prompt_tokens": 40, "total_tokens": 60}, (40, 20)),
        ({"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 60}, (40, 20)),
        ({"prompt_tokens": 40.0, "completion_tokens": 20.0}, (40, 20)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (None, None)),
        ({"prompt_tokens": 40, "completion_tokens": 0}, (40, None)),
        ({"prompt_tokens": 40}, (40, None)),
        ({"total_tokens": 60}, (None, None)),
        ({"prompt_tokens": "40", "completion_tokens": "20"}, (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": -20}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": False}, (None, None)),
        ({"prompt_tokens": 1e300, "completion_tokens": 2**60}, (None, None)),
        ({"prompt_tokens": [40], "completion_tokens": {}}, (None, None)),
        ({}, (None, None)),
        (None, (None, None)),
        ([40, 20], (None, None)),
        ("60", (None, None)),
    ],
)
def test_usage(usage, tokens):
    found = read_completion(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == tokens
    streamed = read_completion(events(piece("Once.", "stop"), {"choices": [], "usage": usage}), STREAM)
    assert (streamed.prompt_tokens, streamed.completion_tokens) == tokens


def test_usage_of_no_number():
    text = body(usage={"prompt_tokens": 1, "completion_tokens": 2}).replace(" 1,", " NaN,").replace(": 2", ": Infinity")
    found = read_completion(text)
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)


# ---- what is no completion


@pytest.mark.parametrize(
    ("text", "kind", "said", "strange"),
    [
        ("", "application/json", "the server sent an empty answer", False),
        (" \n", "text/plain", "the server sent an empty answer", False),
        ('{"choices": [', "application/json", 'something that is no completion: {"choices": \\[', False),
        ("ok", "text/plain", "something that is no completion: ok", True),
        ("x" * 5000, "text/plain", "something that is no completion$", True),
        ("null", "application/json", "something that is no completion$", True),
        ("[]", "application/json", "something that is no completion", True),
        ("[1, 2]", "application/json", "something that is no completion", True),
        ('"Once."', "application/json", "something that is no completion: Once.", True),
        ("[" * 100_000, "application/json", "something that is no completion$", True),
        ("<html><title>Sign in</title></html>", "text/html", "a page of HTML in place of an answer: Sign in", True),
        ("<!doctype html><h1>Welcome</h1>", "application/json", "a page of HTML in place of an answer: Welcome", True),
        ("Welcome", "text/html", "a page of HTML in place of an answer: Welcome", True),
        ("{}", "application/json", "a completion without choices$", True),
        ('{"choices": []}', "application/json", "a completion without choices$", False),
        ('{"choices": null}', "application/json", "a completion without choices$", False),
        ('{"choices": {}}', "application/json", "a completion without choices$", False),
        ('{"choices": "Once."}', "application/json", "a completion without choices$", False),
        ('{"choices": ["Once."]}', "application/json", "a completion without choices$", False),
        (
            '{"choices": [], "prompt_filter_results": [{}]}',
            "application/json",
            "without choices, perhaps because of a content filter",
            False,
        ),
        ('{"choices": [{"text": "Once."}]}', "application/json", "a choice without a message", False),
        ('{"choices": [{"message": "Once."}]}', "application/json", "a choice without a message", False),
        ('{"choices": [{"message": null}]}', "application/json", "a choice without a message", False),
        ('{"choices": [{"message": {}, "error": {"message": "busy"}}]}', "application/json", "^busy$", False),
        ('{"choices": [{"message": {}}], "error": "busy"}', "application/json", "^busy$", False),
    ],
)
def test_what_is_no_completion_is_asked_again(text, kind, said, strange):
    with pytest.raises(RetryError, match=said) as caught:
        read_completion(text, kind)
    assert isinstance(caught.value, StrangeError) == strange
    assert caught.value.unpaid == ("HTML" in str(caught.value))


@pytest.mark.parametrize(
    "content",
    [
        {"choices": [], "message": "busy"},
        {"detail": "busy"},
        {"error_code": 17, "error_msg": "busy"},
        {"success": False, "errors": [{"code": 7000, "message": "busy"}], "result": None},
        {"choices": None, "base_resp": {"status_code": 1013, "status_msg": "busy"}},
    ],
)
def test_a_reply_without_choices_that_says_why_is_an_error(content):
    with pytest.raises(ErrorInside, match="busy"):
        read_completion(json.dumps(content))


def test_a_completion_in_a_list_is_one():
    assert read_completion(f"[{body()}]").text == "Once."


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ({"message": "busy", "code": 429}, 429, "busy"),
        ({"message": "busy", "code": "503"}, 503, "busy"),
        ({"message": "busy", "status": 404}, 404, "busy"),
        ({"message": "busy", "code": "rate_limit"}, 500, "busy"),
        ({"message": "busy", "code": 200}, 500, "busy"),
        ({"message": "busy", "code": True}, 500, "busy"),
        ({"message": "busy"}, 500, "busy"),
        ("busy", 500, "busy"),
        (["busy"], 500, "busy"),
    ],
)
@pytest.mark.parametrize("choices", [{}, {"choices": []}, {"choices": None}])
def test_an_error_inside_status_200(error, status, said, choices):
    for text, kind in (
        (json.dumps({"error": error, **choices}), "application/json"),
        (events({"error": error}), STREAM),
    ):
        with pytest.raises(ErrorInside) as caught:
            read_completion(text, kind)
        assert (caught.value.status, caught.value.reason.said) == (status, said)


# ---- streams


@pytest.mark.parametrize("kind", [STREAM, "application/json", ""])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n", "\r"])
def test_a_stream_is_the_text_that_it_makes(kind, end):
    text = events(
        piece({"role": "assistant", "content": ""}, model="m-1", system_fingerprint="fp"),
        piece("On"),
        piece({"content": None}),
        piece("ce."),
        piece({}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 20}},
        end=end,
    )
    found = read_completion(text, kind)
    assert (found.status, found.text, found.finish_reason) == (DONE, "Once.", "stop")
    assert (found.returned_model, found.fingerprint) == ("m-1", "fp")
    assert (found.prompt_tokens, found.completion_tokens) == (40, 20)


def test_comments_and_other_fields_of_a_stream_are_left_out():
    text = ": PROCESSING\n\nevent: message\nid: 7\nretry: 10\n" + events(piece("Once."), piece({}, "stop")) + ":\n"
    assert read_completion(text, STREAM).text == "Once."
    assert read_completion(text.replace("data: ", "data:"), STREAM).text == "Once."
    assert read_completion(text.replace("data: [DONE]", "data:\n\ndata: [DONE]"), STREAM).text == "Once."


def test_a_stream_may_end_without_a_last_line_or_without_a_finish_reason():
    assert read_completion(events(piece("Once."), piece({}, "stop"), done=False), STREAM).status == DONE
    assert read_completion(events(piece("Once.", "length"), done=False), STREAM).status == LENGTH
    assert read_completion(events(piece("Once.")), STREAM).status == DONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (events(piece("On"), done=False), "ended before its text did"),
        ("", "ended before its text did"),
        (": PROCESSING\n\n", "ended before its text did"),
        (events(piece("On"), '{"choices": [{"del'), "is damaged"),
        (events(), "a completion without choices"),
        (events(piece("On"), piece({}, "error")), r"ended the text early \(finish reason error\)"),
        (events(piece("On"), {"choices": [{"delta": {}, "error": {"message": "busy"}}]}), "^busy$"),
    ],
)
def test_a_stream_that_is_not_whole_is_asked_again(text, said):
    with pytest.raises(RetryError, match=said):
        read_completion(text, STREAM)


def test_an_error_in_the_middle_of_a_stream():
    text = events(piece("On"), {"error": {"message": "busy", "code": 503}, "choices": []})
    with pytest.raises(ErrorInside) as caught:
        read_completion(text, STREAM)
    assert (caught.value.status, caught.value.reason.said) == (503, "busy")


def test_what_is_beside_the_text_of_a_stream():
    thought = events(piece({"reasoning_content": "a "}), piece({"reasoning_content": "b"}), piece("c", "stop"))
    assert read_completion(thought, STREAM).reasoning == "a b"
    refused = read_completion(events(piece({"refusal": "I "}), piece({"refusal": "cannot."}, "stop")), STREAM)
    assert (refused.status, refused.error) == (REFUSED, "I cannot.")
    other = {"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]}
    assert read_completion(events(other, piece({}, "stop")), STREAM).text == "yes"
    whole = {"choices": [{"index": 0, "message": {"content": "Once."}, "finish_reason": "stop"}]}
    assert read_completion(events(whole), STREAM).text == "Once."
    parts = piece({"content": [{"type": "text", "text": "Once."}]}, "stop")
    assert read_completion(events(parts), STREAM).text == "Once."


def token(text, **shares):
    """A token and the logarithms of its alternatives' probabilities."""
    top = [{"token": name, "logprob": value} for name, value in shares.items()]
    return {"token": text, "logprob": -1.0, "top_logprobs": top}


def test_log_probabilities_make_a_weighted_score_also_in_a_stream():
    tokens = [token('{"score": '), {**token("7"), "top_logprobs": [{"token": "7", "logprob": 0.0}]}, token("}")]
    choice = {"message": {"content": '{"score": 7}'}, "finish_reason": "stop", "logprobs": {"content": tokens}}
    assert read_completion(json.dumps({"choices": [choice]})).weighted_score == 7.0
    parts = [piece(part["token"]) for part in tokens]
    for part, one in zip(parts, tokens, strict=True):
        part["choices"][0]["logprobs"] = {"content": [one]}
    assert read_completion(events(*parts, piece({}, "stop")), STREAM).weighted_score == 7.0


# ---- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["stop", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "error",
                    "usage",
                    "finish_reason",
                    "logprobs",
                    "index",
                    "code",
                ]
            )
            | st.sampled_from(
                ["type", "text", "refusal", "prompt_tokens", "total_tokens", "reasoning", "top_logprobs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@example({"choices": [{"message": {}, "logprobs": {"content": 3}}]})
@example({"choices": [{"message": {}, "logprobs": {"content": {"a": 1}}}]})
@example({"choices": [{"delta": {}, "logprobs": {"content": 3}}]})
@example({"choices": 3})
@example({"choices": [{"message": {"content": {"type": ["text"]}}}]})
@example({"choices": [{"message": {"content": [{"type": ["text"]}]}}]})
@example({"choices": [{"message": {"content": [{"thinking": {"thinking": "a"}}]}}]})
@example({"choices": [{"message": {}, "finish_reason": {"a": 1}}]})
@example({"choices": [{"delta": {"content": "a"}, "finish_reason": {"a": 1}}]})
def test_whatever_json_comes_it_is_an_answer_or_an_error(content):
    for wrapped in (content, {"choices": [content]}, {"choices": [{"message": content}]}):
        for text, kind in ((json.dumps(wrapped), "application/json"), (events(wrapped), STREAM)):
            try:
                found = read_completion(text, kind)
            except (RetryError, ErrorInside):
                continue
            assert found.status in ANSWERED
            assert (found.error == "") == (found.status in (DONE, LENGTH))


@given(st.text(max_size=100), st.sampled_from(["", "application/json", "text/html", STREAM]))
@example("data:", "")
@example("data: [DONE]", "")
@example("data: 3\n\ndata: [DONE]", STREAM)
def test_whatever_text_comes_it_is_no_completion(text, kind):
    with pytest.raises((RetryError, ErrorInside)):
        read_completion(text, kind)
