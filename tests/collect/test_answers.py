"""Replies are read as a whole or not at all; nothing is searched, clamped or filled."""

import json
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from jaxmoe.collect.answers import (
    MAX_SUBTASK,
    ReplyError,
    Task,
    Token,
    gate_form,
    gate_structure,
    judge_structure,
    parse_gate,
    parse_score,
    unbounded,
    weighted_score,
)

FENCED = '```json\n{"score": 7}\n```'
LETTERS = st.text('score0123456789eE+-."{}[]:, \n`', max_size=40)


@pytest.mark.parametrize(
    ("reply", "scale", "score"),
    [
        ('{"score": 7}', "integer", 7.0),
        ("7", "integer", 7.0),
        ("0", "integer", 0.0),
        ("10", "integer", 10.0),
        ("7.0", "integer", 7.0),
        ("1e1", "integer", 10.0),
        ('  {"score" :\n7}\n', "integer", 7.0),
        (FENCED, "integer", 7.0),
        (f"\n{FENCED}\n ", "integer", 7.0),
        ("```\n7\n```", "integer", 7.0),
        ("6.5", "decimal", 6.5),
        ('{"score": 6.25}', "decimal", 6.25),
        ('{"score": 10}', "decimal", 10.0),
        ("0.00", "decimal", 0.0),
        (f"5.{'0' * 60}", "integer", 5.0),
    ],
)
def test_a_score_is_read(reply, scale, score):
    found = parse_score(reply, scale)
    assert found == score
    assert type(found) is float


@pytest.mark.parametrize(
    ("reply", "scale", "message"),
    [
        ("10/10", "integer", "not JSON"),
        ("Score: 7", "integer", "not JSON"),
        ("7 out of 10", "integer", "not JSON"),
        ("7, 8", "integer", "not JSON"),
        ("07", "integer", "not JSON"),
        ("", "integer", "not JSON"),
        ("\u0667", "integer", "not JSON"),
        (f"Here it is:\n{FENCED}", "integer", "not JSON"),
        (f"{FENCED}\n{FENCED}", "integer", "not JSON"),
        ("```json\n7", "integer", "not JSON"),
        ("11", "integer", "the score is 11, it must be a whole number from 0 to 10"),
        ("-1", "integer", "the score is -1"),
        ("7.5", "integer", "the score is 7.5, it must be a whole number"),
        ("10.01", "decimal", "the score is 10.01, it must be a number from 0 to 10"),
        ("7.125", "decimal", "at most two decimals"),
        (f"7.{'0' * 60}1", "decimal", "at most two decimals"),
        ("1e-3", "decimal", "at most two decimals"),
        ("NaN", "decimal", "NaN is no number"),
        ("Infinity", "decimal", "Infinity is no number"),
        ('{"score": -Infinity}', "decimal", "-Infinity is no number"),
        ("true", "integer", "must be a whole number"),
        ('{"score": true}', "integer", "must be a whole number"),
        ("null", "integer", "must be a whole number"),
        ('"7"', "integer", "must be a whole number"),
        ('{"score": "7"}', "integer", "must be a whole number"),
        ('{"score": [7]}', "integer", "must be a whole number"),
        ("[7]", "integer", "must be a whole number"),
        ("{}", "integer", "exactly the field score"),
        ('{"Score": 7}', "integer", "exactly the field score"),
        ('{"score": 7, "why": "good"}', "integer", "exactly the field score"),
        ('{"score": 7, "score": 8}', "integer", "a name is there twice"),
        ("9" * 4_000, "integer", "it must be a whole number from 0 to 10"),
        ("9" * 40_000, "integer", "it must be a whole number from 0 to 10"),
        ("1e999999999", "decimal", "it must be a number from 0 to 10"),
        ("1e99999999999999999999", "decimal", "not JSON"),
        ("1e-999999999", "decimal", "it must be a number from 0 to 10"),
        ("[" * 100_000, "integer", "not JSON"),
    ],
)
def test_what_is_no_score_is_refused(reply, scale, message):
    with pytest.raises(ReplyError, match=message):
        parse_score(reply, scale)


@given(
    reply=st.one_of(st.text(), LETTERS, LETTERS.map('{{"score": {}}}'.format)),
    scale=st.sampled_from(["integer", "decimal"]),
)
@example(reply="1e-400", scale="decimal")
@example(reply="\ud800", scale="integer")
def test_whatever_the_reply_there_is_a_score_in_range_or_a_reply_error(reply, scale):
    try:
        score = parse_score(reply, scale)
    except ReplyError:
        return
    assert 0 <= score <= 10


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?([eE][+-]?[0-3])?", fullmatch=True, alphabet=st.characters(codec="ascii")
)


@given(text=NUMBERS, scale=st.sampled_from(["integer", "decimal"]))
@example(text="1000e-2", scale="integer")
@example(text="0.07e+2", scale="integer")
def test_a_number_is_a_score_exactly_if_it_is_on_the_scale(text, scale):
    value = Fraction(text)
    steps = value * (1 if scale == "integer" else 100)
    if 0 <= value <= 10 and steps.denominator == 1:
        assert parse_score(text, scale) == float(value)
    else:
        with pytest.raises(ReplyError):
            parse_score(text, scale)


# ---- the gate


def gate(**changes):
    """A right answer for the experts a and b, with some fields of a changed."""
    return {"a": {"subtask": "a storm", "relevance": 0.8} | changes, "b": {"subtask": " a ship ", "relevance": 0}}


def test_a_gate_is_read():
    assert parse_gate(json.dumps(gate()), ["b", "a"]) == {"b": Task("a ship", 0.0), "a": Task("a storm", 0.8)}
    assert parse_gate(f"```json\n{json.dumps(gate(relevance=1))}\n```", ["a", "b"])["a"] == Task("a storm", 1.0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("a storm", "not JSON"),
        ("[]", "exactly the experts a, b"),
        ('{"a": {"subtask": "a storm", "relevance": 0.8}}', "exactly the experts a, b"),
        (json.dumps(gate() | {"c": {"subtask": "a calm", "relevance": 0.1}}), "exactly the experts a, b"),
        (
            json.dumps(gate() | {"a": "a storm"}),
            "entry of a must be an object with exactly the fields subtask and relevance",
        ),
        (
            json.dumps(gate() | {"a": {"subtask": "a storm"}}),
            "entry of a must be an object with exactly the fields subtask and relevance",
        ),
        (json.dumps(gate(why="it fits")), "entry of a must be an object with exactly the fields subtask and relevance"),
        (json.dumps(gate(subtask="")), "subtask of a is '', it must be a text of whole characters that is not empty"),
        (json.dumps(gate(subtask=" \n")), "subtask of a is ' .n', it must be a text"),
        (json.dumps(gate(subtask="a\0b")), "subtask of a is 'a.x00b', it must be a text"),
        (
            json.dumps(gate(subtask="x" * 20_001)),
            "it must be a text of whole characters that is not empty, at most 20,000",
        ),
        (json.dumps(gate(subtask=7)), "subtask of a is 7, it must be a text"),
        (json.dumps(gate(relevance=1.01)), "relevance of a is 1.01, it must be a number from 0 to 1"),
        (json.dumps(gate(relevance=-0.1)), "relevance of a is -0.1"),
        (json.dumps(gate(relevance="0.5")), "relevance of a is '0.5', it must be a number"),
        (json.dumps(gate(relevance=True)), "relevance of a is True"),
        (json.dumps(gate(relevance=None)), "relevance of a is None"),
        (json.dumps(gate(relevance=float("nan"))), "NaN is no number"),
        (json.dumps(gate()).replace('"b"', '"a"'), "a name is there twice"),
    ],
)
def test_what_is_no_answer_of_a_gate_is_refused(reply, message):
    with pytest.raises(ReplyError, match=message):
        parse_gate(reply, ["a", "b"])


# ---- schemas


def test_the_form_that_a_gate_is_told_is_one_that_is_read():
    assert parse_gate(gate_form(["a", "b"]), ["a", "b"]) == dict.fromkeys(["a", "b"], Task("...", 0.5))


def test_schemas_ask_for_what_is_read():
    judge, gate_ = judge_structure("integer"), gate_structure(["a", "b"])
    assert judge.schema["properties"]["score"]["enum"] == list(range(11))
    assert [judge.parse(f'{{"score": {score}}}') for score in judge.schema["properties"]["score"]["enum"]] == list(
        range(11)
    )
    assert judge_structure("decimal").parse('{"score": 6.5}') == 6.5
    for schema in (judge.schema, gate_.schema, gate_.schema["properties"]["a"]):
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    for relevance in gate_.schema["properties"]["a"]["properties"]["relevance"]["enum"]:
        assert gate_.parse(json.dumps(gate(relevance=relevance)))["a"].relevance == relevance


def test_unbounded_leaves_out_lengths_and_nothing_else():
    schema = gate_structure(["a", "b"]).schema
    before = json.dumps(schema)
    found = json.dumps(unbounded(schema))
    assert before.count("maxLength") == 2
    assert found == before.replace(f', "maxLength": {MAX_SUBTASK}', "")
    assert json.dumps(schema) == before


# ---- scores by log-probabilities


def reply(*tokens):
    """Tokens of a reply; a text alone is certain."""
    return [Token(token, {token: 1.0}) if isinstance(token, str) else Token(*token) for token in tokens]


@pytest.mark.parametrize(
    ("tokens", "score"),
    [
        (reply('{"score": ', ("7", {"7": 0.75, "8": 0.25}), "}"), 7.25),
        (reply('{"', "score", ('": 7', {'": 7': 0.5, '": 3': 0.5}), "}"), 5.0),
        (reply('{"score": 7}'), 7.0),
        (reply(("7", {"7": 0.5, "5": 0.5})), 6.0),
        (reply('{"score": ', ("7", {"7": 0.96, "seven": 0.04}), "}"), 7.0),
        (reply('{"score": ', ("7", {"7": 0.96, "11": 0.04}), "}"), 7.0),
        # "10" as one token: then "1" is 1
        (reply('{"score": ', ("10", {"10": 0.75, "1": 0.25}), "}"), 7.75),
        (reply('{"score": ', ("9", {"9": 0.5, "10}": 0.25, "1": 0.25}), "}"), 7.25),
        # "10" as two tokens: the second says how often "1" goes on
        (reply('{"score": ', ("1", {"1": 0.6, "9": 0.4}), ("0", {"0": 0.5, "}": 0.5}), "}"), 6.9),
        (reply('{"score": ', ("1", {"1": 1.0}), ("}", {"}": 0.75, "0}": 0.25})), 3.25),
        # the reply did not go on from "1", and what it is worth is not known
        (reply('{"score": ', ("9", {"9": 0.9, "1": 0.1}), "}"), None),
        (reply('{"score": ', ("9", {"9": 0.96, "1": 0.04}), "}"), 9.0),
        # too little of the probability is named
        (reply('{"score": ', ("7", {"7": 0.5, "8": 0.44}), "}"), None),
        (reply('{"score": ', ("7", {}), "}"), None),
        (reply("seven"), None),
        (reply('{"points": ', "7", "}"), None),
        ([], None),
    ],
)
def test_weighted_score(tokens, score):
    assert weighted_score(tokens) == (None if score is None else pytest.approx(score, abs=1e-12))


@given(st.dictionaries(st.sampled_from("023456789"), st.integers(1, 100), min_size=1))
def test_a_weighted_score_is_the_mean_of_single_digits(weights):
    total = sum(weights.values())
    token = Token(next(iter(weights)), {digit: weight / total for digit, weight in weights.items()})
    mean = sum(int(digit) * weight for digit, weight in weights.items()) / total
    assert weighted_score([Token('{"score": ', {}), token, Token("}", {})]) == pytest.approx(mean)
