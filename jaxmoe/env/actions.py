"""Actions: which devices each one asks, how they are numbered, and which subsets of experts they can ask.

All assignments of experts to replicas, (R + 1)^E, are numbered by their digits. Where `Settings.max_experts` is set the
actions are those of that list that ask no more experts, in the same order; the others are never made.
"""

import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxmoe.env.params import Settings


def device_choices(settings: Settings) -> Bool[np.ndarray, "A D"]:
    """Which devices each action selects; the array is shared, and read-only.

    An assignment written in base R + 1 has one digit per expert, expert 0 the lowest: 0 is "not used", r > 0 is replica
    r - 1. Without `max_experts` action `a` is the assignment `a`, and with one replica it is the subset's bitmask, bit
    e = expert e. Action 0 is `local`.

    >>> device_choices(Settings(num_experts=2)).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    >>> device_choices(Settings(num_experts=2, max_experts=1)).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1]]
    """
    return _device_choices(settings.num_experts, settings.num_replicas, settings.max_experts)


def action_choices(settings: Settings) -> tuple[tuple[int, ...], ...]:
    """The same by experts: per action and expert 0, it is not asked, or 1 + the replica that is."""
    chosen = device_choices(settings).reshape(-1, settings.num_experts, settings.num_replicas)
    digits: list[list[int]] = (chosen @ (1 + np.arange(settings.num_replicas))).tolist()
    return tuple(map(tuple, digits))


def encode_action(choices: Int[Array, " E"], settings: Settings) -> Int[Array, ""]:
    """Action of an assignment: per expert 0 (not used), or 1 + its replica. Inverse of `device_choices`.

    An assignment of more than `max_experts` experts is no action, and gives -1.

    >>> int(encode_action(jnp.array([1, 0, 1, 0]), Settings()))
    5
    >>> int(encode_action(jnp.array([0, 1, 0, 1]), Settings(max_experts=2)))
    9
    """
    if settings.max_experts is not None:
        return _rank(choices.astype(jnp.int32), settings, settings.max_experts)
    weights = (settings.num_replicas + 1) ** jnp.arange(settings.num_experts, dtype=jnp.int32)
    return jnp.sum(choices.astype(jnp.int32) * weights, dtype=jnp.int32)


def subsets(settings: Settings) -> list[int]:
    """The subsets of experts that actions can ask, as bitmasks, in ascending order; `local`, 0, is one.

    >>> subsets(Settings(num_experts=3, max_experts=1))
    [0, 1, 2, 4]
    """
    experts = range(settings.num_experts)
    if settings.max_experts is None:
        return list(range(1 << settings.num_experts))
    sizes = range(min(settings.max_experts, settings.num_experts) + 1)
    return sorted(
        sum(1 << expert for expert in members) for size in sizes for members in itertools.combinations(experts, size)
    )


@functools.lru_cache(maxsize=64)
def _device_choices(experts: int, replicas: int, limit: int | None) -> np.ndarray:
    digits = _all_digits(experts, replicas) if limit is None else _few_digits(experts, replicas, limit)
    chosen = (digits[:, :, None] == 1 + np.arange(replicas)).reshape(len(digits), experts * replicas)
    chosen.flags.writeable = False
    return chosen


def _all_digits(experts: int, replicas: int) -> np.ndarray:
    """Every assignment by its digits, [(R + 1)^E, E]."""
    base = replicas + 1
    return np.arange(base**experts)[:, None] // base ** np.arange(experts) % base


def _few_digits(experts: int, replicas: int, limit: int) -> np.ndarray:
    """The assignments of at most so many experts, [A, E], in their order among all."""
    digits = np.concatenate([_digits_of(size, experts, replicas) for size in range(min(limit, experts) + 1)])
    return digits[np.lexsort(digits.T)]  # the last expert has the highest digit; no number is made that could overflow


def _digits_of(size: int, experts: int, replicas: int) -> np.ndarray:
    """The assignments of exactly so many experts, in any order."""
    members = np.array(list(itertools.combinations(range(experts), size)), np.int64)
    numbers = np.array(list(itertools.product(range(1, replicas + 1), repeat=size)), np.int8)
    shape = (len(members), len(numbers), size)
    digits = np.zeros((*shape[:2], experts), np.int8)
    np.put_along_axis(digits, np.broadcast_to(members[:, None], shape), np.broadcast_to(numbers[None], shape), axis=2)
    return digits.reshape(-1, experts)


def _rank(digits: Int[Array, " E"], settings: Settings, limit: int) -> Int[Array, ""]:
    """How many assignments of at most `limit` experts come before this one.

    Each expert that is asked, from the last one on, has before it those that agree on all later experts and have a
    smaller digit here: the lower experts are free, within what the later ones leave of the limit (the combinatorial
    number system, Knuth, The Art of Computer Programming 4A, section 7.2.1.3, with replicas).
    """
    counts = jnp.asarray(_counts_below(settings.num_experts, settings.num_replicas, limit))
    asked = (digits > 0).astype(jnp.int32)
    total = jnp.sum(asked, dtype=jnp.int32)
    left = jnp.maximum(limit - (total - jnp.cumsum(asked, dtype=jnp.int32)), 0)  # for this expert and the lower ones
    experts = jnp.arange(settings.num_experts)
    before = counts[experts, left + 1] + (digits - 1) * counts[experts, left]
    return jnp.where(total <= limit, jnp.sum(asked * before, dtype=jnp.int32), -1)


def _counts_below(experts: int, replicas: int, limit: int) -> np.ndarray:
    """Assignments of the first e experts of which at most m are asked, at [e, m + 1], for m from -1 to the limit."""
    counts = [
        [sum(math.comb(expert, size) * replicas**size for size in range(most + 1)) for most in range(-1, limit + 1)]
        for expert in range(experts)
    ]
    return np.array(counts, np.int32)
