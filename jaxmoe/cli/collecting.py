"""`jaxmoe collect`: from prompts to an expert table."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxmoe.cli.job import take_job
from jaxmoe.cli.options import AsJson, Quiet
from jaxmoe.cli.output import OUT, emit
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    from jaxmoe.collect.collecting import Collection

MODELS, JUDGING, LIMITS = "Models", "Judging", "Limits"


def collect(
    prompts: Annotated[Path, typer.Option(help="A CSV, Excel or Parquet file with a column prompt.")],
    experts: Annotated[Path, typer.Option(help="A JSON list of objects with expert and system_prompt.")],
    out: Annotated[Path, typer.Option(help="The folder of the collection, new or to go on with.")],
    job: Annotated[  # noqa: ARG001 - its callback has made defaults of it
        Path | None,
        typer.Argument(
            help="A TOML file with any of these options, as in max_cost = 5.0.", is_eager=True, callback=take_job
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The model of gate, experts and fusion.", rich_help_panel=MODELS)] = "",
    base_url: Annotated[
        str | None,
        typer.Option(
            help="The model's server; OPENAI_BASE_URL or OpenAI if absent.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    gate_model: Annotated[
        str, typer.Option(help="The model of the gate; --model if absent.", rich_help_panel=MODELS)
    ] = "",
    gate_base_url: Annotated[str | None, typer.Option(help="The server of the gate.", rich_help_panel=MODELS)] = None,
    fusion_model: Annotated[
        str, typer.Option(help="The model that joins passages; --model if absent.", rich_help_panel=MODELS)
    ] = "",
    fusion_base_url: Annotated[str | None, typer.Option(help="The server of fusion.", rich_help_panel=MODELS)] = None,
    judge_model: Annotated[
        list[str] | None, typer.Option(help="The judge, once or more; --model if absent.", rich_help_panel=MODELS)
    ] = None,
    judge_base_url: Annotated[
        list[str] | None,
        typer.Option(help="The judges' server, or as many as there are judges.", rich_help_panel=MODELS),
    ] = None,
    local_model: Annotated[
        str,
        typer.Option(help="The model of the user's own device; the small one here if absent.", rich_help_panel=MODELS),
    ] = "",
    local_base_url: Annotated[
        str | None, typer.Option(help="The server of the local model.", rich_help_panel=MODELS)
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Let the small model here do everything, with no key.", rich_help_panel=MODELS),
    ] = False,
    request_param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[STAGE.]KEY=VALUE",
            help="Send this with requests, as in num_ctx=8192 or judge.reasoning_effort=low.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    templates: Annotated[Path | None, typer.Option(help="A folder of templates that replace the shipped ones.")] = None,
    subsets: Annotated[
        str | None, typer.Option(help="The subsets to score, as in local,setting,setting+action; all if absent.")
    ] = None,
    max_subset_size: Annotated[
        int | None, typer.Option(help="Leave out subsets of more experts than this; train with settings.max_experts.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="The temperature of texts.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of a text.")] = 2048,
    samples: Annotated[int, typer.Option(help="How often each judge scores each text.", rich_help_panel=JUDGING)] = 3,
    scale: Annotated[
        str, typer.Option(help="The kind of scores: integer or decimal.", rich_help_panel=JUDGING)
    ] = "integer",
    scoring_prompt: Annotated[
        str, typer.Option(help="The judges' template: judge, or judge_wang as in Wang et al.", rich_help_panel=JUDGING)
    ] = "judge",
    judge_temperature: Annotated[
        float, typer.Option(help="The temperature of the judges.", rich_help_panel=JUDGING)
    ] = 0.7,
    answer_tokens: Annotated[
        int, typer.Option(help="The most tokens of a judgement and of the gate's answer.", rich_help_panel=JUDGING)
    ] = 1024,
    logprobs: Annotated[
        bool, typer.Option("--logprobs", help="Also weight scores by probability.", rich_help_panel=JUDGING)
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what it would take and cost, and send nothing.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what was refused or answered in a wrong form.")
    ] = False,
    max_cost: Annotated[
        float | None, typer.Option(help="The most US dollars that the folder may cost in all.", rich_help_panel=LIMITS)
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(help="The most requests for the folder in all.", rich_help_panel=LIMITS)
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="A TOML file of prices.", rich_help_panel=LIMITS)] = None,
    concurrency: Annotated[int, typer.Option(help="The most requests at once.", min=1, rich_help_panel=LIMITS)] = 16,
    attempts: Annotated[
        int, typer.Option(help="The most attempts of each request.", min=1, rich_help_panel=LIMITS)
    ] = 6,
    timeout: Annotated[
        float, typer.Option(help="The seconds that an attempt may take.", min=0.1, rich_help_panel=LIMITS)
    ] = 120.0,
    patience: Annotated[
        float, typer.Option(help="The seconds that a busy server is waited for.", min=0, rich_help_panel=LIMITS)
    ] = 600.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let models write and judge texts, and build an expert table.

    The same command again goes on where it ended.
    """
    from jaxmoe.collect.client import Limits
    from jaxmoe.collect.collecting import Spending, collect_table, estimate_collection
    from jaxmoe.collect.plan import Settings
    from jaxmoe.collect.request_params import parse_request_params

    settings = Settings(
        model=model,
        base_url=base_url,
        judge_models=tuple(judge_model or ()),
        judge_base_urls=tuple(judge_base_url or ()),
        gate_model=gate_model,
        gate_base_url=gate_base_url,
        fusion_model=fusion_model,
        fusion_base_url=fusion_base_url,
        local_model=local_model,
        local_base_url=local_base_url,
        local=local,
        templates=templates,
        scoring_prompt=scoring_prompt,
        samples=samples,
        scale=scale,
        logprobs=logprobs,
        subsets=subsets,
        max_subset_size=max_subset_size,
        temperature=temperature,
        judge_temperature=judge_temperature,
        max_tokens=max_tokens,
        answer_tokens=answer_tokens,
        request_params=parse_request_params(request_param or ()),
    )
    spending = Spending(max_cost, max_requests, prices)
    if dry_run:
        lines = estimate_collection(prompts, experts, out, settings, spending=spending)[1]
        if as_json:
            emit({"plan": lines})
        else:
            OUT.print("\n".join(lines), soft_wrap=True)
        return
    with reporting(quiet=quiet) as report:
        found = collect_table(
            prompts,
            experts,
            out,
            settings,
            limits=Limits(concurrency, attempts, timeout, patience_s=patience),
            spending=spending,
            retry_failed=retry_failed,
            report=report,
        )
    if as_json:
        emit(_facts(found))
    else:
        _print_collection(found)
    if found.interrupted:
        raise typer.Exit(130)
    if not found.complete:
        raise typer.Exit(1)


def _facts(found: "Collection") -> dict[str, Any]:
    requests = [{"stage": stage, "status": status, "count": count} for (stage, status), count in found.statuses.items()]
    gaps = None if found.table is None else len(found.gaps)
    facts = {name: getattr(found, name) for name in ("folder", "complete", "interrupted", "stopped", "notes", "spent")}
    return {**facts, "missing_entries": gaps, "advice": found.advice, "requests": requests}


def _print_collection(found: "Collection") -> None:
    counts = Counter(found.statuses)
    for stage in dict.fromkeys(stage for stage, _ in counts):
        parts = [f"{count:,} {status}" for (own, status), count in counts.items() if own == stage]
        OUT.print(f"{stage:<7} {', '.join(parts)}", soft_wrap=True)
    for note in (*found.notes, found.spent):
        OUT.print(note, soft_wrap=True)
    gaps = found.gaps
    if found.complete:
        limit = found.max_experts
        up_to = "" if limit is None else f" for --set settings.max_experts={limit}"
        OUT.print(f"The table is complete{up_to}: {found.folder}", soft_wrap=True)
    elif gaps:
        missing = f"{len(gaps)} entries are missing, the first is {gaps[0][1]} of {gaps[0][0]}: {found.folder}"
        OUT.print(missing, soft_wrap=True)
    else:
        OUT.print(f"There is no table yet: {found.folder}", soft_wrap=True)
    for line in [] if found.complete or found.interrupted or found.stopped else found.advice:
        OUT.print(line, soft_wrap=True)
    if found.interrupted:
        OUT.print("Stopped: what was answered is kept, and the same command goes on from there.", soft_wrap=True)
    elif found.stopped:
        OUT.print(f"Stopped: {found.stopped}; the same command with a higher limit goes on.", soft_wrap=True)
