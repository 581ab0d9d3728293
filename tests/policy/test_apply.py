"""A network's description computes the same in NumPy, in JAX and in what flax makes of it for training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe import policy
from jaxmoe.algorithms.networks import ACTIVATIONS, MLP
from jaxmoe.policy.contract import ACTIVATIONS as NAMED
from jaxmoe.policy.contract import Network
from jaxmoe.policy.network import ACTIVATIONS as COMPUTED


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_numpy_jax_and_flax_agree(activation, hidden):
    network = Network(inputs=5, hidden=hidden, outputs=3, activation=activation)
    trained = MLP(network)
    parameters = jax.tree.map(lambda leaf: leaf + 0.1, trained.initial(jax.random.key(0)))
    tensors = {name: np.asarray(tensor) for name, tensor in trained.tensors(parameters).items()}
    given = 3 * jax.random.normal(jax.random.key(1), (7, 2, 5))
    inputs, expected = np.asarray(given), trained.apply(parameters, given)
    np.testing.assert_allclose(policy.apply(network, tensors, inputs), expected, atol=2e-6)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(policy.apply(network, tensors, given, jnp), expected, atol=2e-6)


def test_every_activation_that_a_contract_names_is_computed():
    assert tuple(COMPUTED) == NAMED == tuple(ACTIVATIONS)


def test_large_inputs_stay_finite():
    for name in COMPUTED:
        network = Network(inputs=1, hidden=(2,), outputs=1, activation=name)
        tensors = {name: np.ones(shape, np.float32) for name, shape in network.shapes().items()}
        assert np.isfinite(policy.apply(network, tensors, np.array([[1e4], [-1e4]], np.float32))).all()
