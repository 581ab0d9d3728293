"""Policies side by side."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxmoe.intervals import Tally
from jaxmoe.sweeps.comparison import behaviour_table, compare, normalised_score, quality_table

METRICS = (
    "qos", "score", "computing_cost", "transmission_cost", "latency_s", "energy_j",
    "arrived_share", "share_a", "share_b",
)  # fmt: skip


def tally(qos):
    sums = np.tile(np.array([qos, 7.0, 0.1, 0.2, 3.0, 0.5, 0.9, 0.25, 0.75]) * 10, (2, 4, 1))
    return Tally(sums, np.full((2, 4), 10.0))


@pytest.fixture
def comparison():
    levels = {"random": 0.2, "agent": 0.5, "best": 0.6}
    tallies = {split: {name: tally(level) for name, level in levels.items()} for split in ("train", "test")}
    return compare(tallies, METRICS, best="best")


def test_the_normalised_score_runs_from_the_worst_to_the_best():
    means = [np.array([level, 99.0]) for level in (0.2, 0.5, 0.6)]
    worst, agent, best = means
    assert normalised_score(agent, worst, best) == pytest.approx(0.75)
    assert normalised_score(worst, worst, best) == pytest.approx(0.0)
    assert normalised_score(best, worst, best) == pytest.approx(1.0)


def test_every_split_policy_and_metric_has_a_row(comparison):
    assert len(comparison) == 2 * 3 * (len(METRICS) + 1)
    agent = comparison.query("policy == 'agent' and metric == 'normalised' and split == 'test'")
    assert agent["mean"].item() == pytest.approx(0.75)


def test_the_tables_fit_a_terminal_of_eighty_columns_and_put_the_best_first(comparison):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(quality_table(comparison, "how good"))
    console.print(behaviour_table(comparison, "what it does"))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "0.500  0.750 [0.750, 0.750]  0.500  0.750 [0.750, 0.750]" in text
    assert text.index("best") < text.index("agent ") < text.index("random")
    assert "…" not in text
