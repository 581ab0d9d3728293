"""Failures are counted by kind, and something is advised."""

import pytest

from jaxmoe.collect.failures import advice, failures


def row(status="failed", error="500: oh no", stage="judge"):
    return {"stage": stage, "status": status, "error": error}


def test_what_went_well_is_no_failure():
    assert failures([]) == []
    assert failures([row("done", ""), row("length", "")]) == []


def test_the_most_frequent_comes_first_and_stages_and_statuses_are_told_apart():
    rows = [row("refused", "no"), *[row(), row(stage="gate")] * 2, row(), row("invalid", "500: oh no"), row("done", "")]
    assert failures(rows) == [
        "3 x judge failed: 500: oh no",
        "2 x gate failed: 500: oh no",
        "1 x judge refused: no",
        "1 x judge invalid: 500: oh no",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("try again in 6.5s (request 1)", "try again in 17s (request 22)"),
        ("request req_011CSH abc", "request req_011DXY abc"),
        ("id 0f8fad5b-d9cb-469f-a165-70867728950e", "id 7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("the score is 11, it must be", "the score is 7.5, it must be"),
        ("not JSON (line 1 column 2 (char 1))", "not JSON (line 10 column 22 (char 133))"),
    ],
)
def test_reasons_that_differ_in_numbers_alone_are_one_and_the_first_is_shown(one, other):
    assert failures([row(error=one), row(error=other)]) == [f"2 x judge failed: {one}"]


def test_reasons_of_other_words_are_others():
    assert len(failures([row(error="model m is busy"), row(error="model n is busy"), row(error="busy")])) == 3


def test_what_was_cut_off_is_said_so():
    assert failures([row("asked", None)]) == ["1 x judge was cut off before an answer came"]


AGAIN = "The same command asks again what failed, and nothing that was answered."
FORM = "--retry-failed asks again what was refused or answered in a wrong form."
TOKENS = "More tokens (--max-tokens, --answer-tokens) or less reasoning (--request-param) may help."


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([], ["The same command goes on."]),
        ([row("done", "")], ["The same command goes on."]),
        ([row("failed")], [AGAIN]),
        ([row("asked", None)], [AGAIN]),
        ([row("refused", "I cannot.")], [FORM]),
        ([row("invalid", "not JSON")], [FORM]),
        ([row("invalid", "there is reasoning and no text")], [FORM, TOKENS]),
        ([row("invalid", "the judgement was cut at the limit of tokens (9)")], [FORM, TOKENS]),
        ([row("refused", "for no reason"), row("failed")], [AGAIN, FORM]),
        ([row("invalid", "the text is empty"), row("failed", "limit of tokens")], [AGAIN, FORM]),
    ],
)
def test_advice(rows, lines):
    assert advice(rows) == lines
