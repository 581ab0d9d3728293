"""Policies side by side: tidy tables with intervals, and the same for a reader at a terminal."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from jaxmoe.intervals import Estimate, Tally, estimate


def compare(
    tallies: dict[str, dict[str, Tally]], metrics: tuple[str, ...], best: str, worst: str = "random"
) -> pd.DataFrame:
    """One row per split, policy and metric: `mean`, `low` and `high` of its 95 % interval.

    Beside the given metrics there is `normalised`: `(QoS - worst)/(best - worst)`, the same draws for all three.

    Args:
        tallies: split -> policy -> what it brought; the first metric is the QoS.
        metrics: names of the metrics.
        best: policy whose normalised score is 1.
        worst: policy whose normalised score is 0.
    """
    rows = []
    for split, policies in tallies.items():
        for policy, tally in policies.items():
            estimates = dict(zip(metrics, estimate(lambda means: means, [tally]), strict=True))
            [estimates["normalised"]] = estimate(normalised_score, [tally, policies[worst], policies[best]])
            rows += [(split, policy, metric, *found) for metric, found in estimates.items()]
    return pd.DataFrame(rows, columns=["split", "policy", "metric", *Estimate._fields])


def normalised_score(
    means: NDArray[np.float64], worst: NDArray[np.float64], best: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`(QoS - worst)/(best - worst)` from the means of three policies, the QoS first.

    >>> normalised_score(np.array([0.5]), np.array([0.3]), np.array([0.7])).round(6).tolist()
    [0.5]
    """
    return (means[..., :1] - worst[..., :1]) / (best[..., :1] - worst[..., :1])


def quality_table(comparison: pd.DataFrame, title: str, highlight: str | None = None) -> Table:
    """How good each policy is: mean QoS, and normalised score with its interval, best policy first."""
    cells, splits = _cells(comparison), list(comparison["split"].unique())
    table = _table(title, [f"{split}\n{what}" for split in splits for what in ("QoS", "normalised")])
    for policy in _by_quality(comparison):
        row: list[str] = []
        for split in splits:
            row += [f"{cells[split, policy, 'qos'].mean:.3f}", f"{cells[split, policy, 'normalised']:.3f}"]
        table.add_row(policy, *row, style="bold" if policy == highlight else None)
    return table


def behaviour_table(comparison: pd.DataFrame, title: str, highlight: str | None = None) -> Table:
    """What each policy does on the train prompts: score, costs, delay, energy, and how often it asks each expert."""
    cells = _cells(comparison)
    experts = [name for name in comparison["metric"].unique() if name.startswith("share_")]
    table = _table(title, ["score", "cost", "latency s", "energy J", "arrived"])
    for expert in experts:
        table.add_column(expert.removeprefix("share_"), justify="right", overflow="ellipsis", no_wrap=True)
    for policy in _by_quality(comparison):
        mean = {
            metric: found.mean for (split, name, metric), found in cells.items() if (split, name) == ("train", policy)
        }
        row = [
            f"{mean['score']:.2f}",
            f"{mean['computing_cost'] + mean['transmission_cost']:.3f}",
            f"{mean['latency_s']:.1f}",
            f"{mean['energy_j']:.1f}",
            f"{mean['arrived_share']:.0%}",
            *(f"{mean[expert]:.0%}" for expert in experts),
        ]
        table.add_row(policy, *row, style="bold" if policy == highlight else None)
    return table


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=" " not in heading)
    return table


def _cells(comparison: pd.DataFrame) -> dict[tuple[str, str, str], Estimate]:
    columns = [comparison[name].tolist() for name in ("split", "policy", "metric", "mean", "low", "high")]
    return {(split, policy, metric): Estimate(*found) for split, policy, metric, *found in zip(*columns, strict=True)}


def _by_quality(comparison: pd.DataFrame) -> list[str]:
    qos = comparison.query("split == 'train' and metric == 'qos'")
    return qos.sort_values("mean", ascending=False)["policy"].tolist()
