"""Sweeps, algorithms and scenarios against each other."""

import json

import pytest
import synthetic

from jaxmoe.errors import InputError
from jaxmoe.study.comparing import compare_studies
from jaxmoe.study.statistics import difference, interval, iqm


def test_algorithms_compete_within_their_scenario(crossed):
    found = compare_studies([crossed])
    assert {competitor.name for competitor in found.competitors} == {
        f"{algorithm} {scenario}" for algorithm in ("ppo", "dqn") for scenario in ("oneshot", "queueing")
    }
    assert {frozenset((pair.first, pair.second)) for pair in found.pairs} == {
        frozenset(("ppo oneshot", "dqn oneshot")),
        frozenset(("ppo queueing", "dqn queueing")),
    }
    for pair in found.pairs:
        assert pair.split == "test" or pair.difference.mean >= 0
        assert pair.difference.low <= pair.difference.mean <= pair.difference.high


def test_sweeps_compete_if_environments_and_table_are_the_same(finished, tmp_path):
    other = synthetic.make(tmp_path / "other", rates=(1e-3,))
    found = compare_studies([finished, other])
    assert [competitor.name for competitor in found.competitors] == ["finished ppo oneshot", "other ppo oneshot"]
    assert {pair.split for pair in found.pairs} == {"train", "test"}
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"table_digest": "1" * 64}))
    assert compare_studies([finished, other]).pairs == []


def test_a_folder_against_itself_differs_by_nothing(finished):
    [pair, _] = compare_studies([finished, finished]).pairs
    assert pair.difference.mean == 0.0
    assert pair.improvement.mean == 0.5


def test_the_table_has_the_scores_of_the_judged_seeds(finished, crossed):
    table = compare_studies([finished, crossed]).table()
    assert table["train"].is_monotonic_decreasing
    assert table.set_index("name")["seeds"].to_dict()["finished ppo oneshot"] == 4


def test_one_competitor_is_one_sentence(finished):
    with pytest.raises(InputError, match="one algorithm in one scenario only"):
        compare_studies([finished])


def test_a_difference_is_that_of_the_statistics(finished):
    found = compare_studies([finished, finished]).competitors[0].scores["train"]
    shifted = difference(iqm, found + 1.0, found)
    assert shifted.mean == pytest.approx(1.0)
    alone = interval(iqm, found)
    assert shifted.high - shifted.low > alone.high - alone.low


def test_pairs_come_in_the_order_of_the_splits(crossed):
    found = compare_studies([crossed])
    assert [pair.split for pair in found.pairs] == ["train", "test"] * (len(found.pairs) // 2)
