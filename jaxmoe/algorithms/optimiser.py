"""Adam with clipped gradients, its rate and limit traced, so that they may differ from agent to agent.

An agent whose gradient becomes infinite or not a number has diverged: nothing moves its parameters from then on, so
that they stay the last finite ones. A flag per agent decides that, inside loops that run anyway; to look through whole
states afterwards, and to keep those before, takes far more memory traffic than the update itself.

All that is one number per agent is computed once, outside the loops over parameters. `optax.scale_by_adam` takes powers
in them, whose last bits depend on how a compiler cuts the loop, and with that on the number of devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

DECAY_1, DECAY_2, EPSILON = 0.9, 0.999, 1e-5  # Kingma and Ba's beta_1, beta_2 and epsilon


class Moments(NamedTuple):
    """Of Adam."""

    updates: Int[Array, ""]  # so far
    first: Any  # running means of the gradients, as the parameters
    second: Any  # ... of their squares


def initial(parameters: Any) -> Moments:
    """Zero moments for the parameters."""
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return Moments(jnp.int32(0), zeros, zeros)


def update(
    gradients: Any,
    moments: Moments,
    parameters: Any,
    learning_rate: float | Float[Array, ""],
    max_grad_norm: float | Float[Array, ""],
    diverged: bool | Bool[Array, ""] = False,
) -> tuple[Any, Moments, Bool[Array, ""]]:
    """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) on gradients clipped to a global norm.

    They are scaled down to it where theirs is larger (Pascanu et al. 2013, arXiv 1211.5063).

    Returns:
        New parameters and moments, and whether the agent has diverged, now or before.

    >>> update(jnp.array([jnp.nan]), initial(jnp.ones(1)), jnp.ones(1), 0.1, 1.0)[0].tolist()
    [1.0]
    """
    norm = optax.tree.norm(gradients)
    diverged = jnp.asarray(diverged) | ~jnp.isfinite(norm) | ~jnp.isfinite(learning_rate)
    scale = jnp.where(norm > max_grad_norm, max_grad_norm / norm, 1.0)
    gradients = jax.tree.map(lambda each: jnp.where(diverged, 0.0, each * scale), gradients)
    updates = moments.updates + 1
    passed = updates.astype(jnp.float32)
    rate = jnp.where(diverged, 0.0, learning_rate) / (1.0 - DECAY_1**passed)
    correction = 1.0 / (1.0 - DECAY_2**passed)

    def moved(value: Array, first: Array, second: Array) -> Array:
        after = value - rate * first / (jnp.sqrt(second * correction) + EPSILON)
        return jnp.where(jnp.isfinite(after), after, value)  # an enormous rate

    first = jax.tree.map(lambda m, g: DECAY_1 * m + (1.0 - DECAY_1) * g, moments.first, gradients)
    second = jax.tree.map(lambda m, g: DECAY_2 * m + (1.0 - DECAY_2) * jnp.square(g), moments.second, gradients)
    return jax.tree.map(moved, parameters, first, second), Moments(updates, first, second), diverged
