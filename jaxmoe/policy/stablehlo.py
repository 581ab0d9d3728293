"""A policy as StableHLO, for whatever runs XLA programs: CPUs, CUDA GPUs and TPUs, with any number of observations.

The program takes `observations`, float32 of `[batch, inputs]`, and gives a dictionary of `preferences`, float32 of
`[batch, actions]`, and `actions`, int32 of `[batch]`. `jax.export.deserialize` reads the file.

Such a file is a program: run it only where you trust whoever made it. It is tried in a process of its own first
(`jaxmoe.policy.trial`), so that a damaged one is refused; that does not stop one that was made to do harm.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmoe.policy.contract import Contract
from jaxmoe.policy.legal import mask_of, masked
from jaxmoe.policy.network import apply
from jaxmoe.policy.tensors import Tensors
from jaxmoe.policy.trial import require_sound

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(contract: Contract, tensors: Tensors) -> bytes:
    """The content of a file, the same whatever precision JAX is set to."""
    with jax.enable_x64(False):
        return _serialised(contract, tensors)


def _serialised(contract: Contract, tensors: Tensors) -> bytes:
    preferences_of = preferences_function(contract, tensors)

    def decide(observations: Float[Array, "B O"]) -> dict[str, Array]:
        preferences = preferences_of(observations)
        return {"preferences": preferences, "actions": jnp.argmax(preferences, axis=-1).astype(jnp.int32)}

    [batch] = jax.export.symbolic_shape("batch")
    observations = jax.ShapeDtypeStruct((batch, contract.network.inputs), jnp.float32)
    return bytes(jax.export.export(jax.jit(decide), platforms=PLATFORMS)(observations).serialize())


def from_stablehlo(content: bytes, contract: Contract, source: str) -> Callable[[Float[Array, "B O"]], Any]:
    """The program in a file, as a function that JAX can compile into another.

    Raises:
        InputError: it is no such program, or takes or gives something else than the contract says.
    """
    require_sound(content, contract.network.inputs, contract.network.outputs, source)
    return jax.export.deserialize(bytearray(content)).call


def preferences_function(
    contract: Contract, tensors: Tensors
) -> Callable[[Float[Array, "*B O"]], Float[Array, "*B A"]]:
    """A policy's preferences in JAX, with products in full float32 on every kind of device."""
    mask = mask_of(contract)
    parameters = {name: jnp.asarray(tensor) for name, tensor in tensors.items()}

    def preferences(observations: Float[Array, "*B O"]) -> Float[Array, "*B A"]:
        with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
            found = apply(contract.network, parameters, observations, jnp)
            return masked(mask, found, observations, jnp)

    return preferences
