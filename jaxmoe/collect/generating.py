"""Writing one text with the experts that a policy chooses: gate, choice, passages, fusion."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxmoe.collect.answers import Task
from jaxmoe.collect.budget import Budget, load_prices
from jaxmoe.collect.client import Client, Limits
from jaxmoe.collect.collecting import on_a_loop, server_addresses
from jaxmoe.collect.inputs import Expert, Prompt
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.plan import Plan, Settings, make_plan
from jaxmoe.collect.requests import Answer, Request
from jaxmoe.collect.secrets import redacting_logs
from jaxmoe.errors import InputError
from jaxmoe.progress import SILENT, Display


class Decision(NamedTuple):
    """Which experts to ask, and why."""

    subset: int
    values: dict[int, float]  # of each subset, as far as the policy says
    meaning: str  # of these values


class Generated(NamedTuple):
    """A text and how it came to be."""

    text: str
    tasks: dict[str, Task]  # of the gate
    decision: Decision
    words: dict[str, int]  # of each passage
    requests: int
    cost_usd: float | None  # None: a price is unknown


# The gate's relevance of each expert -> which of them to ask.
Decide = Callable[[list[float]], Decision]


def generate_text(
    prompt: str,
    experts: tuple[Expert, ...],
    decide: Decide,
    settings: Settings,
    *,
    limits: Limits | None = None,
    report: Display = SILENT,
) -> Generated:
    """Let the gate split a prompt, ask the experts that `decide` chooses, and fuse what they write.

    Where it chooses none, the user's own device writes. Raises `InputError` if a model gives no usable answer.
    """
    if not prompt.strip():
        raise InputError("the prompt is empty; say what is to be written")
    plan = make_plan((Prompt("prompt", "train", prompt),), experts, settings)
    return on_a_loop(lambda: _generate(plan, decide, limits or Limits(), report))


async def _generate(plan: Plan, decide: Decide, limits: Limits, report: Display) -> Generated:
    [prompt] = plan.prompts
    with contextlib.closing(Journal(Path(":memory:"))) as journal, contextlib.ExitStack() as stack:
        budget = Budget(load_prices(), 0.0, 0, None, None)
        client = Client(journal, budget, limits, server_addresses(plan, stack, report), report)
        stack.enter_context(redacting_logs(client.secrets))
        try:
            report.stage("the gate splits the prompt")
            tasks = (await _usable(client, plan.gate(prompt))).value
            decision = decide([tasks[name].relevance for name in plan.names])
            chosen = [expert for bit, expert in enumerate(plan.experts) if decision.subset >> bit & 1]
            report.stage(f"writing: {', '.join(expert.name for expert in chosen) or 'the own device'}")
            passages = await asyncio.gather(
                *(_usable(client, plan.passage(prompt, expert, tasks[expert.name])) for expert in chosen)
            )
            texts = [passage.text.strip() for passage in passages]
            text = await _fused(client, plan, decision.subset, texts)
        finally:
            await client.close()
        totals = journal.totals()
    words = {expert.name: len(text.split()) for expert, text in zip(chosen, texts, strict=True)}
    return Generated(text, tasks, decision, words, totals.requests, None if totals.unpriced else totals.cost_usd)


async def _fused(client: Client, plan: Plan, subset: int, texts: list[str]) -> str:
    [prompt] = plan.prompts
    if len(texts) == 1:
        return texts[0]
    request = plan.fusion(prompt, subset, texts) if texts else plan.local(prompt)
    return (await _usable(client, request)).text.strip()


async def _usable(client: Client, request: Request) -> Answer:
    answer = await client.ask(request)
    if client.stopped is not None:
        raise client.stopped
    if not answer.usable:
        why = "; ".join([f"{answer.status}: {answer.error}", *client.given_up.values()])
        raise InputError(f"{request.endpoint} as {request.stage} gave no usable answer ({why})")
    return answer
