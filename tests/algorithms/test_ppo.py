"""The parts of PPO by hand; how it learns is tested with all algorithms."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, numbers
from probe_envs import OneStep

from jaxmoe.algorithms import ppo
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.errors import InputError


def test_values_after_a_step_are_at_hand_where_no_episode_is_cut(monkeypatch):
    """One pass of the critic gives them; where episodes may be cut it takes another one, with the same result."""
    config = replace(CASES["ppo"].config, rollout_length=8)
    found = []
    for truncates in (True, False):
        monkeypatch.setattr(OneStep, "truncates", truncates, raising=False)
        algorithm = ppo.make(OneStep(), config, OneStep.numbers())
        hypers = numbers(CASES["ppo"].hypers)
        state = algorithm.init(jax.random.key(0), hypers, OneStep.numbers())
        for iteration in range(2):
            clock = Clock(jnp.int32(iteration), jnp.int32(10))
            state, _ = jax.jit(algorithm.step)(state, hypers, OneStep.numbers(), clock)
        found.append(state.policy)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), *found)


def test_the_surrogate_loss_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.8, 0.2]]))
    batch = ppo.Batch(
        observation=jnp.zeros((2, 1)),
        action=jnp.array([0, 0]),
        log_probability=jnp.log(jnp.array([0.5, 0.4])),  # ratios 1 and 2
        advantage=jnp.array([-1.0, 1.0]),  # already of mean 0 and deviation 1
        target=jnp.array([1.0, 3.0]),
    )
    hypers = ppo.Hypers(clip=0.2, entropy_coef=0.0, value_coef=0.5)
    loss, metrics = ppo.surrogate_loss(logits, jnp.zeros(2), batch, hypers)
    # policy: -mean(min(-1, -1), min(2, 1.2)) = -0.1; value: 0.5 * mean(1, 9) = 2.5
    assert float(metrics["policy_loss"]) == pytest.approx(-0.1, abs=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(2.5)
    assert float(metrics["clipped"]) == pytest.approx(0.5)
    assert float(loss) == pytest.approx(-0.1 + 0.5 * 2.5, abs=1e-5)
    entropies = np.log(2), -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies))
    more, _ = ppo.surrogate_loss(logits, jnp.zeros(2), batch, hypers._replace(entropy_coef=1.0))
    assert float(loss - more) == pytest.approx(np.mean(entropies), abs=1e-5)


def test_each_pass_visits_every_row_once_in_an_order_of_its_own():
    orders = np.asarray(ppo.shuffles(jax.random.key(0), 50, 24))
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(24), (50, 1)))
    assert len({tuple(order) for order in orders}) == 50


def test_a_row_is_as_often_in_one_place_as_in_another():
    orders = np.asarray(ppo.shuffles(jax.random.key(1), 6000, 6))
    counts = np.array([np.bincount(orders[:, place], minlength=6) for place in range(6)])
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"activation": "sigmoid"}, "'sigmoid' is unknown.*tanh"), ({"minibatches": 7}, "7 does not divide.*512")],
)
def test_a_configuration_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        ppo.Config(**values)
