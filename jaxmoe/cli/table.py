"""`jaxmoe table`: check, show, build and report on expert tables."""

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from jaxmoe.cli.options import AsJson, NoRelevance, read_table
from jaxmoe.cli.output import OUT, emit, print_table
from jaxmoe.errors import InputError

table_app = typer.Typer(no_args_is_help=True, help="Check, show, build and report on expert tables.")

TablePath = Annotated[
    Path | None,
    typer.Argument(help="A folder of raw records, or a CSV, Excel or Parquet file; the shipped table if absent."),
]


@table_app.command("check")
def table_check(path: TablePath = None, no_relevance: NoRelevance = False, as_json: AsJson = False) -> None:
    """Read a table and say what it holds, or what is wrong in it."""
    from jaxmoe.table.splits import describe_prompts_in_two_splits
    from jaxmoe.table.wide import WIDE, WIDE_RULE

    table = read_table(path, no_relevance)
    counts, most = Counter(table.meta.splits), table.complete_up_to()
    count = sum(math.comb(table.num_experts, size) for size in range(most + 1))
    doubled = describe_prompts_in_two_splits(
        zip(table.meta.prompt_ids, table.meta.splits, table.meta.prompts, strict=True)
    )
    if as_json:
        facts = {"prompts": table.num_prompts, "splits": counts, "subsets": count, "max_experts": most}
        about = {"experts": table.experts, "source": table.meta.provenance, "digest": table.meta.digest}
        emit({**facts, **about, "notes": list(doubled)})
        return
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    whole = most == table.num_experts
    OUT.print(
        f"The table is complete{'' if whole else f' up to {most} of {table.num_experts} experts'}: "
        f"{table.num_prompts} prompts ({splits}), {count} subsets each.",
        soft_wrap=True,
    )
    if not whole:
        OUT.print(f"limit    agents may ask at most so many experts: --set settings.max_experts={most}", soft_wrap=True)
    OUT.print(f"experts  {', '.join(table.experts)}", soft_wrap=True)
    if WIDE in table.meta.provenance:
        OUT.print(f"columns  the source has {WIDE_RULE}", soft_wrap=True)
    OUT.print(f"source   {table.meta.provenance}", soft_wrap=True)
    OUT.print(f"digest   {table.meta.digest}", soft_wrap=True)
    for line in doubled:
        OUT.print(line, soft_wrap=True)


@table_app.command("show")
def table_show(
    path: TablePath = None,
    experts: Annotated[str | None, typer.Option(help="Show only these experts, joined by commas.")] = None,
    no_relevance: NoRelevance = False,
    as_json: AsJson = False,
) -> None:
    """Show mean score and words of every subset of experts."""
    from rich.table import Table

    from jaxmoe.table import describe

    table = read_table(path, no_relevance)
    if experts is not None:
        table = table.select_experts(name.strip() for name in experts.split(","))
    rows = describe(table)
    if as_json:
        emit({"subsets": rows})
        return
    shown = Table()
    for name in rows:
        shown.add_column(str(name), justify="right", no_wrap=True)
    for row in rows.itertuples(index=False):
        shown.add_row(str(row[0]), *(f"{number:.2f}" for number in row[1:]))
    print_table(shown)


@table_app.command("build")
def table_build(
    folder: Annotated[Path, typer.Argument(help="The folder of raw records.")],
    out: Annotated[Path, typer.Option(help="The file to write, .parquet or .csv.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a table from raw records."""
    from jaxmoe.table import build_table

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; choose another file or say --overwrite")
    table = build_table(folder)
    table.save(out, overwrite=overwrite)
    if as_json:
        emit({"table": out, "prompts": table.num_prompts, "experts": table.experts})
        return
    OUT.print(f"{out}: {table.num_prompts} prompts, experts {', '.join(table.experts)}", soft_wrap=True)


@table_app.command("report")
def table_report(
    out: Annotated[Path, typer.Option(help="A new or empty folder for the page and its figures.")],
    path: TablePath = None,
    no_relevance: NoRelevance = False,
    as_json: AsJson = False,
) -> None:
    """Write what the experts are worth as a web page."""
    from jaxmoe.analysis.table_report import has_raw_records
    from jaxmoe.analysis.table_report import table_report as write_report

    table = read_table(path, no_relevance)
    page = write_report(table, path if path is not None and has_raw_records(path) else None, out)
    if as_json:
        emit({"report": page})
        return
    OUT.print(f"report: {page}", soft_wrap=True)
