"""`jaxmoe report`, `status`, `compare` and `best`: what sweeps found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import jaxmoe
from jaxmoe.commands.options import OUT, CompilationCache, require_table_file, write_table_file
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    import pandas as pd

    from jaxmoe.study.comparing import Compared

Folder = Annotated[Path, typer.Argument(help="Folder of a sweep.")]


def report(folder: Folder) -> None:
    """Write what a sweep found, so far, as one web page, and its figures for a paper."""
    from jaxmoe.study.report import report as write_report

    found = write_report(folder)
    for sentence in found.sentences:
        OUT.print(sentence, soft_wrap=True)
    OUT.print(f"report: {found.path}, {found.figures} figures and their data beside it", soft_wrap=True)


def status(folder: Folder) -> None:
    """Say how far a sweep is and what is best so far; also while it runs."""
    from jaxmoe.study.status import status_lines

    OUT.print("\n".join(status_lines(folder)), soft_wrap=True)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of sweeps.")],
    out: Annotated[Path | None, typer.Option(help="Also write the tidy table to this .csv or .parquet file.")] = None,
) -> None:
    """Set the best settings of algorithms, scenarios or sweeps against each other."""
    from jaxmoe.study.comparing import compare_studies

    require_table_file(out)
    found = compare_studies(folders)
    rows = found.table()
    write_table_file(out, rows)
    _print_compared(found, rows)


def best(
    folder: Folder,
    fresh_seeds: Annotated[int, typer.Option(help="How many seeds, none of which the sweep has used.")] = 32,
    scenario: Annotated[str | None, typer.Option(help="Whose winner, where there are several scenarios.")] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Whose best setting, where there are several algorithms.")
    ] = None,
    compilation_cache: CompilationCache = True,
) -> None:
    """Train the winner of a sweep again on fresh seeds: how much of its score was luck?"""
    from jaxmoe.study.reading import MEASURES

    with reporting() as report:
        found = jaxmoe.best(
            folder,
            scenario=scenario,
            algorithm=algorithm,
            fresh_seeds=fresh_seeds,
            compilation_cache=compilation_cache,
            report=report,
        )
    OUT.print(found.winner, soft_wrap=True)
    if found.interrupted:
        OUT.print("Stopped: what was done is kept, and the same command goes on from there.")
        raise typer.Exit(130)
    OUT.print(f"interquartile mean of the {MEASURES[found.measure]} [95 % interval over seeds]")
    OUT.print(f"train prompts, seeds that chose it  {found.chosen:.3f}")
    for split, of in found.fresh.items():
        OUT.print(f"{split} prompts, {fresh_seeds} fresh seeds".ljust(36) + f"{of:.3f}")
    OUT.print(f"drop on train prompts  {found.chosen.mean - found.fresh['train'].mean:.3f}")
    OUT.print(f"tables, policies and what they do: {found.folder}", soft_wrap=True)


def _print_compared(found: "Compared", rows: "pd.DataFrame") -> None:
    from rich.table import Table

    from jaxmoe.intervals import Estimate
    from jaxmoe.study.reading import MEASURES

    OUT.print(
        f"Interquartile mean of the {MEASURES[found.measure]} [95 % interval over seeds], on seeds that chose nothing"
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    splits = [split for split in ("train", "test") if split in rows]
    for name in ("", "best setting", *(f"{split} prompts" for split in splits)):
        table.add_column(name, no_wrap=name != "best setting")
    for row in rows.to_dict("records"):
        cells = [f"{Estimate(row[split], row[f'{split}_low'], row[f'{split}_high']):.3f}" for split in splits]
        table.add_row(str(row["name"]), str(row["setting"]), *cells)
    OUT.print(table)
    if not found.pairs:
        OUT.print("\nNo two of them share their environments and expert table, so that none is said to be better.")
        return
    OUT.print(
        "\nOn the same environments: difference, and probability that an agent of the first beats one of the second"
    )
    pairs = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("first", "second", "prompts", "difference", "probability"):
        pairs.add_column(name, no_wrap=name not in ("first", "second"), overflow="fold")  # nothing is cut
    for pair in found.pairs:
        cells = [pair.split, f"{pair.difference:.3f}", f"{pair.improvement:.2f}"]
        pairs.add_row(pair.first, pair.second, *cells)
    OUT.print(pairs)
