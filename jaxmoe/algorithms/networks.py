"""Networks of the agents: multilayer perceptrons. The only module that imports flax."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
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
    """`inputs @ kernel`, with a faster gradient on a CPU for kernels that have more inputs than outputs.

    There XLA first turns the left factor of `inputs.T @ gradient`; `gradient.T @ inputs` turns the smaller one.
    """
    return inputs @ kernel


def _product_forwards(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel, (inputs, kernel)


def _product_backwards(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = factors
    if kernel.shape[0] <= kernel.shape[1]:
        return gradient @ kernel.T, inputs.T @ gradient
    return gradient @ kernel.T, jax.lax.platform_dependent(inputs, gradient, cpu=_turned, default=_plain)


def _turned(inputs: Array, gradient: Array) -> Array:
    return jax.lax.optimization_barrier(gradient.T @ inputs).T  # or XLA would turn the product back


def _plain(inputs: Array, gradient: Array) -> Array:
    return inputs.T @ gradient


product.defvjp(_product_forwards, _product_backwards)


def _dot_general(inputs: Array, kernel: Array, dimensions: Any, **options: Any) -> Array:
    """How dense layers multiply: learning takes batches of single observations."""
    return product(inputs, kernel) if inputs.ndim == 2 else jax.lax.dot_general(inputs, kernel, dimensions, **options)


def orthonormal(matrix: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """An orthonormal basis of what the columns span, m <= n, by Gram-Schmidt; the first k columns span the same.

    Each column is made orthogonal twice to those before it, after which nothing is left but rounding errors (Giraud et
    al. 2005, doi:10.1007/s00211-005-0615-4). It is the Q of a QR decomposition whose R has a positive diagonal. Unlike
    those of libraries it is the same loop on every device, for any number of agents at once.
    """

    def add(number: Array, basis: Float[Array, "n m"]) -> Float[Array, "n m"]:
        column = matrix[:, number]
        for _ in range(2):
            column -= _exactly(basis, _exactly(basis.T, column))
        return basis.at[:, number].set(column / jnp.linalg.norm(column))

    return jax.lax.fori_loop(0, matrix.shape[1], add, jnp.zeros_like(matrix))


def _exactly(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def orthogonal(gain: float) -> nn.initializers.Initializer:
    """Weights whose shorter side is orthonormal, times a gain (Saxe et al. 2014, arXiv 1312.6120).

    They are those of flax' initialiser but for rounding, and take no decompositions of LAPACK: several batched ones in
    a program can wait for each other for ever in the thread pool of a CPU (jaxlib 0.10.2, two cores).
    """

    def init(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        basis = orthonormal(jax.random.normal(key, (max(shape), min(shape)), dtype))
        return gain * (basis if shape[0] >= shape[1] else basis.T)

    return init


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
        return nn.Dense(width, kernel_init=orthogonal(gain), dot_general=_dot_general)

    @property
    def _matrix(self) -> NDArray[np.float32] | None:
        make = HEADS[self.head]
        return None if make is None else make(self.network.outputs)

    def initial(self, key: Array) -> Any:
        """Fresh parameters."""
        return self.init(key, jnp.zeros((self.network.inputs,)))

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
