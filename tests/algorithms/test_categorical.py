"""Drawing actions from logits, and what belongs to an action."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.algorithms.categorical import any_action, log_probability, of_action, sample


def test_actions_are_drawn_with_their_probabilities():
    logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
    uniforms = (jnp.arange(10_000, dtype=jnp.float32) + 0.5) / 10_000
    actions = jax.vmap(sample, in_axes=(None, 0))(logits, uniforms)
    np.testing.assert_allclose(np.bincount(actions) / 10_000, [0.1, 0.6, 0.3], atol=1e-3)
    assert int(sample(logits, jnp.float32(1.0))) == 2


def test_log_probabilities_are_those_of_the_actions():
    logits = jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]))
    np.testing.assert_allclose(log_probability(logits, jnp.array([1, 2])), np.log([0.6, 0.6]), rtol=1e-6)


def test_infinite_values_of_other_actions_do_not_matter():
    values = jnp.array([[1.0, -jnp.inf], [jnp.nan, 2.0]])
    assert of_action(values, jnp.array([0, 1])).tolist() == [1.0, 2.0]


def test_any_action_is_drawn_equally_often():
    uniforms = (jnp.arange(10_000, dtype=jnp.float32) + 0.5) / 10_000
    np.testing.assert_array_equal(np.bincount(any_action(5, uniforms)), 2000)
    assert int(any_action(5, jnp.float32(1.0))) == 4
