"""Adam with clipped gradients, by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmoe.algorithms import optimiser


def test_the_first_step_has_the_length_of_the_learning_rate():
    parameters, gradient = jnp.array([1.0, 1.0]), jnp.array([0.3, -0.4])
    found, _, _ = optimiser.update(gradient, optimiser.initial(parameters), parameters, 0.1, 10.0)
    np.testing.assert_allclose(found, [0.9, 1.1], atol=1e-5)


def test_gradients_are_clipped_to_the_norm_before_adam_sees_them():
    parameters = jnp.zeros(2)
    moments = optimiser.initial(parameters)
    _, clipped, _ = optimiser.update(jnp.array([30.0, 40.0]), moments, parameters, 0.1, 1.0)
    _, by_hand, _ = optimiser.update(jnp.array([0.6, 0.8]), moments, parameters, 0.1, 1e9)
    for found, expected in zip(jax.tree.leaves(clipped), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rates_may_differ_between_agents_of_one_program():
    @jax.jit
    @jax.vmap
    def step(rate):
        parameters = jnp.ones(3)
        return optimiser.update(jnp.ones(3), optimiser.initial(parameters), parameters, rate, 1.0)[0]

    found = step(jnp.array([0.0, 0.1, 0.2]))
    assert found[:, 0].tolist() == pytest.approx([1.0, 0.9, 0.8], abs=1e-4)


def test_what_has_diverged_moves_nothing_from_then_on():
    parameters = {"a": jnp.ones(2), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([jnp.inf, 1.0]), "b": jnp.ones(1)}
    found, moments, diverged = optimiser.update(gradient, optimiser.initial(parameters), parameters, 0.1, 1.0)
    assert bool(diverged)
    jax.tree.map(np.testing.assert_array_equal, found, parameters)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moments))
    again, _, diverged = optimiser.update(parameters, moments, found, 0.1, 1.0, diverged)
    assert bool(diverged)
    jax.tree.map(np.testing.assert_array_equal, again, parameters)


def test_steps_are_those_of_optax():
    keys = jax.random.split(jax.random.key(0), 4)
    parameters = {"a": jax.random.normal(keys[0], (3, 2)), "b": jnp.zeros(4)}
    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01, eps=1e-5))
    state, expected = theirs.init(parameters), parameters
    moments, found = optimiser.initial(parameters), parameters
    for key in keys:
        gradient = jax.tree.map(lambda leaf, key=key: 2.0 * jax.random.normal(key, leaf.shape), parameters)
        with jax.numpy_dtype_promotion("standard"):
            changes, state = theirs.update(gradient, state)
        expected = optax.apply_updates(expected, changes)
        found, moments, _ = optimiser.update(gradient, moments, found, 0.01, 1.0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)
