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


_COLUMNS = [  # of the terminal's table: heading, split, metric, format
    ("train QoS", "train", "qos", ".3f"),
    ("normalised", "train", "normalised", ".3f"),
    ("test QoS", "test", "qos", ".3f"),
    ("normalised", "test", "normalised", ".3f"),
]
_PLAIN_COLUMNS = [("score", "score", ".2f"), ("latency s", "latency_s", ".1f"), ("arrived", "arrived_share", ".0%")]


def to_rich(comparison: pd.DataFrame, title: str, highlight: str | None = None) -> Table:
    """The comparison as a table for the terminal: the QoS with intervals, the rest as means on train prompts."""
    table = Table(title=title, caption="mean [95 % interval over prompts and seeds]; costs on train prompts")
    table.add_column("policy", no_wrap=True)
    for heading, *_ in (*_COLUMNS, *_PLAIN_COLUMNS):
        table.add_column(heading, justify="right", no_wrap=True)
    found = {(row.split, row.policy, row.metric): Estimate(row.mean, row.low, row.high) for row in comparison.itertuples()}
    order = comparison.query("split == 'train' and metric == 'qos'").sort_values("mean", ascending=False)
    for policy in order["policy"]:
        cells = [format(found[split, policy, metric], spec) for _, split, metric, spec in _COLUMNS]
        plain = [format(found["train", policy, metric].mean, spec) for _, metric, spec in _PLAIN_COLUMNS]
        table.add_row(policy, *cells, *plain, style="bold" if policy == highlight else None)
    return table
