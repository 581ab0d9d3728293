"""Categorical distributions over actions, given by logits; and which actions there are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

ILLEGAL = -1e9  # far below all that a network says, and finite, so that its product with a probability of 0 is 0

Legal = Callable[[Float[Array, "*batch O"]], Bool[Array, "*batch A"]]


def legality(env: "Environment") -> Legal | None:
    """Which actions are legal, as a function of observations: what an environment says, if it says anything.

    An environment says so by an attribute `legal_actions`. At least one action must be legal.
    """
    found: Legal | None = getattr(env, "legal_actions", None)
    return found


def legal_in(observation: Float[Array, "*batch O"], legal: Legal | None) -> Bool[Array, "*batch A"] | None:
    """Which actions are legal in a situation; nothing where all of them always are."""
    return None if legal is None else legal(observation)


def masked(
    values: Float[Array, "*batch A"], observation: Float[Array, "*batch O"], legal: Legal | None
) -> Float[Array, "*batch A"]:
    """Logits or action values, `ILLEGAL` for actions that are: never the largest, and of probability 0.

    >>> masked(jnp.array([2.0, 1.0]), jnp.zeros(1), lambda _: jnp.array([False, True])).tolist()
    [-1000000000.0, 1.0]
    """
    return values if legal is None else jnp.where(legal(observation), values, ILLEGAL)


def log_probability(logits: Float[Array, "*batch A"], action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Logarithm of the probability of each action."""
    return of_action(jax.nn.log_softmax(logits), action)


def of_action(values: Float[Array, "*batch A"], action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The value of the action in each row of values.

    >>> of_action(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    return jnp.sum(values, axis=-1, where=jax.nn.one_hot(action, values.shape[-1], dtype=bool))


def sample(
    logits: Float[Array, " A"], uniform: Float[Array, ""], legal: Bool[Array, " A"] | None = None
) -> Int[Array, ""]:
    """Action by inversion of the distribution function: one uniform per decision.

    Where probabilities add up to a little less than 1, the rest is the last action's, or the last legal one's.

    >>> [int(sample(jnp.log(jnp.array([0.25, 0.75])), jnp.float32(u))) for u in (0.2, 0.3)]
    [0, 1]
    """
    below = jnp.cumsum(jax.nn.softmax(logits)) <= uniform
    last: int | Array = logits.shape[0] - 1
    if legal is not None:
        last = last - jnp.argmax(jnp.flip(legal)).astype(jnp.int32)
    return jnp.minimum(jnp.sum(below, dtype=jnp.int32), last)


def any_action(
    actions: int, uniform: Float[Array, "*batch"], legal: Bool[Array, "*batch A"] | None = None
) -> Int[Array, "*batch"]:
    """Each of so many actions with the same probability, or each of those that are legal.

    >>> any_action(4, jnp.array([0.0, 0.3, 0.99])).tolist()
    [0, 1, 3]
    >>> any_action(4, jnp.float32(0.6), jnp.array([True, False, False, True])).tolist()
    3
    """
    if legal is None:
        return jnp.minimum((uniform * actions).astype(jnp.int32), actions - 1)
    upto = jnp.cumsum(legal, axis=-1, dtype=jnp.int32)
    count = upto[..., -1]
    number = jnp.minimum((uniform * count.astype(jnp.float32)).astype(jnp.int32), count - 1)
    return jnp.sum(upto <= number[..., None], axis=-1, dtype=jnp.int32)
