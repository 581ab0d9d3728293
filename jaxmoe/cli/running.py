"""`jaxmoe sweep` and `jaxmoe extend`: train all agents of a spec, and add to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import jaxmoe
from jaxmoe.cli.options import (
    Address,
    AsJson,
    CheckpointEvery,
    Deterministic,
    Engine,
    Location,
    NoCompilationCache,
    Out,
    Plugins,
    Quiet,
    TimeBudget,
    TrustPlugins,
    end,
    engine_of,
    running,
    seed_numbers,
)
from jaxmoe.cli.output import OUT, emit, print_comparison, print_table
from jaxmoe.cli.terminal import telling
from jaxmoe.errors import InputError

if TYPE_CHECKING:
    from jaxmoe.experiment.experiment import Experiment


def sweep(
    spec: Annotated[Path, typer.Argument(help="A TOML file that says what is searched, as in experiments/.")],
    out: Out = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the spec, as in seeds=4 or hypers.clip=[0.1,0.2]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Say how many agents, jobs, compilations and bytes, and train none.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Run every n-th job only, from the i-th on, in a shared folder; or auto."),
    ] = "0/1",
    engine: Engine = "local",
    address: Address = None,
    plugin: Plugins = None,
    deterministic: Deterministic = False,
    time_budget: TimeBudget = None,
    checkpoint_every: CheckpointEvery = "5m",
    no_compilation_cache: NoCompilationCache = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train all agents of a spec.

    The same command again goes on where it ended, whatever ended it.
    """
    overrides = [*(overrides or []), *(["devices.deterministic=true"] if deterministic else [])]
    if dry_run:
        from jaxmoe.experiment.dry_run import describe_plan

        lines = describe_plan(spec, overrides, shard, plugin or (), engine, address)
        if as_json:
            emit({"plan": lines})
        else:
            OUT.print("\n".join(lines), soft_wrap=True)
        return
    if out is None:
        raise InputError("--out DIR says where the experiment is kept; it is missing")
    with telling(quiet) as callback:
        experiment = jaxmoe.sweep(
            spec,
            out,
            overrides=overrides,
            shard=shard,
            engine=engine,
            address=address,
            plugins=plugin or (),
            callback=callback,
            **running(time_budget, checkpoint_every, no_compilation_cache),
        )
    print_experiment(experiment, as_json)
    end(experiment, as_json)


def extend(
    folder: Location,
    seeds: Annotated[str | None, typer.Option(help="So many seeds in all, or these, joined by commas.")] = None,
    samples: Annotated[int | None, typer.Option(help="So many samples in all, of a random or Sobol search.")] = None,
    env_steps: Annotated[int | None, typer.Option(help="So many environment steps of each agent in all.")] = None,
    new_schedule: Annotated[
        bool, typer.Option(help="Begin schedules, such as the learning rate's, anew over the added steps.")
    ] = False,
    engine: Engine = "local",
    address: Address = None,
    plugin: Plugins = None,
    trust_plugins: TrustPlugins = False,
    time_budget: TimeBudget = None,
    checkpoint_every: CheckpointEvery = "5m",
    no_compilation_cache: NoCompilationCache = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Add seeds, samples or env steps to an experiment.

    Nothing that is there changes.
    """
    experiment = jaxmoe.load(folder, plugins=plugin or (), trust_plugins=trust_plugins)
    with telling(quiet) as callback:
        experiment.extend(
            seeds=None if seeds is None else seed_numbers("--seeds", seeds),
            samples=samples,
            env_steps=env_steps,
            new_schedule=new_schedule,
            engine=engine_of(experiment, engine, address),
            callback=callback,
            **running(time_budget, checkpoint_every, no_compilation_cache),
        )
    print_experiment(experiment, as_json)
    end(experiment, as_json)


def merge() -> None:
    """Say what has come in place of it."""
    raise InputError(
        "merge is gone: processes with --shard i/n share one folder, and the last of them writes the tables"
    )


def print_experiment(experiment: "Experiment", as_json: bool = False) -> None:
    """What an experiment has found: the comparison of its only configuration, or the ranking of many."""
    tables = experiment.tables
    facts: dict[str, Any] = {
        "folder": experiment.folder,
        "complete": experiment.complete,
        "agents": len(tables.results),
        "env_steps": int(tables.results["env_steps"].max()) if len(tables.results) else tables.spec["env_steps"],
        "env_steps_per_s": max((job.env_steps_per_s for job in tables.jobs), default=0.0) or None,
        "diverged": int(tables.results["diverged"].sum()) if len(tables.results) else 0,
    }
    if as_json:
        found = {"ranking": experiment.ranking(), "comparison": experiment.comparison()} if facts["agents"] else {}
        emit(facts | found)
        return
    if facts["agents"]:
        _print_found(experiment)
        OUT.print()
    speed = f", {facts['env_steps_per_s']:,.0f} env steps/s of all agents" if facts["env_steps_per_s"] else ""
    longest = facts["env_steps"]
    early = int(tables.results["stopped"].sum()) if "stopped" in tables.results else 0
    each = f"at most {longest:,} env steps each, {early:,} stopped early" if early else f"{longest:,} env steps each"
    OUT.print(f"{facts['agents']:,} agents, {each}{speed}, {facts['diverged']} diverged", soft_wrap=True)
    if experiment.folder is not None:
        OUT.print(f"tables and policies: {experiment.folder}", soft_wrap=True)


def _print_found(experiment: "Experiment") -> None:
    from jaxmoe.analysis.ranking import printed, rankings

    ranked = rankings(experiment.tables)
    if len(ranked) == 1 and len(ranked[0].configurations) == 1:
        print_comparison(experiment.comparison(), ranked[0].diverged()[0].ravel())
    for title, table in printed(experiment.tables) if ranked and len(ranked[0].configurations) > 1 else []:
        OUT.print()
        table.title = title
        print_table(table, keys=2 if table.columns[1].header == "algorithm" else 1)
