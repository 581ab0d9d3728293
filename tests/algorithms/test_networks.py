"""Networks of the agents: gradients, and parameters as one vector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmoe.algorithms.networks import MLP, product


@pytest.mark.parametrize("outputs", [2, 5, 9])
def test_the_gradient_of_a_product_is_that_of_a_plain_one(outputs):
    keys = jax.random.split(jax.random.key(0), 3)
    inputs, kernel = jax.random.normal(keys[0], (7, 5)), jax.random.normal(keys[1], (5, outputs))
    weights = jax.random.normal(keys[2], (7, outputs))
    found, expected = (
        jax.value_and_grad(lambda *factors: jnp.sum(weights * multiply(*factors)), argnums=(0, 1))(inputs, kernel)  # noqa: B023
        for multiply in (product, jnp.matmul)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_network_gives_the_same_for_one_observation_and_for_many():
    network = MLP((8,), 3)
    parameters = network.initial(jax.random.key(0), 4)
    observations = jax.random.normal(jax.random.key(1), (2, 5, 4))
    found = network.apply(parameters, observations)
    np.testing.assert_allclose(found[0], network.apply(parameters, observations[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0, 0], network.apply(parameters, observations[0, 0]), rtol=1e-5, atol=1e-6)


def test_parameters_come_back_from_a_vector():
    network = MLP((8,), 3)
    parameters = network.initial(jax.random.key(0), 4)
    flat, _ = ravel_pytree(parameters)
    again = network.from_vector(4)(flat)
    assert jax.tree.structure(again) == jax.tree.structure(parameters)
    assert all(np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (parameters, again)), strict=True))
