"""What a network computes, from its description and its tensors: the same lines in NumPy and in JAX."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxmoe.policy.contract import Network

_CUBIC, _ROOT = np.float32(0.044715), np.float32(np.sqrt(2 / np.pi))
_HALF = np.float32(0.5)


def apply(network: Network, tensors: Mapping[str, Any], x: Any, xp: Any = np) -> Any:
    """Outputs of the last layer: of a policy, its preferences.

    Args:
        network: layers and activation.
        tensors: `layer0/kernel` [inputs, width], `layer0/bias` [width] and so on, float32 arrays of NumPy or JAX.
        x: inputs, [..., inputs], float32.
        xp: the library that computes: `numpy` or `jax.numpy`.

    Returns:
        [..., outputs], an array of that library.
    """
    activation = ACTIVATIONS[network.activation]
    *hidden, (kernel, bias) = _layers(len(network.hidden) + 1)
    for inside in hidden:
        x = activation(x @ tensors[inside[0]] + tensors[inside[1]], xp)
    return x @ tensors[kernel] + tensors[bias]


@functools.cache
def _layers(count: int) -> list[tuple[str, str]]:
    """Names of the tensors of each layer."""
    return [(f"layer{number}/kernel", f"layer{number}/bias") for number in range(count)]


def _gelu(x: Any, xp: Any) -> Any:
    """As `jax.nn.gelu` has it by default: Hendrycks and Gimpel, arXiv 1606.08415, the form with tanh."""
    return _HALF * x * (1 + xp.tanh(_ROOT * (x + _CUBIC * x * x * x)))


def _swish(x: Any, xp: Any) -> Any:
    """`x * sigmoid(x)` (Ramachandran et al., arXiv 1710.05941); by tanh, which does not overflow."""
    return x * (_HALF * (1 + xp.tanh(_HALF * x)))


ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "tanh": lambda x, xp: xp.tanh(x),
    "relu": lambda x, xp: xp.maximum(x, 0),
    "gelu": _gelu,
    "swish": _swish,
}
