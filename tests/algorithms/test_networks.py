"""Networks of the agents: gradients, and parameters as one vector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxmoe.algorithms.networks import MLP, product
from jaxmoe.policy.contract import Network


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
    network = MLP(Network(4, (8,), 3, "tanh"))
    parameters = network.initial(jax.random.key(0))
    observations = jax.random.normal(jax.random.key(1), (2, 5, 4))
    found = network.apply(parameters, observations)
    np.testing.assert_allclose(found[0], network.apply(parameters, observations[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0, 0], network.apply(parameters, observations[0, 0]), rtol=1e-5, atol=1e-6)


def test_parameters_come_back_from_a_vector():
    network = MLP(Network(4, (8,), 3, "tanh"))
    parameters = network.initial(jax.random.key(0))
    flat, _ = ravel_pytree(parameters)
    again = network.from_vector()(flat)
    assert jax.tree.structure(again) == jax.tree.structure(parameters)
    assert all(np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (parameters, again)), strict=True))


def test_a_dueling_head_is_value_and_advantage():
    network = MLP(Network(4, (8,), 3, "tanh"), head="dueling")
    plain = MLP(Network(4, (8,), 4, "tanh"))
    parameters, observation = network.initial(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 4))
    value, *advantages = jnp.moveaxis(plain.apply(parameters, observation), -1, 0)
    expected = [value + each - sum(advantages) / 3 for each in advantages]
    np.testing.assert_allclose(network.apply(parameters, observation), jnp.stack(expected, axis=-1), atol=1e-6)


def test_outside_a_head_is_part_of_the_last_layer_and_comes_back():
    network, observation = (
        MLP(Network(4, (8,), 3, "tanh"), head="dueling"),
        jax.random.normal(jax.random.key(1), (5, 4)),
    )
    parameters = jax.tree.map(lambda leaf: leaf + 0.1, network.initial(jax.random.key(0)))
    tensors = network.tensors(parameters)
    assert {name: tensor.shape for name, tensor in tensors.items()} == network.network.shapes()
    plain = MLP(network.network)
    for again in (
        plain.apply(plain.parameters(tensors), observation),
        network.apply(network.parameters(tensors), observation),
    ):
        np.testing.assert_allclose(again, network.apply(parameters, observation), atol=1e-5)
