"""The stages of a collection: gate, then experts, then fusions; `local` beside them; a judgement of every text.

There is one pipeline, and what it is for is decided by `ask`: to send requests, to read them from the journal, or to
count what they would take. Each stage goes on as soon as what it needs is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from jaxmoe.collect.inputs import Prompt
from jaxmoe.collect.plan import Plan, judge_name
from jaxmoe.collect.requests import Answer, Request

Ask = Callable[[Request], Awaitable[Answer]]


@dataclass
class Collected:
    """Answers of all stages so far."""

    gate: dict[str, Answer] = field(default_factory=dict)  # by prompt
    texts: dict[tuple[str, int], Answer] = field(default_factory=dict)  # by prompt and subset
    scores: dict[tuple[str, int, str], Answer] = field(default_factory=dict)  # by prompt, subset and judge


async def run_pipeline(plan: Plan, ask: Ask, prompts_at_once: int) -> Collected:
    """Take all prompts through all stages, some at a time."""
    found, places = Collected(), asyncio.Semaphore(prompts_at_once)

    async def in_turn(prompt: Prompt) -> None:
        async with places:
            await _Writing(plan, prompt, ask, found).run()

    async with asyncio.TaskGroup() as tasks:
        for prompt in plan.prompts:
            tasks.create_task(in_turn(prompt))
    return found


class _Writing:
    """One prompt on its way."""

    def __init__(self, plan: Plan, prompt: Prompt, ask: Ask, found: Collected) -> None:
        self._plan, self._prompt, self._ask, self._found = plan, prompt, ask, found

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            if 0 in self._plan.subsets:
                self._tasks.create_task(self._write(0, self._plan.local(self._prompt)))
            if self._plan.singles:
                await self._write_with_experts()

    async def _write_with_experts(self) -> None:
        gate = self._found.gate[self._prompt.prompt_id] = await self._ask(self._plan.gate(self._prompt))
        if not gate.usable:
            return
        experts = [self._plan.experts[single.bit_length() - 1] for single in self._plan.singles]
        requests = [self._plan.passage(self._prompt, expert, gate.value[expert.name]) for expert in experts]
        passages = await asyncio.gather(*map(self._write, self._plan.singles, requests))
        written = {
            single: passage.text.strip()
            for single, passage in zip(self._plan.singles, passages, strict=True)
            if passage.usable
        }
        for subset in self._plan.subsets:
            parts = [text for single, text in written.items() if subset & single]
            if subset.bit_count() == len(parts) > 1:
                self._tasks.create_task(self._write(subset, self._plan.fusion(self._prompt, subset, parts)))

    async def _write(self, subset: int, request: Request) -> Answer:
        """A text, which goes to its judges while this returns."""
        answer = self._found.texts[self._prompt.prompt_id, subset] = await self._ask(request)
        if answer.usable and subset in self._plan.subsets:
            judges, samples = self._plan.settings.judges, range(1, self._plan.settings.samples + 1)
            for judge in judges:
                for sample in samples:
                    request = self._plan.judgement(self._prompt, subset, answer.text.strip(), judge, sample)
                    self._tasks.create_task(self._score(subset, judge_name(judge, judges, sample), request))
        return answer

    async def _score(self, subset: int, judge: str, request: Request) -> None:
        self._found.scores[self._prompt.prompt_id, subset, judge] = await self._ask(request)
