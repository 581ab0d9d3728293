"""`jaxmoe generate`: one text, by the experts that a policy chooses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import jaxmoe
from jaxmoe.cli.options import AsJson, Changes, NoRelevance, Quiet, Scenario, TableOption, changes, read_table
from jaxmoe.cli.output import OUT, emit, print_table
from jaxmoe.errors import InputError
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    from jaxmoe.collect.generating import Decide, Generated
    from jaxmoe.env.situation import Costs, Situation
    from jaxmoe.policy.contract import Field
    from jaxmoe.table import ExpertTable

UNTRAINED = ("predict_then_optimise", "all")


def generate(
    prompt: Annotated[str, typer.Argument(help="What is to be written.")],
    snr_db: Annotated[str, typer.Option(help="The SNR of each expert's device in dB, joined by commas.")],
    policy: Annotated[
        str,
        typer.Option(help="An exported policy's file, predict_then_optimise, all, or experts as in setting+action."),
    ] = UNTRAINED[0],
    experts: Annotated[
        Path | None,
        typer.Option(help="A JSON file that says who the experts are; those of the shipped table if absent."),
    ] = None,
    table: TableOption = None,
    no_relevance: NoRelevance = False,
    scenario: Scenario = "oneshot",
    changed: Changes = None,
    model: Annotated[str, typer.Option(help="The model of gate, experts and fusion.")] = "",
    base_url: Annotated[
        str | None, typer.Option(help="The model's server; OPENAI_BASE_URL or OpenAI if absent.")
    ] = None,
    local_model: Annotated[
        str, typer.Option(help="The model that writes where no expert is chosen; the small one if absent.")
    ] = "",
    local_base_url: Annotated[str | None, typer.Option(help="The server of the local model.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Let the small model here do everything, with no key.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of a text.")] = 2048,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one text, by the experts that a policy chooses.

    A gate splits the prompt, the chosen experts write, and their passages are fused.
    """
    from jaxmoe.collect.generating import generate_text
    from jaxmoe.collect.inputs import load_experts
    from jaxmoe.collect.plan import Settings
    from jaxmoe.env.situation import costs, situation
    from jaxmoe.table import shipped_experts_path

    writers = load_experts(experts or shipped_experts_path())
    names = [expert.name for expert in writers]
    known: ExpertTable = read_table(table, no_relevance)
    if missing := [name for name in names if name not in known.experts]:
        raise InputError(
            f"the table knows no expert {missing[0]!r}, only {', '.join(known.experts)}; name it with --table"
        )
    if names != list(known.experts):
        known = known.select_experts(names)
    channels, numbers = _numbers("--snr-db", snr_db), changes(changed, ("params",))["params"]
    settings = Settings(
        model=model,
        base_url=base_url,
        local_model=local_model,
        local_base_url=local_base_url,
        local=local,
        max_tokens=max_tokens,
    )
    situation(known, scenario, [0.5] * len(names), channels, numbers)  # what does not fit is said before work begins
    with reporting(quiet=quiet) as report:
        decide = _decide(policy, known, scenario, channels, numbers)
        found = generate_text(prompt, writers, decide, settings, report=report)
    relevance = [found.tasks[name].relevance for name in names]
    at = situation(known, scenario, relevance, channels, numbers)
    words = [float(found.words.get(name, 0)) for name in names]
    spent = costs(at, found.decision.subset, words)
    if as_json:
        emit(_facts(found, names, channels, spent))
    else:
        _print_generated(found, names, channels, spent)


def _exported(path: Path, names: Sequence[str], at: "Callable[[list[float]], Situation]") -> "Decide":
    """What an exported policy chooses; it must know the same experts, each on one device."""
    from jaxmoe.collect.generating import Decision

    policy = jaxmoe.load_policy(path)
    contract = policy.contract
    if contract.experts != tuple(names) or contract.num_replicas != 1:
        raise InputError(
            f"{path} chooses among {', '.join(contract.experts)} on {contract.num_replicas} devices each, and the "
            f"experts are {', '.join(names)}; name them in this order with --experts and --table"
        )

    def decide(relevance: list[float]) -> Decision:
        found = policy.select(**_quantities(contract.observation, at(relevance)))
        values = {
            choice.subset: choice.value if choice.probability is None else choice.probability
            for choice in found.choices
            if choice.legal
        }
        kind = "value of each action" if found.choices[0].probability is None else "probability of each action"
        return Decision(found.subset, values, f"{kind} by the policy ({contract.algorithm})")

    decide([0.5] * len(names))  # what is not known is said before work begins
    return decide


def _quantities(fields: "Sequence[Field]", at: "Situation") -> dict[str, Any]:
    """What a policy must be told of a situation: its channels, idle devices, a full battery, the scenario's numbers."""
    import numpy as np

    from jaxmoe.env.observation import quantities

    seen = quantities(at.state, at.params, at.env.settings)
    told = [field for field in fields if field.default is None or field.name in ("relevance", "snr_db")]
    known = {field.name: seen.get(field.name, getattr(at.params, field.name, np.nan)) for field in told}
    return {field.name: np.broadcast_to(np.asarray(known[field.name]), field.size) for field in told}


def _decide(
    policy: str, table: "ExpertTable", scenario: str, snr_db: list[float], numbers: dict[str, float]
) -> "Decide":
    from jaxmoe.collect.generating import Decision
    from jaxmoe.env.situation import predicted_qos, situation
    from jaxmoe.policy.bundle import is_policy_file
    from jaxmoe.table.records import subset_index

    def at(relevance: list[float]) -> "Situation":
        return situation(table, scenario, relevance, snr_db, numbers)

    def predicted(relevance: list[float]) -> Decision:
        values = predicted_qos(at(relevance))
        return Decision(max(values, key=values.__getitem__), values, "QoS that predict_then_optimise expects")

    if policy == "predict_then_optimise":
        return predicted
    if is_policy_file(policy):
        return _exported(Path(policy), table.experts, at)
    fixed = (1 << table.num_experts) - 1 if policy == "all" else subset_index(policy, table.experts)
    return lambda _: Decision(fixed, {}, "")


def _facts(found: "Generated", names: list[str], snr_db: list[float], costs: "Costs") -> dict[str, Any]:
    from jaxmoe.table.records import subset_name

    experts = [
        {"expert": name, "snr_db": channel, "words": found.words.get(name), **found.tasks[name]._asdict()}
        for name, channel in zip(names, snr_db, strict=True)
    ]
    values = {subset_name(subset, names): value for subset, value in found.decision.values.items()}
    chosen = {"chosen": subset_name(found.decision.subset, names), "values": values, "meaning": found.decision.meaning}
    spent = {**costs._asdict(), "requests": found.requests, "cost_usd": found.cost_usd}
    return {"text": found.text, "experts": experts, **chosen, **spent}


def _print_generated(found: "Generated", names: list[str], snr_db: list[float], costs: "Costs") -> None:
    from rich.table import Table

    from jaxmoe.collect.budget import in_dollars
    from jaxmoe.table.records import subset_name

    experts = Table("expert", "relevance", "SNR dB", "words", "subtask")
    for name, channel in zip(names, snr_db, strict=True):
        task, written = found.tasks[name], found.words.get(name)
        experts.add_row(name, f"{task.relevance:.1f}", f"{channel:g}", str(written or "-"), task.subtask)
    print_table(experts)
    OUT.print(f"\nchosen: {subset_name(found.decision.subset, names)}", soft_wrap=True)
    if found.decision.values:
        best = sorted(found.decision.values, key=lambda subset: -found.decision.values[subset])
        listed = ", ".join(f"{subset_name(subset, names)} {found.decision.values[subset]:.3f}" for subset in best)
        OUT.print(f"{found.decision.meaning}: {listed}", soft_wrap=True)
    OUT.print(
        f"costs: computing {costs.computing_cost:.3f}, transmission {costs.transmission_cost:.3f} (in QoS); "
        f"latency {costs.latency_s:.1f} s",
        soft_wrap=True,
    )
    money = "at an unknown price" if found.cost_usd is None else f"for {in_dollars(found.cost_usd)}"
    OUT.print(f"{len(found.text.split())} words, {found.requests} requests {money}\n", soft_wrap=True)
    OUT.print(found.text, soft_wrap=True)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r} is not a list of numbers joined by commas") from None
