"""`jaxmoe report`, `status`, `compare`, `best` and `confirm`: what experiments found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import jaxmoe
from jaxmoe.cli.options import (
    Address,
    AsJson,
    Engine,
    Location,
    NoCompilationCache,
    Plugins,
    Quiet,
    TimeBudget,
    TrustPlugins,
    end,
    engine_of,
    require_table_file,
    running,
    write_table_file,
)
from jaxmoe.cli.output import OUT, emit, print_table
from jaxmoe.cli.terminal import telling
from jaxmoe.errors import InputError
from jaxmoe.table.splits import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from jaxmoe.analysis.comparing import Compared


def report(folder: Location, as_json: AsJson = False) -> None:
    """Write what an experiment found as a web page, and its figures."""
    found = jaxmoe.report(folder)
    page = f"{folder.rstrip('/')}/report/report.html"
    if as_json:
        emit({"report": page, "figures": found.figures, "sentences": found.sentences})
        return
    for sentence in found.sentences:
        OUT.print(sentence, soft_wrap=True)
    OUT.print(f"report: {page}, {found.figures} figures and their data beside it", soft_wrap=True)


def status(folder: Location, as_json: AsJson = False) -> None:
    """Say how far an experiment is, also while it runs, and what is best."""
    from jaxmoe.analysis.status import leaders, standing, status_lines
    from jaxmoe.experiment.locations import location_of
    from jaxmoe.experiment.tables import tables_of

    tables = tables_of(location_of(folder), lean=True)
    if as_json:
        at = standing(tables)
        found = {"complete": at.complete, **at._asdict(), "at_work": tables.unfinished, "best": leaders(tables)}
        emit({"name": tables.name, **found})
    else:
        OUT.print("\n".join(status_lines(tables)), soft_wrap=True)


def compare(
    folders: Annotated[list[str], typer.Argument(help="The folders of experiments, or their addresses.")],
    out: Annotated[Path | None, typer.Option(help="Also write the tidy table to this .csv or .parquet file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the best of algorithms, scenarios or experiments."""
    require_table_file(out)
    found = jaxmoe.compare(folders)
    rows = found.table()
    write_table_file(out, rows)
    if as_json:
        emit({"measure": found.measure, "competitors": rows, "pairs": found.pairs})
    else:
        _print_compared(found, rows)


def best(
    folder: Location,
    scenario: Annotated[
        str | None, typer.Option(help="The scenario whose winner is meant, where there are several.")
    ] = None,
    as_json: AsJson = False,
    fresh_seeds: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Say which configuration wins, and which agent is the best."""
    if fresh_seeds is not None:
        raise InputError(
            f"best prints the winner; jaxmoe confirm {folder} --seeds {fresh_seeds} trains it on fresh seeds"
        )
    from jaxmoe.analysis.comparison import margin
    from jaxmoe.analysis.intervals import Estimate
    from jaxmoe.analysis.ranking import best_agent, best_position, ranking_of
    from jaxmoe.analysis.tables import measure_words

    experiment = jaxmoe.load(folder)
    ranking = ranking_of(experiment.tables, scenario)
    position = best_position(ranking)
    row = ranking.table().iloc[0]
    if as_json:
        found = {"objective": str(experiment.tables.objective), "complete": experiment.complete}
        found |= {"configuration_in_words": ranking.describe(position), "best_agent": best_agent(ranking)}
        margins = {split: margin(ranking, split) for split in experiment.tables.splits}
        found["margin"] = {split: None if of is None else of._asdict() for split, of in margins.items()}
        emit({**{str(key): value for key, value in row.items()}, **found})
        return
    if not experiment.complete:
        OUT.print(f"not finished: {experiment.status()}; the winner may change", soft_wrap=True)
    OUT.print(
        f"{ranking.scenario}: {ranking.describe(position)} (configuration {row['configuration']})", soft_wrap=True
    )
    OUT.print(f"{experiment.tables.objective}, on the seeds that chose it  {row['chosen']:.3f}", soft_wrap=True)
    for split in experiment.tables.splits:
        measured = Estimate(row[split], row[f"{split}_low"], row[f"{split}_high"])
        kind = measure_words(experiment.tables.measure)
        OUT.print(
            f"interquartile mean of the {kind} on {split} prompts, on the other seeds  {measured:.3f}", soft_wrap=True
        )
    ahead = margin(ranking, experiment.tables.splits[-1])
    if ahead is not None:
        second = ranking.describe(int(ranking.order[1]))
        OUT.print(
            f"margin over the second ({second}) on {experiment.tables.splits[-1]} prompts  {ahead:+.3f}",
            soft_wrap=True,
        )
    OUT.print(
        f"best agent: {best_agent(ranking)}; jaxmoe export {folder} --agent best --out policy.safetensors",
        soft_wrap=True,
    )


def confirm(
    folder: Location,
    seeds: Annotated[int, typer.Option(help="How many seeds, none of which has chosen anything.")] = 32,
    scenario: Annotated[
        str | None, typer.Option(help="The scenario whose winner is meant, where there are several.")
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="The algorithm whose best configuration is meant, where there are several.")
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    plugin: Plugins = None,
    trust_plugins: TrustPlugins = False,
    time_budget: TimeBudget = None,
    no_compilation_cache: NoCompilationCache = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the winner again on fresh seeds, to see how much was luck."""
    from jaxmoe.analysis.tables import measure_words

    experiment = jaxmoe.load(folder, plugins=plugin or (), trust_plugins=trust_plugins)
    with telling(quiet) as callback:
        found = experiment.confirm(
            seeds=seeds,
            scenario=scenario,
            algorithm=algorithm,
            engine=engine_of(experiment, engine, address),
            callback=callback,
            **running(time_budget, None, no_compilation_cache),
        )
    if as_json:
        emit({**found._asdict(), "seeds": seeds, "complete": bool(found.fresh)})
        end(experiment, as_json)
        return
    OUT.print(found.winner, soft_wrap=True)
    end(experiment)
    OUT.print(f"interquartile mean of the {measure_words(found.measure)} [95 % interval over seeds]", soft_wrap=True)
    OUT.print(f"{found.chosen_by} prompts, seeds that chose it".ljust(42) + f"{found.chosen:.3f}")
    for split, of in found.fresh.items():
        OUT.print(f"{split} prompts, {seeds} fresh seeds".ljust(42) + f"{of:.3f}")
    change = found.fresh[found.chosen_by].mean - found.chosen.mean
    OUT.print(f"change on {found.chosen_by} prompts".ljust(42) + f"{change:+.3f}")


def _print_compared(found: "Compared", rows: "pd.DataFrame") -> None:
    from rich.table import Table

    from jaxmoe.analysis.intervals import Estimate
    from jaxmoe.analysis.statistics import sure
    from jaxmoe.analysis.tables import measure_words

    table = Table(
        title=f"Interquartile mean of the {measure_words(found.measure)} [95 % interval over seeds], "
        "on seeds that chose nothing"
    )
    splits = [split for split in SPLITS if split in rows]
    for name in ("", "best configuration", *(f"{split} prompts" for split in splits)):
        table.add_column(name, no_wrap=name != "best configuration")
    for row in rows.to_dict("records"):
        cells = [f"{Estimate(row[split], row[f'{split}_low'], row[f'{split}_high']):.3f}" for split in splits]
        table.add_row(str(row["name"]), str(row["configuration"]), *cells)
    print_table(table)
    _print_leads(rows, splits, found.remark())
    if not found.pairs:
        OUT.print(
            "\nNo two of them share their environments and expert table, so that none is said to be better.",
            soft_wrap=True,
        )
        return
    OUT.print()
    pairs = Table(
        title="On the same environments: difference, and probability that an agent of the first beats one of the second"
    )
    for name in ("first", "second", "prompts", "difference", "probability"):
        pairs.add_column(name, no_wrap=name not in ("first", "second"))
    for pair in found.pairs:
        cells = [pair.split, f"{pair.difference:.3f}", sure(pair.improvement)]
        pairs.add_row(pair.first, pair.second, *cells)
    print_table(pairs, keys=2)


def _print_leads(rows: "pd.DataFrame", splits: list[str], remark: str) -> None:
    """How far competitors are ahead of what a user could do without learning, where that is known."""
    from rich.table import Table

    from jaxmoe.analysis.intervals import Estimate

    rows = rows[rows["rival"].notna()]
    if not len(rows):
        return
    table = Table(
        title="QoS beyond the strongest deployable baseline, on the same requests "
        "[95 % interval over seeds, prompts and episodes]"
    )
    for name in ("", "baseline", *(f"{split} prompts" for split in splits)):
        table.add_column(name, no_wrap=True)
    for row in rows.to_dict("records"):
        ends = [[row[f"{split}_lead{end}"] for end in ("", "_low", "_high")] for split in splits]
        table.add_row(str(row["name"]), str(row["rival"]), *(f"{Estimate(*of):+.3f}" for of in ends))
    OUT.print()
    print_table(table)
    if remark:
        OUT.print(f"\n{remark}", soft_wrap=True)
