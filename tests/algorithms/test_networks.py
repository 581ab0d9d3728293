"""Networks of the agents: gradients, initial weights and heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.algorithms.networks import MLP, orthogonal, product
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


@pytest.mark.parametrize(("inputs", "outputs"), [(21, 64), (64, 64), (64, 3), (1, 5), (200, 200)])
def test_initial_weights_are_orthogonal_and_those_of_flax(inputs, outputs):
    key, gain = jax.random.key(3), 2**0.5
    found = np.asarray(orthogonal(gain)(key, (inputs, outputs)))
    expected = nn.initializers.orthogonal(gain)(key, (inputs, outputs))  # a square may be near singular
    np.testing.assert_allclose(found, expected, atol=2e-4 if inputs == outputs else 1e-5)
    product = found.T @ found if inputs >= outputs else found @ found.T
    np.testing.assert_allclose(product, gain**2 * np.eye(min(inputs, outputs)), atol=1e-5)


def test_initial_weights_of_an_agent_do_not_depend_on_how_many_there_are():
    network, keys = MLP(Network(4, (8,), 3, "tanh")), jax.random.split(jax.random.key(0), 5)
    together = jax.vmap(network.initial)(keys)
    for number, key in enumerate(keys):
        for many, one in zip(jax.tree.leaves(together), jax.tree.leaves(network.initial(key)), strict=True):
            np.testing.assert_allclose(many[number], one, atol=1e-6)


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
