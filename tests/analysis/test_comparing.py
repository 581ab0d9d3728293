"""Experiments, algorithms and scenarios against each other."""

from dataclasses import replace

import pytest
import synthetic

from jaxmoe.analysis.comparing import compare_tables
from jaxmoe.analysis.statistics import difference, interval, iqm
from jaxmoe.analysis.tables import Objective
from jaxmoe.errors import InputError


@pytest.fixture(scope="module")
def compared(crossed):
    return compare_tables([crossed])


@pytest.fixture(scope="module")
def twice(finished):
    return compare_tables([finished, finished])


def test_algorithms_compete_within_their_scenario(compared):
    assert {competitor.name for competitor in compared.competitors} == {
        f"{algorithm} {scenario}" for algorithm in ("ppo", "dqn") for scenario in ("oneshot", "queueing")
    }
    assert {frozenset((pair.first, pair.second)) for pair in compared.pairs} == {
        frozenset(("ppo oneshot", "dqn oneshot")),
        frozenset(("ppo queueing", "dqn queueing")),
    }
    for pair in compared.pairs:
        assert pair.split == "test" or pair.difference.mean >= 0
        assert pair.difference.low <= pair.difference.mean <= pair.difference.high


def test_pairs_come_in_the_order_of_the_splits(compared):
    assert [pair.split for pair in compared.pairs] == ["train", "test"] * (len(compared.pairs) // 2)


def test_experiments_compete_if_environments_and_table_are_the_same(finished):
    other = synthetic.make(name="other", rates=(1e-3,))
    found = compare_tables([finished, other])
    assert [competitor.name for competitor in found.competitors] == ["finished ppo oneshot", "other ppo oneshot"]
    assert {pair.split for pair in found.pairs} == {"train", "test"}
    assert {(pair.first, pair.second) for pair in found.pairs} == {("finished ppo oneshot", "other ppo oneshot")}
    assert compare_tables([finished, replace(other, table_digest="1" * 64)]).pairs == []
    elsewhere = synthetic.make(name="elsewhere", weights=(0.5,))
    assert compare_tables([finished, elsewhere]).pairs == []


def test_folders_of_one_name_are_told_apart_by_their_paths(finished):
    names = [each.name for each in compare_tables([finished, replace(finished, where="else/finished")]).competitors]
    assert names == ["runs/finished ppo oneshot", "else/finished ppo oneshot"]


def test_an_experiment_against_itself_differs_by_nothing(twice):
    [pair, _] = twice.pairs
    assert pair.difference.mean == 0.0
    assert pair.improvement.mean == 0.5


def test_the_table_has_the_scores_of_the_judged_seeds(finished, crossed):
    table = compare_tables([finished, crossed]).table()
    assert table["train"].is_monotonic_decreasing
    assert table.set_index("name")["seeds"].to_dict()["finished ppo oneshot"] == 4


def test_what_is_better_the_smaller_it_is_has_the_smallest_first():
    objective = Objective("latency_s")
    fast, slow = (synthetic.make(name=f"at {rate:g}", rates=(rate,), objective=objective) for rate in (1e-3, 2e-2))
    found = compare_tables([slow, fast])
    assert found.table()["train"].is_monotonic_increasing
    [train, _] = found.pairs
    assert (train.first, train.second) == ("at 0.001 ppo oneshot", "at 0.02 ppo oneshot")
    assert train.difference.mean < 0
    assert train.improvement.mean == 1.0


@pytest.mark.parametrize("which", ["finished", "drawn"])
def test_a_configuration_that_was_trained_again_is_judged_on_its_fresh_seeds(which, request):
    tables = request.getfixturevalue(which)
    measured, again = compare_tables([tables, replace(synthetic.confirmed(tables), name="again")]).competitors
    assert measured.configuration == again.configuration
    assert again.scores["train"].shape == (1, 5)
    assert again.scores["train"].mean() < measured.scores["train"].mean() - 0.05


def test_experiments_of_different_objectives_are_compared_by_qos(finished):
    other = synthetic.make(name="other", objective=Objective("latency_s"))
    assert compare_tables([finished, other]).measure == "qos"


def test_one_competitor_and_an_untrained_one_are_one_sentence_each(finished):
    with pytest.raises(InputError, match="one algorithm in one scenario only"):
        compare_tables([finished])
    with pytest.raises(InputError, match="runs/new: none of 48 agents is trained yet"):
        compare_tables([finished, synthetic.make(name="new", trained=0)])


def test_a_difference_is_that_of_the_statistics(twice):
    found = twice.competitors[0].scores["train"]
    shifted = difference(iqm, found + 1.0, found)
    assert shifted.mean == pytest.approx(1.0)
    alone = interval(iqm, found)
    assert shifted.high - shifted.low > alone.high - alone.low


def test_a_difference_is_paired_where_both_have_the_same_seeds(crossed):
    found = compare_tables([crossed])
    by_name = {competitor.name: competitor for competitor in found.competitors}
    for pair in found.pairs:
        first, second = by_name[pair.first], by_name[pair.second]
        assert first.seeds == second.seeds == (3, 4, 5)
        one, other = (each.scores[pair.split] for each in (first, second))
        assert pair.difference == difference(iqm, one, other, paired=True)
