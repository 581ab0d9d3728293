"""The shipped defaults of the off-policy algorithms solve `oneshot`, in fewer steps than PPO is given."""

import pytest

import jaxmoe


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "env_steps"), [("dqn", 200_000), ("sac", 400_000)])
def test_the_shipped_defaults_solve_oneshot(algorithm, env_steps):
    spec = {"algorithm": algorithm, "env_steps": env_steps, "seeds": 4, "evaluations": 1}
    experiment = jaxmoe.sweep(spec | {"devices": {"agents_per_device": 2}})  # on two devices none is padding
    assert experiment.results["train_normalised"].mean() >= 0.98
    assert not experiment.results["diverged"].any()
    rows = experiment.comparison().query("metric == 'normalised' and split == 'test'").set_index("policy")["mean"]
    assert rows[f"{algorithm} (4 agents)"] > rows["fixed_subset(6)"]
