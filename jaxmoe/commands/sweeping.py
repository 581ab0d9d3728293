"""`jaxmoe sweep` and `jaxmoe merge`: train all agents of a spec."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import jaxmoe
from jaxmoe.commands.options import OUT, CompilationCache
from jaxmoe.errors import InputError
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    from jaxmoe.sweeps.sweeping import Sweep


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


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders of all shards of a sweep.")],
    out: Annotated[Path, typer.Option(help="New folder for the whole sweep.")],
) -> None:
    """Put the shards of a sweep together, as if one process had trained all."""
    with reporting() as report:
        found = jaxmoe.merge(shards, out, report=report)
    _print_sweep(found)


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
