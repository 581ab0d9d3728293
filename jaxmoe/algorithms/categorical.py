"""Categorical distributions over actions, given by logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def log_probability(logits: Float[Array, "*batch A"], action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Logarithm of the probability of each action."""
    return of_action(jax.nn.log_softmax(logits), action)


def of_action(values: Float[Array, "*batch A"], action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The value of the action in each row of values.

    >>> of_action(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    return jnp.sum(values, axis=-1, where=jax.nn.one_hot(action, values.shape[-1], dtype=bool))


def sample(logits: Float[Array, " A"], uniform: Float[Array, ""]) -> Int[Array, ""]:
    """Action by inversion of the distribution function: one uniform per decision.

    >>> [int(sample(jnp.log(jnp.array([0.25, 0.75])), jnp.float32(u))) for u in (0.2, 0.3)]
    [0, 1]
    """
    below = jnp.cumsum(jax.nn.softmax(logits)) <= uniform
    return jnp.minimum(jnp.sum(below, dtype=jnp.int32), logits.shape[0] - 1)


def any_action(actions: int, uniform: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
    """Each of so many actions with the same probability.

    >>> any_action(4, jnp.array([0.0, 0.3, 0.99])).tolist()
    [0, 1, 3]
    """
    return jnp.minimum((uniform * actions).astype(jnp.int32), actions - 1)
