"""The shipped defaults of the off-policy algorithms solve `oneshot`, in fewer steps than PPO is given."""

import pytest

import jaxmoe
from jaxmoe.sweeps import lanes


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "env_steps"), [("dqn", 200_000), ("sac", 400_000)])
def test_the_shipped_defaults_solve_oneshot(algorithm, env_steps, monkeypatch):
    monkeypatch.setitem(lanes._LANES, "cpu", 2)  # as many as there are agents, on two devices: none is padding
    training = jaxmoe.train(algorithm, "oneshot", seeds=4, env_steps=env_steps, evaluations=1)
    assert training.results["train_normalised"].mean() >= 0.98
    assert not training.results["diverged"].any()
    normalised = training.comparison.query("metric == 'normalised' and split == 'test'").set_index("policy")["mean"]
    assert normalised[training.run.agents_name] > normalised["fixed_subset(6)"]
