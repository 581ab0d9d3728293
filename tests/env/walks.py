"""Random walks through the environment, recorded for the tests."""

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.env import rules
from jaxmoe.env.rules import Draws, EnvState, Outcome, Settings


class Walk(NamedTuple):
    """What happened in each slot: every leaf has the slots as its first axis."""

    states: EnvState
    actions: Any
    draws: Draws
    next_states: EnvState
    outcomes: Outcome
    beginnings: EnvState  # not part of the walk: the state in which each slot's draws would begin an episode


def random_walk(env, params, seed, slots) -> Walk:
    """Slots under random actions, in one long episode."""
    actions = np.random.default_rng(seed).integers(0, env.num_actions, slots, np.int32)
    return walk_along(env, params, many_draws(seed, slots, env.settings), jnp.asarray(actions))


def many_draws(seed, slots, settings):
    """Draws of each slot; one program for all settings that need the same ones."""
    same_draws = Settings(settings.num_experts, settings.num_replicas, settings.channel, drawn=settings.drawn)
    return _many_draws(jax.random.key(seed), slots, same_draws)


@partial(jax.jit, static_argnums=(1, 2))
def _many_draws(key, slots, settings):
    return jax.vmap(partial(rules.draw, settings=settings))(jax.random.split(key, slots))


@partial(jax.jit, static_argnums=0)
def walk_along(env, params, draws, actions) -> Walk:
    """The walk of these draws and actions."""
    beginnings = jax.vmap(partial(rules.begin, params=params, settings=env.settings))(draws)

    def slot(state, inputs):
        action, draws = inputs
        next_state, outcome = rules.transition(state, action, draws, params, env.settings)
        return next_state, (state, next_state, outcome)

    states, next_states, outcomes = jax.lax.scan(slot, row(beginnings, 0), (actions, draws))[1]
    return Walk(states, actions, draws, next_states, outcomes, beginnings)


def as_numpy(tree):
    """The same tree with NumPy leaves; what JAX holds in single precision is widened to double."""
    wide = {np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}

    def widen(leaf):
        array = np.asarray(jnp.asarray(leaf))
        return array.astype(wide.get(array.dtype, array.dtype))[()]

    return jax.tree.map(widen, tree)


def stacked(namespaces):
    """A list of namespaces as one namespace of arrays."""
    first = namespaces[0]
    if first is None:
        return None
    if not isinstance(first, SimpleNamespace):
        return np.array(namespaces)
    return SimpleNamespace(**{name: stacked([vars(each)[name] for each in namespaces]) for name in vars(first)})


def row(tree, index):
    """One slot of a walk."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
