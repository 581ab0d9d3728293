"""`jaxmoe launch`, `run` and `finish`: an experiment that is planned here, and done by processes elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

import jaxmoe
from jaxmoe.cli.options import (
    Address,
    AsJson,
    CheckpointEvery,
    Command,
    Engine,
    Location,
    NoCompilationCache,
    Out,
    Plugins,
    Quiet,
    SpecChanges,
    TimeBudget,
    TrustPlugins,
    end,
    engine_of,
    running,
)
from jaxmoe.cli.output import ERR, OUT, emit
from jaxmoe.cli.running import print_experiment
from jaxmoe.cli.terminal import telling
from jaxmoe.errors import InputError

launch_app = typer.Typer(no_args_is_help=True, help="Plan an experiment, and write what runs it on a cluster.")


def run(
    folder: Location,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Do every n-th job only, from the i-th on; auto asks SLURM which.")
    ] = "0/1",
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
    """Do what is planned in a folder and not done yet.

    It needs no spec, and plans nothing.
    """
    from jaxmoe.experiment.engines import parse_shard

    part = parse_shard(shard)
    experiment = jaxmoe.load(folder, plugins=plugin or (), trust_plugins=trust_plugins)
    runner = engine_of(experiment, engine, address, part)
    with telling(quiet) as callback:
        experiment.run(
            runner,
            callback=callback,
            **running(time_budget, checkpoint_every, no_compilation_cache),
        )
    print_experiment(experiment, as_json)
    end(experiment, as_json)


def finish(folder: Location, as_json: AsJson = False) -> None:
    """Write tables and report of what is done, and train nothing.

    The exit code is 3 where jobs are left.
    """
    experiment = jaxmoe.load(folder).finish()
    print_experiment(experiment, as_json)
    contents = experiment.contents
    if left := len(contents.jobs) - len(contents.done):
        console = ERR if as_json else OUT
        console.print(f"{left} of {len(contents.jobs)} jobs are left: jaxmoe run {folder} does them.", soft_wrap=True)
        raise typer.Exit(3)


@launch_app.command("slurm", cls=Command)
def slurm(
    spec: Annotated[Path, typer.Argument(help="A TOML file that says what is searched, as in experiments/.")],
    nodes: Annotated[int, typer.Option(help="How many nodes share the jobs, each as a task of an array.")],
    time: Annotated[
        str, typer.Option(metavar="TIME", help="The limit of a task, as SLURM has it: minutes, HH:MM:SS or D-HH:MM:SS.")
    ],
    out: Out = None,
    overrides: SpecChanges = None,
    plugin: Plugins = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="One more option of sbatch, as --partition=gpu.")
    ] = None,
    scripts: Annotated[
        Path | None, typer.Option(help="Where the scripts and logs are written; in DIR/launch if absent.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Give the scripts to SLURM, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan an experiment, and write the scripts that run it with SLURM.

    An array of tasks shares the jobs; a last job, which waits for it, writes tables and report.
    """
    from jaxmoe.experiment import slurm

    if out is None:
        raise InputError("--out DIR says where the experiment is kept; it is missing")
    how = slurm.Launch(nodes, time, tuple(sbatch or ()))
    found = slurm.launch(spec, out, how, overrides=overrides or [], plugins=plugin or (), scripts=scripts)
    numbers = slurm.submit(found) if submit else None
    jobs, devices = found.contents.jobs, found.contents.about["devices"]
    agents = sum(len(each.agents) for each in found.contents.rounds)
    if as_json:
        facts = {"folder": found.where, "agents": agents, "jobs": len(jobs), "devices": devices}
        emit({**facts, "scripts": found.scripts, "commands": found.commands, "submitted": numbers})
        return
    lines = [found.said] if found.said else []
    lines.append(
        f"{agents:,} agents in {len(jobs):,} jobs, for {nodes} task{'' if nodes == 1 else 's'} with "
        f"{devices['devices']} x {devices['platform']} each: {found.where}"
    )
    if len(jobs) < nodes:
        lines.append(f"{nodes - len(jobs)} of the nodes have nothing to do; a smaller devices.agents_per_job helps")
    if numbers is None:
        lines += ["These commands give it to SLURM:", *found.commands]
    else:
        lines.append(f"job {numbers[0]} trains, and job {numbers[1]} finishes; their logs are in {found.scripts}")
    OUT.print("\n".join(lines), soft_wrap=True)
