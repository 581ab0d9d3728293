"""Learning curves are of one kind: every point is of the same requests, and so are the baselines beside them."""

import numpy as np
import pytest
import tiny

from jaxmoe.analysis import charts
from jaxmoe.analysis.ranking import ranking_of

REQUESTS = 1500  # more than the first look, so that the last evaluation is of other requests than those before it


@pytest.fixture(scope="module")
def idle():
    """Agents that learn nothing, since their rate is 0: whatever moves in their curves is no learning."""
    config = {"num_envs": 2, "rollout_length": 8, "hidden": (8,), "minibatches": 2}
    return tiny.train(
        hypers={"learning_rate": 0.0}, config=config, requests=REQUESTS, baselines=["random", "one_slot_optimum"]
    )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_who_learns_nothing_has_a_flat_curve(idle, split):
    for _, rows in idle.curves.groupby("agent"):
        assert len(rows) > 2
        assert rows["requests"].eq(1024).all()
        for measure in ("qos", "normalised"):
            assert rows[f"{split}_{measure}"].nunique() == 1


def test_final_numbers_are_of_all_requests(idle):
    rows = idle.tables.load_evaluation([0])
    served = rows[rows["split"] == "train"].groupby("by")["requests"].sum()
    assert served.to_dict() == {"prompts": REQUESTS, "look": 1024}
    last = idle.curves[idle.curves["agent"] == 0].iloc[-1]
    result = idle.results.set_index("agent").loc[0]
    assert last["train_qos"] != result["train_qos"]
    assert last["train_qos"] == pytest.approx(result["train_qos"], abs=0.02)


def test_baselines_beside_a_curve_are_of_its_requests(idle):
    ranking = ranking_of(idle.tables)
    levels = charts._look_levels(ranking, "normalised")
    assert levels.to_dict() == {"random": 0.0, "one_slot_optimum": 1.0}
    rows = idle.tables.baselines.query("by == 'look' and split == 'train'")
    assert rows["requests"].eq(1024).all()
    means = rows.set_index("policy")["qos"] / 1024
    last = idle.curves.groupby("agent").tail(1)
    scores = (last["train_qos"] - means["random"]) / (means["one_slot_optimum"] - means["random"])
    np.testing.assert_allclose(last["train_normalised"], scores, rtol=1e-5)


def test_the_band_of_a_curve_holds_what_all_its_agents_share(idle):
    ranking = ranking_of(idle.tables)
    band = charts._band(ranking, 0, "train", "normalised")
    below, above = charts.shared_reach(idle.tables, ranking.agents[0], ranking.environments[0], "train", "normalised")
    assert below > 0
    assert above > 0
    assert (band["high"] - band["iqm"] >= above - 1e-12).all()
    assert (band["iqm"] - band["low"] >= below - 1e-12).all()
