"""The configurations of a sweep, best first, for a reader at a terminal."""

import pandas as pd
from rich.table import Table

from jaxmoe.study.reading import varies

SHOWN = 10


def ranked(results: pd.DataFrame, varied: list[str]) -> pd.DataFrame:
    """One row per scenario and configuration, best first: its settings, and means over seeds.

    They are ranked by the mean QoS on train prompts; an agent that diverged counts with the policy it was frozen with.
    """
    scores = _scores(results)
    groups = results.groupby(["scenario", "algorithm", "configuration", *varied], sort=False, dropna=False)
    means = groups[scores].mean()
    means["train_qos_std"] = groups["train_qos"].std(ddof=0)
    means["seeds"] = groups.size()
    means["diverged"] = groups["diverged"].sum()
    order = ["scenario", "train_qos"]
    return means.reset_index().sort_values(order, ascending=[True, False], kind="stable", ignore_index=True)


def ranking_tables(results: pd.DataFrame, varied: list[str]) -> list[tuple[str, Table]]:
    """Title and table of the best configurations of each scenario."""
    tables = []
    for scenario, rows in ranked(results, varied).groupby("scenario", sort=False):
        shown, seeds = rows.head(SHOWN), sorted(set(rows["seeds"]))
        over = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        title = f"{scenario}: the best {len(shown)} of {len(rows)} configurations by train QoS, means over {over}"
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        settings = [name for name in varied if varies(rows, name) and shown[name].notna().any()]
        if len(set(rows["algorithm"])) > 1:
            settings = ["algorithm", *settings]
        scores = [name for name in _scores(shown) if shown[name].notna().any()]
        counts = ["diverged"] if rows["diverged"].any() else []
        for name in ("configuration", *settings, *scores, *counts):
            table.add_column("no." if name == "configuration" else name.replace("_", " "), justify="right")
        for row in shown.to_dict("records"):
            cells = [_cell(row[name]) for name in ("configuration", *settings)]
            table.add_row(*cells, *(f"{row[name]:.3f}" for name in scores), *(str(row[name]) for name in counts))
        tables.append((title, table))
    return tables


def _scores(rows: pd.DataFrame) -> list[str]:
    return [str(name) for name in rows if str(name).endswith(("_qos", "_normalised"))]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
