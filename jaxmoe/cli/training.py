"""`jaxmoe train`: one command per algorithm."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import jaxmoe
from jaxmoe.cli.options import (
    Address,
    AsJson,
    Baselines,
    CheckpointEvery,
    Command,
    Deterministic,
    Engine,
    NoCompilationCache,
    NoRelevance,
    Plugins,
    Quiet,
    SpecChanges,
    TableOption,
    TimeBudget,
    baseline_names,
    end,
    named_plugins,
    read_table,
    running,
    seed_numbers,
    whole_numbers,
)
from jaxmoe.cli.running import print_experiment
from jaxmoe.cli.terminal import telling
from jaxmoe.errors import InputError
from jaxmoe.names import bare
from jaxmoe.plugins import load_plugins

SECTIONS = ("hypers", "config", "params", "settings")
OF_OTHERS = {  # keys of a spec that --set does not take, and what does
    "algorithm": "train another algorithm with jaxmoe train ALGORITHM",
    "scenario": "write --scenario",
    "table": "write --table",
    "relevance": "write --no-relevance",
    "init_from": "write --init-from",
    "plugins": "write --plugin",
    "search": "train has one configuration, sweep has many",
}


class _AlgorithmCommands(TyperGroup):
    """`train`: one command per algorithm, with its hyperparameters and configuration as options.

    They are those that are registered, whose modules import JAX: only when `train` is asked for.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The algorithms that are registered."""
        from jaxmoe.algorithms.registry import registered_algorithms

        del ctx
        return list(registered_algorithms())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What an algorithm's command is called and does, for lists of commands."""
        from jaxmoe.algorithms.registry import registered_algorithm

        if cmd_name not in self.list_commands(ctx):
            return None
        return TyperCommand(cmd_name, help=registered_algorithm(cmd_name).summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself; plugins that its options name may register it."""
        load_plugins(named_plugins(args))
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _train_command(str(name)), rest


train_app = typer.Typer(no_args_is_help=True, cls=_AlgorithmCommands, help="Train agents, many at once.")


def _train_command(algorithm: str) -> Any:
    """The command that trains agents with one algorithm, its options made from `Hypers` and `Config`."""
    from jaxmoe.algorithms.algorithm import about
    from jaxmoe.algorithms.registry import registered_algorithm

    module = registered_algorithm(algorithm)
    hypers, config = module.Hypers()._asdict(), vars(module.Config())
    kinds = {"Hyperparameters": (module.Hypers, hypers), "Configuration": (module.Config, config)}

    def command(
        ctx: typer.Context,
        out: Annotated[
            str | None,
            typer.Option(
                help="The folder of the experiment, new or to go on with, or its address; without it nothing is kept."
            ),
        ] = None,
        scenario: Annotated[
            str | None, typer.Option(help="The scenario, or its .toml file; oneshot if absent, or that of --init-from.")
        ] = None,
        seeds: Annotated[str, typer.Option(help="How many agents, or their seeds joined by commas.")] = "16",
        env_steps: Annotated[
            int, typer.Option("--env-steps", "--steps", help="The environment steps of each agent.")
        ] = 500_000,
        table: TableOption = None,
        no_relevance: NoRelevance = False,
        changed: SpecChanges = None,
        evaluations: Annotated[int, typer.Option(help="How often the agents are evaluated on the way.")] = 20,
        root_seed: Annotated[int, typer.Option(help="All random numbers come from it and the agents' seeds.")] = 0,
        init_from: Annotated[
            Path | None,
            typer.Option(help="Go on from an exported .safetensors policy, with what it was trained in and with."),
        ] = None,
        requests: Annotated[
            int, typer.Option(help="Requests that each agent, and each baseline, serves in the end.")
        ] = 8192,
        baselines: Baselines = "all",
        engine: Engine = "local",
        address: Address = None,
        plugin: Plugins = None,
        deterministic: Deterministic = False,
        time_budget: TimeBudget = None,
        checkpoint_every: CheckpointEvery = "5m",
        no_compilation_cache: NoCompilationCache = False,
        as_json: AsJson = False,
        quiet: Quiet = False,
        **algorithm_options: Any,
    ) -> None:
        given, others = _changes(changed)
        if deterministic:
            others["devices.deterministic"] = True
        for section, defaults in (("hypers", hypers), ("config", config)):
            told = {name: _parsed(name, algorithm_options[name], defaults[name]) for name in _told(ctx, defaults)}
            values = told | given[section]
            if init_from is None:  # else a default that is told is not that of the policy
                values = {name: value for name, value in values.items() if value != defaults.get(name)}
            given[section] = values
        with telling(quiet) as callback:
            experiment = jaxmoe.train(
                algorithm,
                scenario,
                seeds=seed_numbers("--seeds", seeds),
                env_steps=env_steps,
                **given,
                overrides=others,
                table=read_table(table, no_relevance),
                evaluations=evaluations,
                requests=requests,
                baselines=baseline_names(baselines),
                root_seed=root_seed,
                init_from=init_from,
                plugins=plugin or (),
                out=out,
                engine=engine,
                address=address,
                callback=callback,
                **running(time_budget, checkpoint_every, no_compilation_cache),
            )
        print_experiment(experiment, as_json)
        end(experiment, as_json)

    fixed = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    generated = [
        _option(name, _shown(default), about(owner)[name].meaning, panel)
        for panel, (owner, defaults) in kinds.items()
        for name, default in defaults.items()
    ]
    return _command_of(command, [*fixed, *generated], module.summary)


def _told(ctx: typer.Context, names: Iterable[str]) -> list[str]:
    """Those options that somebody has written, even if only to say what is so anyway."""
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _changes(texts: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `--set` changes: the sections that say who learns where, and other keys of the spec, dotted."""
    from jaxmoe.experiment.spec import assignment

    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    others: dict[str, Any] = {}
    for key, value in map(assignment, texts or []):
        first, _, name = key.partition(".")
        if first in OF_OTHERS:
            raise InputError(f"--set {bare(key)} is not possible here; {OF_OTHERS[first]}")
        if first not in SECTIONS:
            others[key] = value
        elif not name or "." in name:
            raise InputError(f"--set {bare(key)} is not possible here; the key must be {first}.NAME")
        else:
            sections[first][name] = tuple(value) if isinstance(value, list) else value
    return sections, others


def _option(name: str, default: Any, meaning: str, panel: str) -> inspect.Parameter:
    kind = type(default)
    annotation = Annotated[kind, typer.Option(help=f"{meaning[0].upper()}{meaning[1:]}.", rich_help_panel=panel)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _command_of(function: Callable[..., None], parameters: list[inspect.Parameter], description: str) -> Any:
    """A command that calls the function with these parameters as options."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    single = typer.Typer(add_completion=False)
    single.command(cls=Command, help=description)(function)
    return typer.main.get_command(single)


def _shown(default: Any) -> Any:
    """How an option shows a default: widths as `64,64`."""
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


def _parsed(name: str, value: Any, default: Any) -> Any:
    """Inverse of `_shown`."""
    return tuple(whole_numbers(f"--{name}", value)) if isinstance(default, tuple) else value
