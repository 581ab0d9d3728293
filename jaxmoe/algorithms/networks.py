"""Networks of the agents: multilayer perceptrons. The only module that imports flax."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpy.typing import NDArray

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


def _dueling(outputs: int) -> NDArray[np.float32]:
    """`V + advantage - mean(advantage)` (Wang et al. 2016, arXiv 1511.06581, equation 9) of the value in front."""
    spread = np.eye(outputs) - np.full((outputs, outputs), 1 / outputs)
    return np.concatenate([np.ones((1, outputs)), spread]).astype(np.float32)


HEADS: dict[str, Callable[[int], NDArray[np.float32]] | None] = {  # from what the last layer gives to the outputs
    "plain": None,
    "dueling": _dueling,
}


class MLP(nn.Module):
    """A network that is described as data, to be trained.

    Dense layers have orthogonal weights (gain sqrt 2 inside, `output_gain` at the end) and zero biases. A head is a
    matrix behind the last layer; outside, where weights do not change, it is part of that layer.
    """

    network: Network
    output_gain: float = 1.0
    head: str = "plain"

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """Outputs of the last layer, with no activation."""
        hidden, matrix = inputs, self._matrix
        for width in self.network.hidden:
            hidden = self._dense(width, 2**0.5)(hidden)
            hidden = ACTIVATIONS[self.network.activation](hidden)
        if matrix is None:
            return self._dense(self.network.outputs, self.output_gain)(hidden)
        return self._dense(matrix.shape[0], self.output_gain)(hidden) @ matrix

    def _dense(self, width: int, gain: float) -> nn.Dense:
        return nn.Dense(width, kernel_init=nn.initializers.orthogonal(gain), dot_general=_dot_general)

    @property
    def _matrix(self) -> NDArray[np.float32] | None:
        make = HEADS[self.head]
        return None if make is None else make(self.network.outputs)

    def initial(self, key: Array) -> Any:
        """Fresh parameters.

        Under `vmap` one agent after the other: orthogonal weights take QR decompositions, and several batched ones in a
        program can wait for each other for ever in the thread pool of a CPU (seen with jaxlib 0.10.2 on two cores).
        """
        return sequential_vmap(lambda key: self.init(key, jnp.zeros((self.network.inputs,))))(key)

    def from_vector(self) -> Callable[[Float[Array, " parameters"]], Any]:
        """Inverse of `ravel_pytree` for parameters of this network: one vector is faster to update than many arrays."""
        shapes = jax.eval_shape(lambda key: self.init(key, jnp.zeros((self.network.inputs,))), jax.random.key(0))
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))[1]

    def tensors(self, parameters: Any) -> dict[str, Any]:
        """Parameters by the names that they have outside: `layer0/kernel`, `layer0/bias` and so on."""
        layers, last = parameters["params"], len(self.network.hidden)
        found = {
            f"layer{number}/{kind}": layers[f"Dense_{number}"][kind]
            for number in range(last + 1)
            for kind in ("kernel", "bias")
        }
        matrix = self._matrix
        return found if matrix is None else self._with_last(found, matrix)

    def parameters(self, tensors: Mapping[str, Any]) -> Any:
        """Inverse of `tensors`; of the many last layers that give the same outputs the smallest."""
        matrix = self._matrix
        if matrix is not None:
            tensors = self._with_last(tensors, np.linalg.pinv(matrix))
        return {
            "params": {
                f"Dense_{number}": {kind: jnp.asarray(tensors[f"layer{number}/{kind}"]) for kind in ("kernel", "bias")}
                for number in range(len(self.network.hidden) + 1)
            }
        }

    def _with_last(self, tensors: Mapping[str, Any], matrix: NDArray[np.float32]) -> dict[str, Any]:
        """The tensors with a matrix behind the last layer."""
        last = f"layer{len(self.network.hidden)}/"
        return {
            name: np.asarray(tensor) @ matrix if name.startswith(last) else tensor for name, tensor in tensors.items()
        }
