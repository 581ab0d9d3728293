"""Adam with clipped gradients, its rate and limit traced, so that they may differ from agent to agent.

An agent whose gradient becomes infinite or not a number has diverged: nothing moves its parameters from then on, so
that they stay the last finite ones. A flag per agent decides that, inside loops that run anyway; to look through whole
states afterwards, and to keep those before, takes far more memory traffic than the update itself.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

_ADAM = optax.scale_by_adam(eps=1e-5)


def initial(parameters: Any) -> optax.OptState:
    """Zero moments for the parameters."""
    return _ADAM.init(parameters)


def update(
    gradients: Any,
    moments: optax.OptState,
    parameters: Any,
    learning_rate: float | Float[Array, ""],
    max_grad_norm: float | Float[Array, ""],
    diverged: bool | Bool[Array, ""] = False,
) -> tuple[Any, optax.OptState, Bool[Array, ""]]:
    """One step of Adam (Kingma and Ba 2015) on gradients clipped to a global norm.

    Returns:
        New parameters and moments, and whether the agent has diverged, now or before.

    >>> update(jnp.array([jnp.nan]), initial(jnp.ones(1)), jnp.ones(1), 0.1, 1.0)[0].tolist()
    [1.0]
    """
    norm = optax.tree.norm(gradients)
    diverged = jnp.asarray(diverged) | ~jnp.isfinite(norm) | ~jnp.isfinite(learning_rate)
    sound, rate = ~diverged, jnp.where(diverged, 0.0, learning_rate)
    gradients = jax.tree.map(lambda each: jnp.where(sound, each * _scale(norm, max_grad_norm), 0.0), gradients)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        changes, moments = _ADAM.update(gradients, moments)

    def moved(value: Array, change: Array) -> Array:
        after = value - rate * change
        return jnp.where(jnp.isfinite(after), after, value)  # an enormous rate

    return jax.tree.map(moved, parameters, changes), moments, diverged


def _scale(norm: Float[Array, ""], max_norm: float | Float[Array, ""]) -> Float[Array, ""]:
    """What clips gradients of a norm to the largest one (Pascanu et al. 2013, arXiv 1211.5063)."""
    return jnp.where(norm > max_norm, max_norm / norm, 1.0)
