"""`jaxmoe evaluate`: compare policies on the same requests."""

from pathlib import Path
from typing import Annotated, Any

import typer

import jaxmoe
from jaxmoe.cli.options import (
    AsJson,
    Baselines,
    Changes,
    NoRelevance,
    Plugins,
    Quiet,
    TableOption,
    TrustPlugins,
    baseline_names,
    changes,
    read_table,
    require_table_file,
    whole_numbers,
    write_table_file,
)
from jaxmoe.cli.output import emit, print_comparison
from jaxmoe.cli.terminal import telling
from jaxmoe.errors import InputError
from jaxmoe.plugins import load_plugins
from jaxmoe.policy.bundle import is_policy_file


def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="The folder of an experiment; without it the baselines alone.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="A policy's .safetensors, .stablehlo or .onnx file; its own scenario if none is said."),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="The scenario, or its .toml file; that of the experiment if absent.")
    ] = None,
    table: TableOption = None,
    no_relevance: NoRelevance = False,
    changed: Changes = None,
    requests: Annotated[int, typer.Option(help="The requests that each policy serves on each split.")] = 8192,
    agents: Annotated[
        str,
        typer.Option(help="Which agents: best (of the best configuration), all, or numbers joined by commas."),
    ] = "best",
    baselines: Baselines = "all",
    seed: Annotated[int, typer.Option(help="The seed of the random numbers, the same for every policy.")] = 0,
    plugin: Plugins = None,
    trust_plugins: TrustPlugins = False,
    out: Annotated[Path | None, typer.Option(help="Also write the tidy table to this .csv or .parquet file.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare agents, a policy file and baselines on the same requests."""
    if run is not None and policy is not None:
        raise InputError(f"say either the experiment {run} or --policy {policy}")
    if policy is not None and not is_policy_file(policy):
        raise InputError(f"--policy {policy} ends in none of .safetensors, .stablehlo, .onnx and .json")
    require_table_file(out)
    common: dict[str, Any] = {
        **changes(changed),
        "table": None if run is not None and table is None else read_table(table, no_relevance),
        "requests": requests,
        "seed": seed,
        "baselines": baseline_names(baselines),
    }
    with telling(quiet) as callback:
        if run is not None:
            chosen: Any = agents if agents in ("best", "all") else whole_numbers("--agents", agents)
            experiment = jaxmoe.load(run, plugins=plugin or (), trust_plugins=trust_plugins)
            found = experiment.evaluate(scenario, agents=chosen, callback=callback, **common)
        else:
            load_plugins(plugin or ())
            found = jaxmoe.evaluate(policy, scenario, callback=callback, **common)
    write_table_file(out, found)
    if as_json:
        emit({"comparison": found})
        return
    print_comparison(found)
