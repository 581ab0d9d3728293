"""The parts of discrete SAC by hand; how it learns is tested with all algorithms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, learn, numbers
from jax.flatten_util import ravel_pytree
from probe_envs import Contextual, OneStep

from jaxmoe.algorithms import sac
from jaxmoe.algorithms.algorithm import Clock

HALVES = np.log([[0.5, 0.5], [0.8, 0.2]]).astype(np.float32)
VALUES = jnp.array([[1.0, 3.0], [1.0, 3.0]])


def test_the_soft_value_is_the_expected_value_and_the_entropy_bonus():
    entropies = np.log(2), -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    found = sac.soft_value(jnp.asarray(HALVES), VALUES, jnp.float32(0.5))
    np.testing.assert_allclose(found, [2.0 + 0.5 * entropies[0], 1.4 + 0.5 * entropies[1]], rtol=1e-6)
    np.testing.assert_allclose(sac.entropy(jnp.asarray(HALVES)), entropies, rtol=1e-6)


def test_the_best_policy_for_given_values_is_their_softmax():
    def loss(logits):
        return -jnp.sum(sac.soft_value(jax.nn.log_softmax(logits), VALUES, jnp.float32(0.5)))

    np.testing.assert_allclose(jax.grad(loss)(VALUES / 0.5), 0.0, atol=1e-6)
    assert loss(VALUES / 0.5) < loss(VALUES) < loss(jnp.zeros_like(VALUES))


def test_the_slope_of_the_actors_loss_by_hand():
    def loss(logits):
        return -sac.soft_value(jax.nn.log_softmax(logits), VALUES[:1], jnp.float32(0.0))[0]

    # d/dlogit_a of -sum(pi Q) is -pi_a (Q_a - sum(pi Q)) = -0.5 * (1 - 2), -0.5 * (3 - 2)
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros((1, 2)))[0], [0.5, -0.5], rtol=1e-6)


def test_the_temperature_falls_while_the_policy_is_more_random_than_aimed():
    slope = jax.grad(sac.temperature_loss)
    assert float(slope(jnp.log(2.0), jnp.float32(1.5), jnp.float32(1.0))) == pytest.approx(1.0)  # 2 * (1.5 - 1)
    assert float(slope(jnp.log(2.0), jnp.float32(0.5), jnp.float32(1.0))) == pytest.approx(-1.0)


def test_the_temperature_is_what_was_given_unless_it_is_learned():
    log_temperature, hypers = jnp.log(jnp.float32(0.3)), sac.Hypers(temperature=0.0, learn_temperature=0.0)
    assert float(sac.current_temperature(log_temperature, hypers)) == 0.0
    assert float(sac.current_temperature(log_temperature, hypers._replace(learn_temperature=1.0))) == pytest.approx(0.3)


def test_one_critics_gradient_does_not_shrink_the_others():
    case = CASES["sac"]
    algorithm = sac.make(Contextual(), replace(case.config, updates=1), Contextual.numbers())
    hypers = numbers(case.hypers._replace(max_grad_norm=0.01))
    step = jax.jit(algorithm.step)
    begun = algorithm.init(jax.random.key(0), hypers, Contextual.numbers())
    warm, _ = step(begun, hypers, Contextual.numbers(), Clock(jnp.int32(0), jnp.int32(10)))

    def first_moments(scale):
        critics = jax.tree.map(lambda both: both.at[1].multiply(scale), warm.learner.critics)
        state = warm._replace(learner=warm.learner._replace(critics=critics))
        learned, _ = step(state, hypers, Contextual.numbers(), Clock(jnp.int32(1), jnp.int32(10)))
        return jax.vmap(lambda each: ravel_pytree(each)[0])(learned.learner.moments[1].first)

    calm, wild = first_moments(1.0), first_moments(100.0)
    assert not np.allclose(calm[1], wild[1])
    np.testing.assert_array_equal(calm[0], wild[0])


def test_a_learned_temperature_brings_the_entropy_to_what_is_aimed_at():
    case = CASES["sac"]
    hypers = case.hypers._replace(temperature=0.5, learn_temperature=1.0, temperature_rate=0.02, final_rate=1.0)
    state, _, _ = learn(case, Contextual, 300, hypers._replace(target_entropy_ratio=0.5))
    logits = case.make().preferences(state.policy, jnp.eye(2))
    np.testing.assert_allclose(sac.entropy(jax.nn.log_softmax(logits)).mean(), 0.5 * np.log(2), atol=0.1)


def test_the_value_of_a_random_policy_holds_its_entropy():
    case = CASES["sac"]
    _, values, _ = learn(case, OneStep, hypers=case.hypers._replace(temperature=1.0))
    np.testing.assert_allclose(values, [1.0], atol=0.02)  # the bonus belongs to the state before, and here is none


def test_targets_follow_the_critics():
    case = CASES["sac"]
    algorithm, clock = case.make(), Clock(jnp.int32(3), jnp.int32(1000))
    start = algorithm.init(jax.random.key(0), numbers(case.hypers), Contextual.numbers())
    assert not np.array_equal(*start.learner.critics["params"]["Dense_0"]["kernel"])  # two critics, not one twice
    kept, _ = algorithm.step(start, numbers(case.hypers._replace(target_tau=0.0)), Contextual.numbers(), clock)
    jax.tree.map(np.testing.assert_array_equal, kept.learner.targets, start.learner.targets)
    copied, _ = algorithm.step(start, numbers(case.hypers._replace(target_tau=1.0)), Contextual.numbers(), clock)
    jax.tree.map(np.testing.assert_array_equal, copied.learner.targets, copied.learner.critics)
    moved = jax.tree.map(np.array_equal, copied.learner.critics, start.learner.critics)
    assert not any(jax.tree.leaves(moved))
