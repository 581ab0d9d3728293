"""The winner against the baselines: numbers recomputed by hand from the tables."""

import numpy as np
import pytest
import synthetic

from jaxmoe.analysis.answer import WINNER, answer, baseline_table, signed
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.tables import Objective


@pytest.fixture(scope="module")
def found(finished):
    return answer(rankings(finished)[0])


def mean_qos(tables, agents, split):
    """Over all requests of these agents."""
    rows = tables.load_evaluation(agents)
    rows = rows[(rows["split"] == split) & (rows["by"] == "prompts")]
    return rows["qos"].sum() / rows["requests"].sum()


@pytest.mark.parametrize("split", ["train", "test"])
def test_means_are_those_of_the_requests(finished, found, split):
    [ranking] = rankings(finished)
    measured = ranking.agents[ranking.winner, 0, 4:]
    qos = mean_qos(finished, measured, split)
    assert qos == pytest.approx(finished.results.set_index("agent").loc[measured, f"{split}_qos"].mean())
    assert found.estimate(split, "qos").mean == pytest.approx(qos)
    rule, worst, best = (
        synthetic.level(name, split) for name in ("predict_then_optimise", "random", "one_slot_optimum")
    )
    assert found.estimate(split, "ahead", "predict_then_optimise").mean == pytest.approx(qos - rule, abs=1e-6)
    assert found.estimate(split, "normalised").mean == pytest.approx((qos - worst) / (best - worst), abs=1e-5)


def test_of_several_environments_each_counts_alike(crossed):
    ranking = rankings(crossed)[0]
    found = answer(ranking)
    measured = ranking.agents[ranking.winner][:, ranking.measured_on]
    means = [mean_qos(crossed, agents, "train") for agents in measured]
    assert found.estimate("train", "qos").mean == pytest.approx(np.mean(means))
    assert found.estimate("train", "qos", "fixed_subset").mean == pytest.approx(synthetic.LEVELS["fixed_subset(6)"])
    assert set(found.aggregates) == {"mean", "optimality gap", "median over environments"}


def test_a_drawn_point_is_compared_in_its_own_environment(drawn):
    [ranking] = rankings(drawn)
    found = answer(ranking)
    measured = ranking.agents[ranking.winner, 0, ranking.measured_on]
    assert found.estimate("test", "qos").mean == pytest.approx(mean_qos(drawn, measured, "test"))
    assert found.estimate("test", "qos", "fixed_subset(6)") is not None


def test_the_strongest_rule_knows_no_more_than_a_user(found):
    assert found.strongest_rule() == "predict_then_optimise"


def test_verdicts_follow_the_intervals(found):
    for split, verdict in zip(("train", "test"), found.verdicts(["train", "test"]) * 2, strict=False):
        ahead = [policy for policy in synthetic.LEVELS if found.estimate(split, "ahead", policy).low > 0]
        assert "random" in ahead
        assert all(policy in verdict.split("level with")[0] for policy in ahead)


def test_the_table_has_the_winner_and_every_baseline(found):
    table = baseline_table(found, ["train", "test"])
    assert set(table["policy"]) == {WINNER, *synthetic.LEVELS}
    assert table.set_index("policy").loc[WINNER, "winner ahead by, train"] == ""


def test_without_baselines_there_is_an_answer_all_the_same():
    [ranking] = rankings(synthetic.make(baselines=False))
    found = answer(ranking)
    assert ranking.tables.measure == "qos"
    assert set(found.found["policy"]) == {WINNER}
    assert found.verdicts(["train", "test"]) == []
    assert set(found.aggregates) == {"mean"}


def test_the_better_one_beats_the_runner_up_also_where_small_is_good(found):
    assert found.over_runner_up.mean > 0.5
    faster = answer(rankings(synthetic.make(objective=Objective("latency_s"), entropies=(0.0,)))[0])
    assert faster.over_runner_up.mean == 1.0


def test_a_sign_stands_where_the_interval_is_on_one_side():
    assert signed(Estimate(-0.02, -0.03, -0.01)).startswith("\N{MINUS SIGN}0.020")
    assert signed(Estimate(0.02, 0.01, 0.03)) == "+0.020 [0.010, 0.030]"
