"""What a dry run counts, against the plan and against hand-made journals."""

import asyncio
import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from jaxmoe.collect.budget import Price, Prices
from jaxmoe.collect.estimate import GUESSED_TOKENS, Estimate, describe_estimates, estimate
from jaxmoe.collect.inputs import Expert, Prompt
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.plan import Settings, make_plan
from jaxmoe.collect.requests import DONE, INVALID, Answer

URL = "http://server/v1"
PROMPTS = tuple(Prompt(f"p{number}", "train", f"story {number}") for number in range(3))
EXPERTS = tuple(Expert(name, f"You are {name}.") for name in "abc")
PRICES = Prices("2026-01-01", {"writer": Price(1.0, 2.0), "judge": Price(3.0, 4.0), "small": Price(0.0, 0.0)})
GATE = json.dumps({name: {"subtask": "x", "relevance": 0.5} for name in "abc"})


def planned(**settings):
    common = {"model": "writer", "base_url": URL, "judge_models": ("judge",), "local_model": "small"}
    return make_plan(PROMPTS, EXPERTS, Settings(**common | settings))


@pytest.fixture
def journal():
    with closing(Journal(Path(":memory:"))) as opened:
        yield opened


def estimated(plan, journal, prices=PRICES):
    return asyncio.run(estimate(plan, journal, prices))


def settle(journal, request, **answer):
    journal.ask(request, 0.0, 1)
    journal.settle(request.key, Answer(**{"status": DONE} | answer))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"samples": 1},
        {"samples": 5, "judge_models": ("judge", "writer")},
        {"scale": "decimal"},
        {"max_subset_size": 1},
        {"max_subset_size": 2},
        {"subsets": "a"},
        {"subsets": "local, c+a"},
        {"subsets": "a,b,a+b", "scoring_prompt": "judge_wang"},
    ],
)
def test_with_an_empty_journal_the_counts_are_those_of_the_plan(settings, journal):
    plan = planned(**settings)
    counts = Counter()
    for row in estimated(plan, journal):
        assert row.answered == 0
        counts[row.stage] += row.requests
    assert counts == +Counter(plan.counts())


def test_counts_of_a_whole_table(journal):
    rows = estimated(planned(), journal)
    assert [(row.stage, row.requests) for row in rows] == [
        ("gate", 3),
        ("expert", 9),
        ("fusion", 3 * 4),
        ("local", 3),
        ("judge", 3 * 8 * 3),
    ]
    assert [row.model for row in rows] == [f"{model} at {URL}" for model in ("writer",) * 3 + ("small", "judge")]
    assert journal.rows() == []


def test_without_a_journal_lengths_are_guessed_and_bounded(journal):
    plan = planned(max_tokens=400)
    rows = {row.stage: row for row in estimated(plan, journal)}
    for stage, guessed in GUESSED_TOKENS.items():
        assert rows[stage].completion_tokens == rows[stage].requests * min(guessed, 400)
    assert rows["gate"].prompt_tokens == sum(plan.gate(prompt).estimated_prompt_tokens for prompt in PROMPTS)


def test_the_journals_answers_are_not_counted_and_their_lengths_are_expected(journal):
    plan = planned()
    settle(journal, plan.gate(PROMPTS[0]), text=GATE, completion_tokens=50)
    settle(journal, plan.local(PROMPTS[0]), text="one text", completion_tokens=111)
    settle(journal, plan.local(PROMPTS[1]), text="another text", completion_tokens=113)
    rows = {row.stage: row for row in estimated(plan, journal)}
    assert (rows["gate"].answered, rows["gate"].requests) == (1, 2)
    assert (rows["local"].answered, rows["local"].requests) == (2, 1)
    assert (rows["gate"].completion_tokens, rows["local"].completion_tokens) == (100, 112)
    assert rows["judge"].requests == 72


def test_what_was_under_way_is_counted_again(journal):
    plan = planned()
    journal.ask(plan.local(PROMPTS[0]), 0.1, 1)
    [local] = [row for row in estimated(plan, journal) if row.stage == "local"]
    assert (local.answered, local.requests) == (0, 3)


def test_nothing_comes_after_an_answer_of_no_use(journal):
    plan = planned()
    settle(journal, plan.gate(PROMPTS[0]), status=INVALID, text="no JSON")
    rows = {row.stage: row for row in estimated(plan, journal)}
    assert (rows["gate"].answered, rows["gate"].requests) == (1, 2)
    assert (rows["expert"].requests, rows["fusion"].requests) == (6, 8)
    assert rows["judge"].requests == (1 + 8 + 8) * 3


def test_costs_are_tokens_times_prices(journal):
    for row in estimated(planned(), journal):
        price = PRICES.models[row.model.split()[0]]
        cost = (row.prompt_tokens * price.input + row.completion_tokens * price.output) / 1e6
        assert row.cost_usd == pytest.approx(cost)
        assert row.cost_usd > 0 or row.stage == "local"


def test_the_small_model_of_this_machine_costs_nothing(journal):
    [local] = [row for row in estimated(planned(local_model=""), journal) if row.stage == "local"]
    assert local.cost_usd == 0.0


def test_an_unknown_price_is_unknown(journal):
    prices = Prices("2026-01-01", {"writer": Price(1.0, 2.0)})
    rows = estimated(planned(), journal, prices)
    assert {row.stage for row in rows if row.cost_usd is None} == {"local", "judge"}
    known = sum(row.cost_usd for row in rows if row.cost_usd is not None)
    lines = describe_estimates(rows, prices)
    assert [line.split()[0] for line in lines[:-1]] == ["gate", "expert", "fusion", "local", "judge", "all"]
    assert ["cost unknown" in line for line in lines[:5]] == [False, False, False, True, True]
    assert lines[5].endswith(f"99 requests, {known:.4f} US dollars and 75 requests of unknown price")


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        (
            [Estimate("gate", "m", 1, 2, 3_000, 40, 0.5), Estimate("judge", "m", 0, 5, 6, 7, 0.25)],
            "7 requests, 0.7500 US",
        ),
        ([Estimate("gate", "m", 2, 0, 0, 0, 0.0), Estimate("judge", "m", 5, 0, 0, 0, None)], "0 requests, nothing to"),
        ([Estimate("gate", "m", 2, 0, 0, 0, None), Estimate("judge", "m", 5, 1, 0, 0, 0.5)], "1 requests, 0.5000 US"),
    ],
)
def test_the_whole_in_words(rows, total):
    lines = describe_estimates(rows, PRICES)
    assert total in lines[-2]
    assert "unknown" not in lines[-2]
    assert "prices are those of 2026-01-01" in lines[-1]


def test_a_stage_in_words():
    line, *_ = describe_estimates([Estimate("gate", "m at U", 1, 2_000, 3_000, 40, 0.5)], PRICES)
    assert line == (
        "gate      2,000 requests (1 more are answered in the journal), 3,000 + 40 tokens, 0.5000 US dollars, m at U"
    )
