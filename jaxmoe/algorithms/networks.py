"""Networks of the agents: multilayer perceptrons. The only module that imports flax."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmoe.policy.contract import Network

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "swish": nn.swish,
}


@jax.custom_vjp
def product(inputs: Float[Array, "B inputs"], kernel: Float[Array, "inputs outputs"]) -> Float[Array, "B outputs"]:
    """`inputs @ kernel`, with a faster gradient for kernels that have more inputs than outputs.

    On a CPU XLA first turns the left factor of `inputs.T @ gradient`; `gradient.T @ inputs` turns the smaller one.
    """
    return inputs @ kernel


def _product_forwards(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel, (inputs, kernel)


def _product_backwards(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = factors
    if kernel.shape[0] <= kernel.shape[1]:
        return gradient @ kernel.T, inputs.T @ gradient
    turned = jax.lax.optimization_barrier(gradient.T @ inputs)  # or XLA would turn the product back
    return gradient @ kernel.T, turned.T


product.defvjp(_product_forwards, _product_backwards)


def _dot_general(inputs: Array, kernel: Array, dimensions: Any, **options: Any) -> Array:
    """How dense layers multiply: learning takes batches of single observations."""
    return product(inputs, kernel) if inputs.ndim == 2 else jax.lax.dot_general(inputs, kernel, dimensions, **options)


class MLP(nn.Module):
    """Dense layers with orthogonal weights (gain sqrt 2 inside, `output_gain` at the end) and zero biases."""

    hidden: tuple[int, ...]
    outputs: int
    activation: str = "tanh"
    output_gain: float = 1.0

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """Outputs of the last layer, with no activation."""
        hidden = inputs
        for width in self.hidden:
            hidden = self._dense(width, 2**0.5)(hidden)
            hidden = ACTIVATIONS[self.activation](hidden)
        return self._dense(self.outputs, self.output_gain)(hidden)

    def _dense(self, width: int, gain: float) -> nn.Dense:
        return nn.Dense(width, kernel_init=nn.initializers.orthogonal(gain), dot_general=_dot_general)

    def described(self, observation_size: int) -> Network:
        """The network as data, for inputs of the given length."""
        return Network(observation_size, self.hidden, self.outputs, self.activation)

    def initial(self, key: Array, observation_size: int) -> Any:
        """Fresh parameters for inputs of the given length.

        Under `vmap` one agent after the other: orthogonal weights take QR decompositions, and several batched ones in a
        program can wait for each other for ever in the thread pool of a CPU (seen with jaxlib 0.10.2 on two cores).
        """
        return sequential_vmap(lambda key: self.init(key, jnp.zeros((observation_size,))))(key)

    def from_vector(self, observation_size: int) -> Callable[[Float[Array, " parameters"]], Any]:
        """Inverse of `ravel_pytree` for parameters of this network: one vector is faster to update than many arrays."""
        shapes = jax.eval_shape(lambda key: self.init(key, jnp.zeros((observation_size,))), jax.random.key(0))
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))[1]


def tensors_of(parameters: Any) -> dict[str, Any]:
    """Parameters of an `MLP` by the names that they have outside: `layer0/kernel`, `layer0/bias` and so on."""
    layers = parameters["params"]
    return {
        f"layer{number}/{kind}": layers[f"Dense_{number}"][kind]
        for number in range(len(layers))
        for kind in ("kernel", "bias")
    }


def parameters_of(tensors: Mapping[str, Any]) -> Any:
    """Inverse of `tensors_of`."""
    layers = range(len(tensors) // 2)
    return {
        "params": {
            f"Dense_{number}": {kind: jnp.asarray(tensors[f"layer{number}/{kind}"]) for kind in ("kernel", "bias")}
            for number in layers
        }
    }
