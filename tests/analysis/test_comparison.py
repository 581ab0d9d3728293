"""Policies side by side."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic
from rich.console import Console

from jaxmoe.analysis.comparison import (
    agents_name,
    behaviour_table,
    brought_by,
    compared,
    comparison,
    comparison_frame,
    family,
    margin,
    normalised_score,
    quality_table,
    sums_by,
)
from jaxmoe.analysis.intervals import Brought, UnitSums
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.tables import BaselineFacts, Objective

METRICS = (
    "qos", "score", "computing_cost", "transmission_cost", "latency_s", "energy_j",
    "arrived_share", "share_a", "share_b",
)  # fmt: skip
ENDS = {"random": 0.0, "one_slot_optimum": 1.0}


def sums(qos):
    sums = np.tile(np.array([qos, 7.0, 0.1, 0.2, 3.0, 0.5, 0.9, 0.25, 0.75]) * 10, (2, 4, 1))
    return Brought(UnitSums(sums, np.full((2, 4), 10.0)), None)


def rows_of(levels):
    evaluations = {name: [sums(level)] for name, level in levels.items()}
    own = evaluations.get("agent")
    rows = [row for split in ("train", "test") for row in compared(split, evaluations, own, METRICS, ENDS)]
    return comparison_frame(rows, {"random": True, "one_slot_optimum": False})


@pytest.fixture(scope="module")
def side_by_side():
    return rows_of({"agent": 0.5, "random": 0.2, "one_slot_optimum": 0.6})


def test_the_normalised_score_runs_from_the_worst_to_the_best():
    means = [np.array([level, 99.0]) for level in (0.2, 0.5, 0.6)]
    worst, agent, best = means
    assert normalised_score(agent, worst, best) == pytest.approx(0.75)
    assert normalised_score(worst, worst, best) == pytest.approx(0.0)
    assert normalised_score(best, worst, best) == pytest.approx(1.0)


def test_a_baseline_stands_for_a_normalised_score_where_it_does_so_in_all_environments(finished):
    families = {
        "nothing": BaselineFacts("nothing", True, {0: 0.0, 1: 0.0}),
        "slot": BaselineFacts("all of a slot", False, {0: 1.0}),
        "planner": BaselineFacts("all of a slot; plans", False, {1: 1.0}),
    }
    tables = replace(finished, families=families)
    assert tables.levels([0]) == {"nothing": 0.0, "slot": 1.0}
    assert tables.levels([1]) == {"nothing": 0.0, "planner": 1.0}
    assert tables.levels([0, 1]) == {"nothing": 0.0}


def test_every_split_policy_and_metric_has_a_row(side_by_side):
    assert len(side_by_side) == 2 * 3 * (len(METRICS) + 2)
    agent = side_by_side.query("policy == 'agent' and metric == 'normalised' and split == 'test'")
    assert agent["mean"].item() == pytest.approx(0.75)
    ahead = side_by_side.query("policy == 'random' and metric == 'ahead' and split == 'train'")
    assert ahead["mean"].item() == pytest.approx(0.3)
    assert set(side_by_side["requests"]) == {40}  # of each of the two rows


def test_without_the_two_ends_there_is_no_normalised_score():
    rows = rows_of({"agent": 0.5, "random": 0.2})
    assert set(rows["metric"]) == {*METRICS, "ahead"}


def test_the_tables_fit_a_terminal_of_eighty_columns_and_put_the_best_first(side_by_side):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(quality_table(side_by_side, "how good"))
    console.print(behaviour_table(side_by_side, "what it does"))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "0.500  0.750 [0.750, 0.750]  0.500  0.750 [0.750, 0.750]" in text
    assert text.index("one_slot_optimum") < text.index("agent ") < text.index("random")
    assert "…" not in text


def test_sums_of_an_evaluation_become_arrays(finished):
    rows = finished.load_evaluation([3, 5])
    rows = rows[(rows["split"] == "test") & (rows["by"] == "prompts")]
    mixed = sums_by(rows.sample(frac=1, random_state=0), "agent", ["qos", "latency_s"])
    assert mixed.sums.shape == (2, 8, 2)
    np.testing.assert_array_equal(mixed.counts, [synthetic.REQUESTS["test"]] * 2)
    first = rows[rows["agent"] == 3].sort_values("unit")
    np.testing.assert_array_equal(mixed.sums[0, :, 0], first["qos"].to_numpy(np.float64))


def test_episodes_count_only_where_all_agents_have_them(finished):
    rows = finished.load_evaluation([3, 5])
    rows = rows[rows["split"] == "test"]
    assert brought_by(rows, "agent", ["qos"]).episodes.sums.shape == (2, synthetic.EPISODES, 1)
    partly = rows[(rows["by"] == "prompts") | (rows["agent"] == 3)]
    assert brought_by(partly, "agent", ["qos"]).episodes is None


def test_the_winner_and_every_baseline_are_compared_with_their_keys(crossed):
    ranking = rankings(crossed)[1]
    rows = comparison(ranking)
    assert list(rows)[:3] == ["scenario", "algorithm", "configuration"]
    assert set(rows["scenario"]) == {"queueing"}
    name = agents_name("ppo", 6)
    assert set(rows["policy"]) == {name, *map(family, synthetic.LEVELS)}
    own = rows[rows["policy"] == name]
    assert set(own["algorithm"]) == {"ppo"}
    assert set(own["configuration"]) == {ranking.configurations["configuration"].iloc[ranking.winner]}
    assert rows[rows["policy"] == "random"]["configuration"].isna().all()


def test_a_baseline_that_is_not_evaluated_everywhere_is_left_out(crossed):
    here = crossed.baselines["environment"] == rankings(crossed)[0].environments[0, 1]
    partly = replace(crossed, baselines=crossed.baselines[~(here & (crossed.baselines["policy"] == "random"))])
    rows = comparison(rankings(partly)[0])
    assert "random" not in set(rows["policy"])
    assert "normalised" not in set(rows["metric"])


# The winner's margin over the second


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_margin_is_the_difference_of_the_two_means_on_seeds_that_chose_nothing(finished, split):
    [ranking] = rankings(finished)
    found = margin(ranking, split)
    scores = ranking.scores(split)[ranking.order[:2], 0, 4:].mean(axis=1)
    assert found.mean == pytest.approx(scores[0] - scores[1], abs=1e-5)
    assert found.low < found.mean < found.high


def test_of_what_is_better_small_the_margin_is_how_much_less(finished):
    tables = replace(finished, objective=Objective("latency_s"))
    [ranking] = rankings(tables)
    scores = ranking.scores("train")[ranking.order[:2], 0, 4:].mean(axis=1)
    assert margin(ranking, "train").mean == pytest.approx(scores[1] - scores[0], abs=1e-5)


def test_drawn_points_have_a_margin_though_their_environments_differ(drawn):
    [ranking] = rankings(drawn)
    scores = ranking.scores("test")[ranking.order[:2]][..., ranking.measured_on].mean(axis=(1, 2))
    assert margin(ranking, "test").mean == pytest.approx(scores[0] - scores[1], abs=1e-4)


def test_a_table_says_who_has_served_fewer_requests():
    rows = rows_of({"agent": 0.5, "random": 0.2, "one_slot_optimum": 0.6})
    rows.loc[rows["policy"] == "one_slot_optimum", "requests"] = 30
    for table, said in ((rows, ["30", "40", "40"]), (rows.assign(requests=40), [])):
        columns = {str(column.header): list(column.cells) for column in quality_table(table, "").columns}
        assert columns.get("requests", []) == said


def test_units_are_known_by_their_numbers():
    rows = pd.DataFrame({"policy": "a", "unit": [0, 2], "requests": 10, "qos": [1.0, 3.0]})
    found = sums_by(rows, "policy", ["qos"])
    assert found.sums[0, :, 0].tolist() == [1.0, 0.0, 3.0]
    assert found.counts.tolist() == [[10.0, 0.0, 10.0]]
