"""The data card of a collected table: where it comes from, what is in it, and what speaks against it."""

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jaxmoe
from jaxmoe.collect.agreement import agreement, describe_agreement
from jaxmoe.collect.budget import in_dollars
from jaxmoe.collect.dialects import TOKEN_LIMITS
from jaxmoe.collect.failures import Row, failures
from jaxmoe.collect.pipeline import Collected
from jaxmoe.collect.plan import Plan, Settings
from jaxmoe.collect.requests import ANSWERED, BUNDLED, LENGTH, Endpoint
from jaxmoe.table import ExpertTable
from jaxmoe.table.splits import describe_prompts_in_two_splits


def data_card(plan: Plan, found: Collected, rows: list[Row], table: ExpertTable | None) -> str:
    """Markdown. `rows` are those of the journal that belong to this plan."""
    settings = plan.settings
    sections = [
        "# Expert table collected with jaxmoe",
        "Raw records and the table that is built from them; the columns are those of `jaxmoe.load_table`.",
        _list(_contents(plan, found, table)),
        "## How the texts were written",
        _list(_models(rows)),
        _list([*_judgements(settings), *_cut_texts(plan, found)]),
        "## How far the scores can be trusted",
        _list([*describe_agreement(agreement(found)), *warnings(plan)]),
        "## Failures",
        _list(failures(rows) or ["none"]),
        "## Cost",
        _list(_costs(rows)),
        "## What was said to the models",
        *(_template(stage, template.system, template.user) for stage, template in plan.templates.items()),
        "## Versions",
        _list(
            [
                f"jaxmoe {jaxmoe.__version__}, openai {importlib.metadata.version('openai')}, "
                f"Python {platform.python_version()}",
                f"templates sha256 {_digest(plan.templates)}",
                *([f"table digest {table.meta.digest}"] if table is not None else []),
            ]
        ),
    ]
    return "\n\n".join(sections) + "\n"


def warnings(plan: Plan) -> list[str]:
    """What a reader should know before believing the scores."""
    settings = plan.settings
    writers = {endpoint.model for endpoint in plan.endpoints - set(settings.judges)} | {settings.writer.model}
    same = sorted({judge.model for judge in settings.judges} & writers)
    lines = [f"{model} judges texts that it wrote itself: it may prefer them" for model in same]
    if any(judge.base_url == BUNDLED for judge in settings.judges):
        lines.append("the scores are noise: the small model on this machine proves the plumbing and cannot judge")
    return [*lines, *describe_prompts_in_two_splits(plan.prompts)]


def _contents(plan: Plan, found: Collected, table: ExpertTable | None) -> Iterable[str]:
    yield f"{len(plan.prompts)} prompts ({_counted(prompt.split for prompt in plan.prompts)})"
    yield f"experts: {', '.join(plan.names)}"
    usable = [sum(answer.usable for answer in answers.values()) for answers in (found.texts, found.scores)]
    yield f"{usable[0]} texts, {usable[1]} scores"
    gaps = table.gaps(plan.max_experts) if table is not None else []
    if table is None:
        yield "there is no table yet"
    elif gaps:
        yield f"not complete: {len(gaps)} entries are missing, the first is {gaps[0][1]} of {gaps[0][0]}"
    elif plan.max_experts is None:
        yield "complete"
    else:
        yield f"complete up to {plan.max_experts} of {len(plan.names)} experts, for max_experts = {plan.max_experts}"


def _judgements(settings: Settings) -> Iterable[str]:
    yield (
        f"{settings.samples} judgements by each of {', '.join(map(str, settings.judges))}, scale: {settings.scale}, "
        f"scoring prompt: {settings.scoring_prompt}"
    )


def _cut_texts(plan: Plan, found: Collected) -> Iterable[str]:
    cut = sum(answer.status == LENGTH for answer in found.texts.values())
    yield f"{cut} of {len(found.texts)} texts were cut at the limit of tokens ({plan.settings.max_tokens})"


def _models(rows: list[Row]) -> list[str]:
    """Each stage's model as asked for and as the server called it, what it was sent, and when it answered."""
    lines = []
    for stage, model, base_url in dict.fromkeys((row["stage"], row["model"], row["base_url"]) for row in rows):
        own = [row for row in rows if (row["stage"], row["model"], row["base_url"]) == (stage, model, base_url)]
        returned = sorted({row["returned_model"] for row in own if row["returned_model"]}) or ["unnamed"]
        fingerprints = sorted({row["fingerprint"] for row in own if row["fingerprint"]}) or ["none"]
        days = sorted({row["answered_at"][:10] for row in own if row["answered_at"]}) or ["never"]
        lines.append(
            f"{stage}: {Endpoint(base_url, model)}, answered as {', '.join(returned)}, "
            f"fingerprints {', '.join(fingerprints)}, {days[0]}{' to ' + days[-1] if len(days) > 1 else ''}; "
            + _sent(own)
        )
    return lines


def _sent(rows: list[Row]) -> str:
    """What was really sent beside the messages, and what the server refuses and was not sent."""
    sent = [json.loads(row["sent"]) for row in rows if row["sent"]]
    if not sent:
        return "no answer"
    values: dict[str, list[Any]] = {}
    for name, value in ((name, value) for parameters in sent for name, value in parameters.items()):
        own = values.setdefault(name, [])
        if value not in own:
            own.append(value)
    roles = values.pop("roles", None)
    said = "sent with " + ", ".join(f"{name} {_shown(own)}" for name, own in sorted(values.items()))
    asked = {
        name for row in rows for name, value in json.loads(row["parameters"]).items() if value not in (None, False)
    }
    refused = sorted(asked - set(values) - set(TOKEN_LIMITS))
    said += f"; refused by the server and not sent: {', '.join(refused)}" if refused else ""
    told = any(message["role"] == "system" for row in rows for message in json.loads(row["messages"]))
    return said + ("; the system part went before the user's words" if roles and told else "")


def _shown(values: list[Any]) -> str:
    return " or ".join(json.dumps(value, ensure_ascii=False).strip('"') for value in values)


def _costs(rows: list[Row]) -> list[str]:
    attempts = sum(row["attempts"] or 0 for row in rows)
    prompt_tokens = sum(row["prompt_tokens"] or 0 for row in rows)
    completion_tokens = sum(row["completion_tokens"] or 0 for row in rows)
    unpriced = sum(row["cost_usd"] is None for row in rows)
    answered = [row for row in rows if row["status"] in ANSWERED]
    unknown = sum(row["prompt_tokens"] is None or row["completion_tokens"] is None for row in answered)
    return [
        f"{len(rows)} requests in {attempts} attempts, {prompt_tokens:,} + {completion_tokens:,} tokens",
        in_dollars(sum(row["cost_usd"] or 0.0 for row in rows), unpriced) + uncounted(unknown),
    ]


def uncounted(answers: int) -> str:
    """That a cost is not the whole truth."""
    return f"; the usage of {answers} answers is unknown, and counts at its worst" if answers else ""


def _template(stage: str, system: str, user: str) -> str:
    said = f"[system]\n{system}\n[user]\n{user}" if system else f"[user]\n{user}"
    return f"{stage}:\n\n~~~\n{said}\n~~~"


def _digest(templates: Any) -> str:
    return hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
