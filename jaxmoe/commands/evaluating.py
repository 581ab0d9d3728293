"""`jaxmoe evaluate`: compare policies on the same requests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import jaxmoe
from jaxmoe.commands.options import (
    NoRelevance,
    Parameters,
    SettingsOption,
    TableOption,
    assignments,
    print_comparison,
    read_table,
    require_table_file,
)
from jaxmoe.errors import InputError
from jaxmoe.files import write_whole
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    import pandas as pd


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
    require_table_file(out)
    with reporting() as report:
        found = jaxmoe.evaluate(
            run,
            scenario or "oneshot",
            params=assignments("--param", param),
            settings=assignments("--setting", setting),
            table=read_table(table, no_relevance),
            slots=slots,
            seed=seed,
            report=report,
        )
    if out is not None:
        write = found.to_csv if out.suffix == ".csv" else found.to_parquet
        write_whole(out, lambda path: write(path, index=False), overwrite=False)
    print_comparison(found, highlight=_agents_name(found))


def _agents_name(comparison: "pd.DataFrame") -> str | None:
    """The policy that is no reference, if there is one."""
    return next((name for name in comparison["policy"].unique() if name.endswith(("agent)", "agents)"))), None)
