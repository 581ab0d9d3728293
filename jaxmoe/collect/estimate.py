"""What a collection would take, before anything is sent: the pipeline runs on the journal and on guesses."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxmoe.collect.answers import Task
from jaxmoe.collect.budget import Prices, in_dollars
from jaxmoe.collect.client import understood
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.pipeline import run_pipeline
from jaxmoe.collect.plan import Plan
from jaxmoe.collect.requests import DONE, Answer, Request

# Tokens of an answer, where the journal has none of the stage yet.
GUESSED_TOKENS = {"gate": 120, "expert": 250, "fusion": 500, "local": 300, "judge": 10}


class Estimate(NamedTuple):
    """Of the requests of one stage to one model that are still to be sent."""

    stage: str
    model: str
    answered: int  # in the journal
    requests: int  # still to be sent
    prompt_tokens: int  # of these
    completion_tokens: int
    cost_usd: float | None  # None: the price is unknown


async def estimate(plan: Plan, journal: Journal, prices: Prices) -> list[Estimate]:
    """Estimates by stage and model; lengths are those of the journal's answers, or guesses."""
    tokens = GUESSED_TOKENS | journal.mean_completion_tokens()
    asked: dict[tuple[str, str], list[tuple[Request, Answer | None]]] = {}

    async def ask(request: Request) -> Answer:
        known = journal.answered(request.key)
        asked.setdefault((request.stage, str(request.endpoint)), []).append((request, known))
        return understood(request, known) if known else _guess(request, plan.names, tokens[request.stage])

    await run_pipeline(plan, ask, prompts_at_once=1)
    return [_estimate(*key, asked[key], tokens, prices) for key in sorted(asked, key=_order)]


def describe_estimates(estimates: Sequence[Estimate], prices: Prices) -> list[str]:
    """A line for each stage and model, and one for the whole."""
    lines = [
        f"{row.stage:<7} {row.requests:>7,} requests ({row.answered:,} more are answered in the journal), "
        f"{row.prompt_tokens:,} + {row.completion_tokens:,} tokens, {_cost(row.cost_usd)}, {row.model}"
        for row in estimates
    ]
    costs = [row.cost_usd for row in estimates if row.requests]
    known = sum(cost for cost in costs if cost is not None)
    unpriced = sum(row.requests for row in estimates if row.cost_usd is None)
    total = in_dollars(known, unpriced)
    requests = sum(row.requests for row in estimates)
    lines.append(f"{'all':<7} {requests:>7,} requests, {total if requests else 'nothing to pay'}")
    return [*lines, f"Tokens are estimated; prices are those of {prices.date}, without taxes and discounts."]


def _guess(request: Request, experts: Sequence[str], tokens: float) -> Answer:
    """An answer of about the length that is to be expected; the key makes it differ from others."""
    if request.stage == "gate":
        return Answer(DONE, value=dict.fromkeys(experts, Task("words " * 6, 0.5)))
    return Answer(DONE, text=request.key + " word" * round(tokens * 0.75), value=5.0)


def _estimate(
    stage: str, model: str, asked: list[tuple[Request, Answer | None]], tokens: dict[str, float], prices: Prices
) -> Estimate:
    to_send = {request.key: request for request, known in asked if known is None}.values()
    prompt_tokens = sum(request.estimated_prompt_tokens for request in to_send)
    completion_tokens = round(sum(min(tokens[stage], request.parameters["max_tokens"]) for request in to_send))
    price = prices.of(asked[0][0].endpoint)
    cost_usd = None if price is None else price.of(prompt_tokens, completion_tokens)
    answered = sum(known is not None for _, known in asked)
    return Estimate(stage, model, answered, len(to_send), prompt_tokens, completion_tokens, cost_usd)


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return list(GUESSED_TOKENS).index(key[0]), key[1]


def _cost(cost_usd: float | None) -> str:
    return "cost unknown" if cost_usd is None else in_dollars(cost_usd)
