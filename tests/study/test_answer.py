"""The winner against the references: numbers recomputed by hand from the tables."""

import numpy as np
import pytest
import synthetic

from jaxmoe.intervals import Estimate
from jaxmoe.study.answer import WINNER, answer, reference_table, signed
from jaxmoe.study.arena import arenas
from jaxmoe.study.reading import read_study


@pytest.mark.parametrize("split", ["train", "test"])
def test_means_are_those_of_the_prompts(finished, split):
    study = read_study(finished)
    [arena] = arenas(study)
    found = answer(arena)
    judged = arena.agents[arena.winner, 0, 4:]
    prompts = study.prompts[study.prompts["agent"].isin(judged) & (study.prompts["split"] == split)]
    qos = np.average(prompts["qos"], weights=prompts["slots"])
    assert found.estimate(split, "qos").mean == pytest.approx(qos)
    shift = 0.01 if split == "test" else 0.0
    rule = synthetic.LEVELS["predict_then_optimise"] - shift
    assert found.estimate(split, "ahead", "predict_then_optimise").mean == pytest.approx(qos - rule)
    worst, best = synthetic.LEVELS["random"] - shift, synthetic.LEVELS["one_slot_optimum"] - shift
    assert found.estimate(split, "normalised").mean == pytest.approx((qos - worst) / (best - worst))


def test_of_several_environments_each_counts_alike(crossed):
    study = read_study(crossed)
    arena = arenas(study)[0]
    found = answer(arena)
    judged = arena.agents[arena.winner][:, arena.judged_on]
    means = [
        study.prompts[study.prompts["agent"].isin(agents) & (study.prompts["split"] == "train")]["qos"].mean()
        for agents in judged
    ]
    assert found.estimate("train", "qos").mean == pytest.approx(np.mean(means))
    assert found.estimate("train", "qos", "fixed_subset").mean == pytest.approx(synthetic.LEVELS["fixed_subset(6)"])


def test_the_strongest_rule_knows_no_more_than_a_user(finished):
    [arena] = arenas(read_study(finished))
    assert answer(arena).strongest_rule() == "predict_then_optimise"


def test_verdicts_follow_the_intervals(finished):
    [arena] = arenas(read_study(finished))
    found = answer(arena)
    for split, verdict in zip(("train", "test"), found.verdicts(["train", "test"]) * 2, strict=False):
        ahead = [policy for policy in synthetic.LEVELS if found.estimate(split, "ahead", policy).low > 0]
        assert "random" in ahead
        assert all(policy in verdict.split("level with")[0] for policy in ahead)


def test_the_table_has_the_winner_and_every_reference(finished):
    [arena] = arenas(read_study(finished))
    table = reference_table(answer(arena), ["train", "test"])
    assert set(table["policy"]) == {WINNER, *synthetic.LEVELS}
    assert table.set_index("policy").loc[WINNER, "winner ahead by, train"] == ""


def test_without_references_there_is_an_answer_all_the_same(tmp_path):
    [arena] = arenas(read_study(synthetic.make(tmp_path / "sweep", references=False)))
    found = answer(arena)
    assert arena.study.measure == "qos"
    assert set(found.found["policy"]) == {WINNER}
    assert found.verdicts(["train", "test"]) == []


def test_a_sign_stands_where_the_interval_is_on_one_side():
    assert signed(Estimate(-0.02, -0.03, -0.01)).startswith("\N{MINUS SIGN}0.020")
    assert signed(Estimate(0.02, 0.01, 0.03)) == "+0.020 [0.010, 0.030]"
