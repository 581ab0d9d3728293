"""The command line: parses, calls, prints. Bad input is one sentence and exit code 2; JAX starts only where needed."""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.files import write_whole
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    import pandas as pd

    from jaxmoe.sweeps.sweeping import Sweep

OUT = Console(highlight=False)
ALGORITHMS = {
    "ppo": "Train PPO agents: proximal policy optimisation.",
    "dqn": "Train DQN agents: deep Q-learning, double if asked for.",
    "sac": "Train SAC agents: soft actor-critic for discrete actions.",
}


class _AlgorithmCommands(TyperGroup):
    """`train`: one command per algorithm, with its hyperparameters and configuration as options.

    They are read from the algorithm's module, whose import starts JAX: only when one of these commands is asked for.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(ALGORITHMS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        return _train_command(cmd_name) if cmd_name in ALGORITHMS else None


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Which edge experts should write your text?")
table_app = typer.Typer(no_args_is_help=True, help="Check, show and build expert tables.")
train_app = typer.Typer(no_args_is_help=True, cls=_AlgorithmCommands, help="Train agents, many at once.")
app.add_typer(table_app, name="table")
app.add_typer(train_app, name="train")

TablePath = Annotated[
    Path | None,
    typer.Argument(help="Folder of raw records, CSV, Excel or Parquet file; the shipped table if absent."),
]
NoRelevance = Annotated[bool, typer.Option("--no-relevance", help="The table needs no relevance; observe zeros.")]
TableOption = Annotated[
    Path | None, typer.Option("--table", help="Expert table: folder, CSV, Excel or Parquet; the shipped one if absent.")
]
Scenario = Annotated[str, typer.Option(help="oneshot, fading or queueing.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=NUMBER", help="Change a number of the scenario, as in latency_weight=0.05."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="NAME=VALUE", help="Change a setting of the scenario, as in num_replicas=2."),
]
CompilationCache = Annotated[
    bool, typer.Option(help="Keep compiled programs in the user's cache folder, for the next start.")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        OUT.print(jaxmoe.__version__)
        raise typer.Exit


@table_app.command("check")
def table_check(path: TablePath = None, no_relevance: NoRelevance = False) -> None:
    """Read a table and say what it holds, or what is wrong in it."""
    table = _load_table(path, no_relevance)
    splits = ", ".join(f"{count} {split}" for split, count in Counter(table.meta.splits).items())
    OUT.print(f"The table is complete: {table.num_prompts} prompts ({splits}), {2**table.num_experts} subsets each.")
    OUT.print(f"experts  {', '.join(table.experts)}")
    OUT.print(f"source   {table.meta.provenance}", soft_wrap=True)
    OUT.print(f"digest   {table.meta.digest}", soft_wrap=True)


@table_app.command("show")
def table_show(
    path: TablePath = None,
    experts: Annotated[str | None, typer.Option(help="Only these experts, joined by commas.")] = None,
    no_relevance: NoRelevance = False,
) -> None:
    """Show mean score and words of every subset of experts."""
    from jaxmoe.table import describe

    table = _load_table(path, no_relevance)
    if experts is not None:
        table = table.select_experts(name.strip() for name in experts.split(","))
    OUT.print(describe(table).to_string(index=False, float_format="{:.2f}".format), soft_wrap=True)


@table_app.command("build")
def table_build(
    folder: Annotated[Path, typer.Argument(help="Folder of raw records.")],
    out: Annotated[Path, typer.Option(help="File to write, .parquet or .csv.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
) -> None:
    """Build a table from raw records."""
    from jaxmoe.table import build_table

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; choose another file or say --overwrite")
    table = build_table(folder)
    table.save(out, overwrite=overwrite)
    OUT.print(f"{out}: {table.num_prompts} prompts, experts {', '.join(table.experts)}")


@app.command()
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a training run; without it the references alone.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="oneshot (default), fading or queueing; a run has its own.")
    ] = None,
    table: TableOption = None,
    no_relevance: NoRelevance = False,
    param: Parameters = None,
    setting: SettingsOption = None,
    slots: Annotated[int, typer.Option(help="Requests per policy and split.")] = 8192,
    seed: Annotated[int, typer.Option(help="Of the random numbers, the same for every policy.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the tidy table to this .csv or .parquet file.")] = None,
) -> None:
    """Compare trained agents, or the references alone, on the same requests."""
    if run is not None and (scenario or param or setting):
        raise InputError(f"{run} says its own scenario; give --scenario, --param and --setting only without a run")
    _require_table_file(out)
    with reporting() as report:
        found = jaxmoe.evaluate(
            run,
            scenario or "oneshot",
            params=_assignments("--param", param),
            settings=_assignments("--setting", setting),
            table=_load_table(table, no_relevance),
            slots=slots,
            seed=seed,
            report=report,
        )
    if out is not None:
        write = found.to_csv if out.suffix == ".csv" else found.to_parquet
        write_whole(out, lambda path: write(path, index=False), overwrite=False)
    _print_comparison(found, highlight=_agents_name(found))


@app.command()
def sweep(
    spec: Annotated[Path, typer.Argument(help="TOML file that says what is searched; see experiments/.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep: a new one, or one to go on with.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the spec, as in seeds=4 or hypers.clip=[0.1,0.2]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say how many agents, chunks, compilations and bytes; train none.")
    ] = False,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Train every n-th agent only, from the i-th on.")] = "0/1",
    checkpoint_minutes: Annotated[float, typer.Option(help="How often an unfinished chunk is saved.")] = 5.0,
    compilation_cache: CompilationCache = True,
) -> None:
    """Train all agents of a spec; the same command again goes on where it ended, whatever ended it."""
    if dry_run:
        from jaxmoe.sweeps.estimates import describe_plan

        with reporting() as report:
            lines = describe_plan(spec, overrides or [], shard, report)
        OUT.print("\n".join(lines), soft_wrap=True)
        return
    if out is None:
        raise InputError("--out DIR says where the sweep is kept; it is missing")
    with reporting() as report:
        found = jaxmoe.sweep(
            spec,
            out,
            overrides=overrides or [],
            shard=shard,
            checkpoint_minutes=checkpoint_minutes,
            compilation_cache=compilation_cache,
            report=report,
        )
    _print_sweep(found)
    if found.interrupted:
        OUT.print("Stopped: what was done is kept, and the same command goes on from there.")
        raise typer.Exit(130)


@app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders of all shards of a sweep.")],
    out: Annotated[Path, typer.Option(help="New folder for the whole sweep.")],
) -> None:
    """Put the shards of a sweep together, as if one process had trained all."""
    with reporting() as report:
        found = jaxmoe.merge(shards, out, report=report)
    _print_sweep(found)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except InputError as error:
        Console(stderr=True, highlight=False).print(f"jaxmoe: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _train_command(algorithm: str) -> Any:
    """The command that trains agents with one algorithm, its options made from `Hypers` and `Config`."""
    from jaxmoe.agents.algorithm import about
    from jaxmoe.sweeps.inputs import algorithm_module

    module = algorithm_module(algorithm)
    hypers, config = module.Hypers()._asdict(), vars(module.Config())
    kinds = {"Hyperparameters": (module.Hypers, hypers), "Configuration": (module.Config, config)}

    def command(
        out: Annotated[Path, typer.Option(help="New or empty folder for tables, policies and figures.")],
        scenario: Scenario = "oneshot",
        seeds: Annotated[str, typer.Option(help="How many agents, or their seeds joined by commas.")] = "16",
        steps: Annotated[int, typer.Option(help="Environment steps of each agent.")] = 500_000,
        table: TableOption = None,
        no_relevance: NoRelevance = False,
        param: Parameters = None,
        setting: SettingsOption = None,
        evaluations: Annotated[int, typer.Option(help="How often the agents are evaluated on the way.")] = 20,
        root_seed: Annotated[int, typer.Option(help="All agents' random numbers come from it and their seeds.")] = 0,
        compilation_cache: CompilationCache = True,
        **algorithm_options: Any,
    ) -> None:
        with reporting() as report:
            training = jaxmoe.train(
                algorithm,
                scenario,
                seeds=_seeds(seeds),
                env_steps=steps,
                hypers={name: algorithm_options[name] for name in hypers},
                config={name: _parsed(name, algorithm_options[name], config[name]) for name in config},
                params=_assignments("--param", param),
                settings=_assignments("--setting", setting),
                table=_load_table(table, no_relevance),
                evaluations=evaluations,
                root_seed=root_seed,
                out=out,
                compilation_cache=compilation_cache,
                report=report,
            )
        _print_comparison(training.comparison, highlight=training.run.agents_name)
        diverged = int(training.results["diverged"].sum())
        OUT.print(
            f"\n{training.run.agents_name}, {training.run.env_steps:,} env steps each, "
            f"{training.env_steps_per_s:,.0f} env steps/s of all agents, {diverged} diverged"
        )
        OUT.print(f"tables, policies and learning curve: {out}", soft_wrap=True)
        if training.interrupted:
            OUT.print("Stopped early: what was trained until then is there.")
            raise typer.Exit(130)

    fixed = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    generated = [
        _option(name, _shown(default), about(owner)[name].meaning, panel)
        for panel, (owner, defaults) in kinds.items()
        for name, default in defaults.items()
    ]
    return _command_of(command, [*fixed, *generated], ALGORITHMS[algorithm])


def _option(name: str, default: Any, meaning: str, panel: str) -> inspect.Parameter:
    kind = type(default)
    annotation = Annotated[kind, typer.Option(help=meaning, rich_help_panel=panel)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _command_of(function: Callable[..., None], parameters: list[inspect.Parameter], description: str) -> Any:
    """A command that calls the function with these parameters as options."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    single = typer.Typer(add_completion=False)
    single.command(help=description)(function)
    return typer.main.get_command(single)


def _shown(default: Any) -> Any:
    """How an option shows a default: widths as `64,64`."""
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


def _parsed(name: str, value: Any, default: Any) -> Any:
    """Inverse of `_shown`."""
    return tuple(_whole_numbers(f"--{name}", value)) if isinstance(default, tuple) else value


def _seeds(text: str) -> int | list[int]:
    numbers = _whole_numbers("--seeds", text)
    return numbers if "," in text else numbers[0]


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()] or [int(text)]
    except ValueError:
        raise InputError(f"{option} {text!r} is not a whole number or several joined by commas") from None


def _assignments(option: str, texts: Iterable[str] | None) -> dict[str, Any]:
    """`NAME=VALUE` pairs; numbers and yes/no become such."""
    pairs: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{option} {text!r} is not of the form NAME=VALUE")
        pairs[name.strip()] = _value(value.strip())
    return pairs


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _load_table(path: Path | None, no_relevance: bool) -> Any:
    return jaxmoe.load_table(path, relevance="none" if no_relevance else "required")


def _require_table_file(out: Path | None) -> None:
    """Say that a result file cannot be written before the work is done, not after."""
    if out is None:
        return
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out} ends neither in .csv nor in .parquet")
    if out.exists():
        raise InputError(f"{out} exists already; choose another file")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist; create it first")


def _agents_name(comparison: "pd.DataFrame") -> str | None:
    """The policy that is no reference, if there is one."""
    return next((name for name in comparison["policy"].unique() if name.endswith(("agent)", "agents)"))), None)


def _print_sweep(found: "Sweep") -> None:
    from jaxmoe.sweeps.ranking import ranking_tables

    if len(found.results):
        for title, table in ranking_tables(found.results, found.varied):
            OUT.print(f"\n{title}", soft_wrap=True)
            OUT.print(table)
        OUT.print()
    diverged = int(found.results["diverged"].sum()) if len(found.results) else 0
    OUT.print(f"{len(found.results):,} agents trained, {diverged} diverged")
    OUT.print(f"tables and policies: {found.folder}", soft_wrap=True)


def _print_comparison(comparison: "pd.DataFrame", highlight: str | None) -> None:
    from jaxmoe.sweeps.comparison import behaviour_table, quality_table

    OUT.print()
    title = "Mean QoS, and normalised score [95 % interval over prompts and seeds]"
    OUT.print(quality_table(comparison, title, highlight))
    OUT.print()
    OUT.print(
        behaviour_table(
            comparison,
            "What each policy does per request, on train prompts: means, and how often it asks each expert",
            highlight,
        )
    )
