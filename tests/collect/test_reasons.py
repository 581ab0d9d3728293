"""Reasons read from whatever servers send, and what follows from them."""

import email.utils
import json
import math
import time

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from jaxmoe.collect.reasons import (
    CREDIT,
    CROWDED,
    FILTERED,
    KEY,
    LONGEST_REASON,
    MODEL,
    PASSING,
    PATH,
    PROXY,
    REFUSED,
    TROUBLE,
    Reason,
    meaning,
    of_content,
    of_words,
    read_reason,
    retry_after_s,
    shortened,
)

# ---- bodies


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "slow down", "type": "rate_limit"}}, "slow down"),
        ({"error": "slow down"}, "slow down"),
        ({"error": ["slow down", "please"]}, "slow down; please"),
        ({"error": {"error": {"message": "slow down"}}}, "slow down"),
        ({"errors": [{"message": "slow down"}, {"message": "please"}]}, "slow down; please"),
        ({"errors": [{"code": 10009, "message": "slow down"}], "success": False, "result": None}, "slow down"),
        ({"errors": {"seed": ["no", "never"], "top_p": "no"}}, "seed: no; never; top_p: no"),
        (
            {"error": {"message": "no", "details": [{"fieldViolations": [{"field": "seed", "description": "bad"}]}]}},
            "no; bad",
        ),
        ({"message": "slow down"}, "slow down"),
        ({"Message": "slow down"}, "slow down"),
        ({"object": "error", "message": "slow down", "type": "BadRequestError", "code": 400}, "slow down"),
        ({"detail": "slow down"}, "slow down"),
        ({"detail": {"error": "slow down"}}, "slow down"),
        ({"detail": {"message": "slow down"}}, "slow down"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "not permitted", "type": "extra"}]}, "seed: not permitted"),
        ({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "no"}]}, "messages.0.role: no"),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, "no"),
        ({"detail": [{"loc": ["body", "a"], "msg": "no"}, {"loc": ["query", "b"], "msg": "no"}]}, "a: no; b: no"),
        ({"msg": "slow down", "code": 1302}, "slow down"),
        ({"error_msg": "slow down", "error_code": 18}, "slow down"),
        ({"error": {"code": 503, "message": "slow down", "status": "UNAVAILABLE"}}, "slow down"),
        ([{"error": {"code": 429, "message": "slow down"}}], "slow down"),
        ({"error": {"message": ""}, "detail": "slow down"}, "slow down"),
        ({"error": {"message": None}, "message": "slow down"}, "slow down"),
        ({"error": None, "message": "slow down"}, "slow down"),
        ({"error": {}, "message": "slow down"}, "slow down"),
        ({"error": True, "message": "slow down"}, "slow down"),
        ({"error": {"message": "slow down", "metadata": {"raw": "busy"}}}, "slow down; busy"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "busy"}}'}}},
            "Provider returned error; busy",
        ),
        ({"error": {"message": "no", "innererror": {"message": "a filter"}}}, "no; a filter"),
        ({"error": {"message": "no", "inner_error": {"message": "no"}}}, "no"),
        ({"error": {"message": "no", "cause": "busy"}}, "no; busy"),
        ({"error": {"message": '{"error": {"message": "slow down"}}'}}, "slow down"),
        ({"error": '{"detail": "slow down"}'}, "slow down"),
        ({"error": {"message": "<html><body><h1>502 Bad Gateway</h1></body></html>"}}, "502 Bad Gateway"),
        ({"type": "about:blank", "title": "Too many", "status": 429, "detail": "slow down"}, "slow down"),
        ({"type": "about:blank", "title": "Too many", "status": 429}, "Too many"),
        ({"fault": {"faultstring": "slow down", "detail": {"errorcode": "x"}}}, "slow down"),
        ({"error": {"message": " slow\r\n\tdown\x00\x1b[31m \u2028now \ud800"}}, "slow down [31m now"),
        ({"error": {"code": 7}}, '{"error": {"code": 7}}'),
        ({"status": "Fehler", "größe": 3}, '{"status": "Fehler", "größe": 3}'),
        ({"error": None}, ""),
        ({"error": {"message": None}}, ""),
        ({"error": {"message": "", "code": None}}, ""),
        ({}, ""),
        ([], ""),
        ("slow down", "slow down"),
        ("", ""),
    ],
)
def test_what_json_says(body, message):
    found = read_reason(json.dumps(body), "application/json")
    assert found.message == message
    assert found.said == (message or "the server gave no reason")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "", ""),
        (" \r\n", "text/plain", ""),
        ("null", "application/json", ""),
        ("true", "application/json", ""),
        ("slow down", "text/plain", "slow down"),
        ("slow down", "application/json", "slow down"),
        ("slow\r\n\r\ndown\x07", "", "slow down"),
        ("404 page not found\n", "text/plain; charset=utf-8", "404 page not found"),
        ('{"error": {"message": "cut in the mid', "application/json", '{"error": {"message": "cut in the mid'),
        ('"slow down"', "application/json", "slow down"),
        ('"{\\"error\\": \\"slow down\\"}"', "application/json", "slow down"),
        ("[" * 50_000, "application/json", "[" * 50_000),
        (
            "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
            "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.25.1</center>\r\n</body>\r\n</html>",
            "text/html",
            "502 Bad Gateway; nginx/1.25.1",
        ),
        (
            "<!DOCTYPE html><html><head><style>b {color: red}</style><script>if (a < b) {}</script></head>"
            "<body><b>Sorry</b>&nbsp;&amp; bye</body></html>",
            "",
            "Sorry; & bye",
        ),
        ("<h1>busy", "", "busy"),
        ("busy <b>now</b>", "text/html", "busy; now"),
        ("3 < 4 and <b>", "text/plain", "3 < 4 and <b>"),
        ("<?xml version='1.0'?><Error><Code>403</Code><Message>busy</Message></Error>", "application/xml", "403; busy"),
    ],
)
def test_what_other_bodies_say(text, kind, message):
    assert read_reason(text, kind).message == message


def test_what_is_said_is_one_line_of_a_length_that_can_be_read():
    assert shortened("x" * LONGEST_REASON) == "x" * LONGEST_REASON
    assert shortened("x" * (LONGEST_REASON + 1)) == "x" * LONGEST_REASON + "..."


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"error": {"message": "no", "param": "seed"}}, ("seed",)),
        ({"error": {"message": "no", "param": None}}, ()),
        ({"error": {"message": "no", "param": 3}}, ()),
        ({"detail": [{"loc": ["body", "seed"], "msg": "no"}]}, ("seed",)),
        ({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "no"}]}, ("messages", "role")),
        ({"errors": [{"field": "seed"}, {"parameter": "top_p"}, {"field": "seed"}]}, ("seed", "top_p")),
        ({"error": {"metadata": {"raw": '{"error": {"param": "seed", "message": "no"}}'}}}, ("seed",)),
        ({"detail": [{"loc": ["body"], "msg": "no", "input": {"param": "seed"}}]}, ()),
        ({"error": "seed"}, ()),
        ({"errors": {"seed": ["no"], "top_p": ["no"]}}, ("seed", "top_p")),
        ({"detail": [{"loc": "seed", "msg": "no"}]}, ()),
    ],
)
def test_parameters_that_are_pointed_at(body, names):
    assert read_reason(json.dumps(body)).names == names


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({"error": {"message": "no", "code": "Model_Not_Found", "type": "invalid"}}, {"model_not_found", "invalid"}),
        ({"error": {"code": 404, "status": "NOT_FOUND"}}, {"not_found"}),
        ({"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}, {"responsibleaipolicyviolation"}),
        ({"error": {"details": [{"reason": "API_KEY_INVALID"}]}}, {"api_key_invalid"}),
        ({"error": {"code": None}}, set()),
    ],
)
def test_codes(body, codes):
    assert codes <= read_reason(json.dumps(body)).codes
    assert all(code == code.lower() for code in read_reason(json.dumps(body)).codes)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["error", "message", "detail", "loc", "msg", "errors", "metadata", "raw", "innererror"])
                | st.sampled_from(["param", "code", "type", "retryDelay", "cause", "Error", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@example({"loc": "text", "msg": "m"})
@example({"detail": [{"loc": [["deep"]], "msg": "m"}]})
@example({"metadata": "text"})
@example({"loc": 3, "msg": "m", "param": "p"})
def test_whatever_json_comes_it_is_read(content):
    for found in (of_content(content), read_reason(json.dumps(content))):
        assert found.message.isprintable()
        assert found.wait_s is None or found.wait_s >= 0


@given(st.text(max_size=200), st.sampled_from(["", "text/html", "application/json", "text/plain"]))
@example("<![if", "text/html")
@example("<html><![CDATA[", "text/html")
@example("<!", "text/html")
def test_whatever_text_comes_it_is_read(text, kind):
    assert read_reason(text, kind).message.isprintable()


# ---- waits


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1.2s. Visit https://x to learn more.", 1.2),
        ("Rate limit reached. Please try again in 350ms.", 0.35),
        ("Please retry in 33.5s.", 33.5),
        ("Please retry after 20 seconds", 20.0),
        ("retry after 2 minutes", 120.0),
        ("Try again in 1 hour", 3600.0),
        ("try again in 1h2m3s", 3723.0),
        ("Please wait 5 s and try again", 5.0),
        ("available again in 1 day", 86400.0),
        ("Limit resets in 15 min", 900.0),
        ("Too many requests; wait for 1000 milliseconds", 1.0),
        ("try again later", None),
        ("Please retry your request 3 times", None),
        ("at most 60 requests in 1 minute", None),
        ("the model has 8000 tokens, wait", None),
        ("", None),
    ],
)
def test_waits_in_words(message, wait_s):
    expected = None if wait_s is None else pytest.approx(wait_s)
    assert of_words(message).wait_s == expected
    assert read_reason(json.dumps({"error": {"message": message}})).wait_s == expected


@pytest.mark.parametrize(
    ("delay", "wait_s"), [("34.07s", 34.07), ("2s", 2.0), ("0s", 0.0), ("", None), ("soon", None), (34, None)]
)
def test_a_delay_beside_the_message_goes_first(delay, wait_s):
    details = [{"@type": "type.googleapis.com/google.rpc.Help"}, {"@type": "RetryInfo", "retryDelay": delay}]
    error = {"code": 429, "message": "Quota exceeded. Please retry in 9s.", "details": details}
    assert read_reason(json.dumps([{"error": error}])).wait_s == (9.0 if wait_s is None else wait_s)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.05"}, 0.05),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "7s"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:00 GMT"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after-ms": "soon"}, None),
    ],
)
def test_waits_in_headers(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_date_in_a_header_is_waited_for():
    for form in ({"usegmt": True}, {"usegmt": False}, {"localtime": True}):
        headers = {"retry-after": email.utils.formatdate(time.time() + 60, **form)}
        assert retry_after_s(headers) == pytest.approx(60.0, abs=2.0)


DATES = st.from_regex(
    r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d\d(:\d\d)? [+-]?\w{1,30}", fullmatch=True
)


@given(st.text(max_size=40) | DATES)
@example("Wed, 21 Oct 2015 07:28:00 +99999999999999999999999")
@example("Wed, 21 Oct 9999 23:59:59 -2300")
def test_whatever_the_header_says_there_is_a_time_or_none(text):
    for headers in ({"retry-after": text}, {"retry-after-ms": text}):
        seconds = retry_after_s(headers)
        assert seconds is None or (0 < seconds < math.inf)


# ---- meanings


def error(message, code=None, kind=None, **more):
    return {"error": {"message": message, "type": kind, "code": code, **more}}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
RATE = "Rate limit reached for m in organization org-1 on tokens per min (TPM): Limit 30000. Please try again in 6m0s."


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        # keys
        (401, error("Incorrect API key provided: sk-x.", "invalid_api_key"), KEY),
        (401, {"detail": "Unauthorized"}, KEY),
        (401, "", KEY),
        (401, error("insufficient credits"), KEY),
        (403, error("Your API key does not have permission to use this model."), KEY),
        (403, {"message": "Missing Authentication Token"}, KEY),
        (403, error("Missing scopes: model.request"), KEY),
        (403, "<html><head><title>403 Forbidden</title></head></html>", REFUSED),
        (403, error("Country, region, or territory not supported"), REFUSED),
        (407, "<h1>Proxy Authentication Required</h1>", PROXY),
        # accounts
        (429, error(QUOTA, "insufficient_quota", "insufficient_quota"), CREDIT),
        (402, error("Insufficient Balance", "invalid_request_error"), CREDIT),
        (402, "", CREDIT),
        (402, error("This request requires more credits, or fewer max_tokens."), CREDIT),
        (400, error("Your credit balance is too low to access the API."), CREDIT),
        (403, error("Your account is suspended, please recharge"), CREDIT),
        (429, error("Billing is not active", "billing_not_active"), CREDIT),
        (403, error("Access denied, account is in arrears", "Arrearage"), CREDIT),
        # too much at once
        (429, error(RATE, "rate_limit_exceeded", "tokens"), CROWDED),
        (429, error("Rate limit: no credits left this minute, 3 requests per minute"), CROWDED),
        (429, "", CROWDED),
        (429, {"detail": "Too Many Requests"}, CROWDED),
        (
            429,
            [{"error": {"code": 429, "message": f"{QUOTA} Please retry in 33.5s.", "status": "RESOURCE_EXHAUSTED"}}],
            CROWDED,
        ),
        (503, error("Loading model", 503, "unavailable_error"), CROWDED),
        (503, "<h1>503 Service Temporarily Unavailable</h1>", CROWDED),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, CROWDED),
        (500, {"error": "model is loading"}, CROWDED),
        (502, error("The model is overloaded"), CROWDED),
        # a request that no waiting makes smaller
        (429, error("Request too large for m on tokens per min (TPM): Limit 6000, Requested 9000."), REFUSED),
        # trouble and faults that pass
        (408, "", TROUBLE),
        (502, "<html><head><title>502 Bad Gateway</title></head></html>", TROUBLE),
        (504, "upstream request timeout", TROUBLE),
        (524, "error code: 524", TROUBLE),
        (500, error("The server had an error while processing your request."), PASSING),
        (501, "", PASSING),
        (505, "", PASSING),
        (409, error("conflict"), PASSING),
        # models and paths
        (404, error("The model `m` does not exist or you do not have access to it.", "model_not_found"), MODEL),
        (404, {"error": {"message": "model 'm' not found, try pulling it first"}}, MODEL),
        (404, {"object": "error", "message": "The model `m` does not exist.", "code": 404}, MODEL),
        (404, error("The API deployment for this resource does not exist.", "DeploymentNotFound"), MODEL),
        (400, error("Model Not Exist", "invalid_request_error"), MODEL),
        (400, error("m is not a valid model ID", 400), MODEL),
        (400, error("invalid model m"), MODEL),
        (404, "404 page not found", PATH),
        (404, {"detail": "Not Found"}, PATH),
        (404, "", PATH),
        (405, {"detail": "Method Not Allowed"}, PATH),
        (301, "<html><head><title>301 Moved Permanently</title></head></html>", PATH),
        (404, error("No endpoints found that support the requested parameters"), REFUSED),
        # filters
        (400, error("The response was filtered due to the prompt triggering a policy.", "content_filter"), FILTERED),
        (400, error("no", "x", innererror={"code": "ResponsibleAIPolicyViolation"}), FILTERED),
        (403, error("Your chosen model requires moderation and your input was flagged"), FILTERED),
        (400, error("Input data may contain inappropriate content.", "data_inspection_failed"), FILTERED),
        (451, "", FILTERED),
        # refusals
        (
            400,
            error("Unsupported parameter: 'max_tokens' is not supported with this model.", param="max_tokens"),
            REFUSED,
        ),
        (400, error("This model's maximum context length is 8192 tokens."), REFUSED),
        (400, error("model m does not support response_format"), REFUSED),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted"}]}, REFUSED),
        (413, "<h1>413 Request Entity Too Large</h1>", REFUSED),
        (400, "", REFUSED),
    ],
)
def test_what_an_error_means(status, body, found):
    text = body if isinstance(body, str) else json.dumps(body)
    assert meaning(status, read_reason(text), "m", None) == found


def test_a_header_that_asks_to_wait_speaks_against_an_empty_account():
    reason = of_words("You exceeded your current quota")
    assert meaning(429, reason, "m", None) == CREDIT
    assert meaning(429, reason, "m", 3.0) == CROWDED
    assert meaning(429, reason._replace(codes=frozenset({"insufficient_quota"})), "m", 3.0) == CREDIT


@given(st.integers(300, 599), st.text(max_size=60), st.sampled_from([None, 1.0]))
def test_every_error_means_something(status, text, wait_s):
    known = {KEY, CREDIT, PROXY, PATH, MODEL, CROWDED, TROUBLE, PASSING, FILTERED, REFUSED}
    assert meaning(status, of_words(text), "m", wait_s) in known
    assert meaning(status, Reason(), "m", wait_s) in known
