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
    write_table_file,
)
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import is_policy_file
from jaxmoe.policy.contract import FILE_FORMATS
from jaxmoe.progress import reporting

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a training run; without it the references alone.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="A policy's .safetensors, .stablehlo or .onnx file; its own scenario if none is said."),
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
    """Compare trained agents, an exported policy, or the references alone, on the same requests."""
    if run is not None and policy is not None:
        raise InputError(f"say either the run {run} or --policy {policy}")
    if policy is not None and not is_policy_file(policy):
        raise InputError(f"--policy {policy} ends in none of .safetensors, .stablehlo, .onnx and .json")
    if run is not None and (scenario or param or setting):
        raise InputError(f"{run} says its own scenario; give --scenario, --param and --setting only without a run")
    require_table_file(out)
    with reporting() as report:
        found = jaxmoe.evaluate(
            policy or run,
            scenario,
            params=assignments("--param", param),
            settings=assignments("--setting", setting),
            table=read_table(table, no_relevance),
            slots=slots,
            seed=seed,
            report=report,
        )
    write_table_file(out, found)
    print_comparison(found, highlight=_name_of_none_of_the_references(found))


def _name_of_none_of_the_references(comparison: "pd.DataFrame") -> str | None:
    """Of the policy that the others are compared with, if there is one."""
    endings = ("agent)", "agents)", *(f".{name}" for name in FILE_FORMATS))
    return next((name for name in comparison["policy"].unique() if name.endswith(endings)), None)
