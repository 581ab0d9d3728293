"""Raw records of a collection, in the form that `jaxmoe.load_table` reads: what is there so far, nothing filled."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxmoe.collect.pipeline import Collected
from jaxmoe.collect.plan import Plan
from jaxmoe.collect.requests import Answer
from jaxmoe.files import write_bytes, write_text
from jaxmoe.names import csv_file, visible
from jaxmoe.table.records import subset_name

SHOWN_REPLY = 10_000  # characters of a judge's reply that is no score


def write_records(folder: Path, plan: Plan, found: Collected) -> None:
    """Write ``prompts.csv, experts.json, gate.csv, texts.jsonl, scores.csv``, each whole."""
    names = plan.names
    _write_csv(folder / "prompts.csv", ("prompt_id", "split", "prompt"), plan.prompts)
    experts = [
        {"expert": name, **{key: value for key, value in rest.items() if value is not None}}
        for name, rest in ((expert.name, _without_name(expert._asdict())) for expert in plan.experts)
    ]
    write_text(folder / "experts.json", json.dumps(experts, indent=1, ensure_ascii=False) + "\n")
    tasks = [
        (prompt_id, name, task.subtask, f"{task.relevance:g}")
        for prompt_id, answer in _in_order(plan, found.gate)
        if answer.usable
        for name, task in answer.value.items()
    ]
    _write_csv(folder / "gate.csv", ("prompt_id", "expert", "subtask", "relevance"), tasks)
    texts = [
        _text_row(prompt_id, subset_name(subset, names), answer)
        for (prompt_id, subset), answer in _in_order(plan, found.texts)
        if answer.usable
    ]
    write_text(folder / "texts.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in texts))
    header = ("prompt_id", "experts", "judge", "score", "weighted_score", "status", "error", "reply")
    scores = [
        _score_row(prompt_id, subset_name(subset, names), judge, answer)
        for (prompt_id, subset, judge), answer in _in_order(plan, found.scores)
    ]
    _write_csv(folder / "scores.csv", header, scores)


def _text_row(prompt_id: str, experts: str, answer: Answer) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "experts": experts,
        "text": answer.text.strip(),
        "model": answer.returned_model,
        "finish_reason": answer.finish_reason,
        "completion_tokens": answer.completion_tokens,
        "latency_s": round(answer.latency_s, 3),
    }


def _score_row(prompt_id: str, experts: str, judge: str, answer: Answer) -> Sequence[Any]:
    """A failure has no score; what was replied is kept beside it."""
    score = f"{answer.value:g}" if answer.usable else ""
    weighted = "" if answer.weighted_score is None or not answer.usable else f"{answer.weighted_score:.4f}"
    reply = "" if answer.usable else visible((answer.text or "")[:SHOWN_REPLY], keep="\n")
    return prompt_id, experts, judge, score, weighted, answer.status, answer.error, reply


def _in_order(plan: Plan, answers: dict[Any, Answer]) -> list[tuple[Any, Answer]]:
    """By prompt, as the user gave them, then by subset and judge: not in the order in which answers came."""
    place = {prompt.prompt_id: number for number, prompt in enumerate(plan.prompts)}

    def order(key: Any) -> Any:
        prompt_id, *rest = (key,) if isinstance(key, str) else key
        return place[prompt_id], *rest

    return sorted(answers.items(), key=lambda item: order(item[0]))


def _without_name(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "name"}


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    write_bytes(path, csv_file(header, rows), overwrite=True)
