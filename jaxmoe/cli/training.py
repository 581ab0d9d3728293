"""`jaxmoe train`: one command per algorithm."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import jaxmoe
from jaxmoe.cli.options import (
    Baselines,
    CheckpointEvery,
    CompilationCache,
    NoRelevance,
    Parameters,
    SettingsOption,
    TableOption,
    TimeBudget,
    assignments,
    baseline_names,
    end,
    read_table,
    running,
    seed_numbers,
    whole_numbers,
)
from jaxmoe.cli.running import print_experiment
from jaxmoe.cli.terminal import telling

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


train_app = typer.Typer(no_args_is_help=True, cls=_AlgorithmCommands, help="Train agents, many at once.")


def _train_command(algorithm: str) -> Any:
    """The command that trains agents with one algorithm, its options made from `Hypers` and `Config`."""
    from jaxmoe.algorithms.algorithm import about
    from jaxmoe.training.inputs import algorithm_module

    module = algorithm_module(algorithm)
    hypers, config = module.Hypers()._asdict(), vars(module.Config())
    kinds = {"Hyperparameters": (module.Hypers, hypers), "Configuration": (module.Config, config)}

    def command(
        out: Annotated[
            Path | None,
            typer.Option(help="Folder of the experiment: a new one, or one to go on with; none keeps nothing."),
        ] = None,
        scenario: Annotated[
            str | None, typer.Option(help="oneshot (default), fading or queueing; with --init-from the policy's own.")
        ] = None,
        seeds: Annotated[str, typer.Option(help="How many agents, or their seeds joined by commas.")] = "16",
        env_steps: Annotated[
            int, typer.Option("--env-steps", "--steps", help="Environment steps of each agent.")
        ] = 500_000,
        table: TableOption = None,
        no_relevance: NoRelevance = False,
        param: Parameters = None,
        setting: SettingsOption = None,
        evaluations: Annotated[int, typer.Option(help="How often the agents are evaluated on the way.")] = 20,
        root_seed: Annotated[int, typer.Option(help="All agents' random numbers come from it and their seeds.")] = 0,
        init_from: Annotated[
            Path | None,
            typer.Option(help="Go on from a policy that was exported as .safetensors, as it was trained unless said."),
        ] = None,
        requests: Annotated[
            int, typer.Option(help="Requests that each agent, and each baseline, serves in the end.")
        ] = 8192,
        baselines: Baselines = "all",
        time_budget: TimeBudget = None,
        checkpoint_every: CheckpointEvery = "5m",
        compilation_cache: CompilationCache = True,
        **algorithm_options: Any,
    ) -> None:
        with telling() as callback:
            experiment = jaxmoe.train(
                algorithm,
                scenario,
                seeds=seed_numbers("--seeds", seeds),
                env_steps=env_steps,
                hypers={name: algorithm_options[name] for name in hypers if algorithm_options[name] != hypers[name]},
                config={
                    name: value
                    for name in config
                    if (value := _parsed(name, algorithm_options[name], config[name])) != config[name]
                },
                params=assignments("--param", param),
                settings=assignments("--setting", setting),
                table=read_table(table, no_relevance),
                evaluations=evaluations,
                requests=requests,
                baselines=baseline_names(baselines),
                root_seed=root_seed,
                init_from=init_from,
                out=out,
                callback=callback,
                **running(time_budget, checkpoint_every, compilation_cache),
            )
        print_experiment(experiment)
        end(experiment)

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
    return tuple(whole_numbers(f"--{name}", value)) if isinstance(default, tuple) else value
