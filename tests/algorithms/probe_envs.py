"""Tiny gymnax environments whose right values and actions are known without learning."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces
from jaxtyping import Array


class ProbeState(NamedTuple):
    position: Array  # int, the observation
    time: Array  # int


POSITIONS = 2  # as an agent sees them, also where there is one


class ProbeParams(NamedTuple):
    reward_scale: float = 1.0
    max_steps_in_episode: int = 1_000_000
    task: int = 0  # of `Probes`

    def replace(self, **changes: Any) -> "ProbeParams":
        return self._replace(**changes)


class Probe(environment.Environment[ProbeState, ProbeParams]):
    """A walk over few positions; the observation is the position, one-hot."""

    positions = 1  # that are reached
    actions = 2

    @classmethod
    def numbers(cls, **changes: Any) -> ProbeParams:
        """What makes `Probes` this environment."""
        return ProbeParams(task=TASKS.index(cls), **changes)

    def start(self, key: Array) -> Array:
        del key
        return jnp.int32(0)

    def rules(self, position: Array, action: Array) -> tuple[Array, Array, Array]:
        """Next position, reward, terminated."""
        raise NotImplementedError

    @property
    def default_params(self) -> ProbeParams:
        return ProbeParams()

    @property
    def num_actions(self) -> int:
        return self.actions

    def step_env(self, key, state, action, params):
        del key
        position, reward, terminated = self.rules(state.position, action)
        state = ProbeState(position, state.time + 1)
        return self._see(state), state, reward * params.reward_scale, terminated, {}

    def reset_env(self, key, params):
        del params
        state = ProbeState(self.start(key), jnp.int32(0))
        return self._see(state), state

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def _see(self, state: ProbeState) -> Array:
        return (jnp.arange(POSITIONS) == state.position).astype(jnp.float32)

    def action_space(self, params=None):
        del params
        return spaces.Discrete(self.actions)

    def observation_space(self, params=None):
        del params
        return spaces.Box(0.0, 1.0, (POSITIONS,), jnp.float32)


class OneStep(Probe):
    """One slot, reward 1. V = 1."""

    def rules(self, position, action):
        del action
        return position, jnp.float32(1.0), jnp.array(True)


class TwoSteps(Probe):
    """0 -> 1 -> end, reward 1 at the end only. V(1) = 1 and V(0) = discount."""

    positions = 2

    def rules(self, position, action):
        del action
        return jnp.int32(1), (position == 1).astype(jnp.float32), position == 1


class Contextual(Probe):
    """One slot at a random position; the action equal to the position earns 1, the other -1."""

    positions = 2

    def start(self, key):
        return jax.random.bernoulli(key).astype(jnp.int32)

    def rules(self, position, action):
        return position, jnp.where(action == position, 1.0, -1.0).astype(jnp.float32), jnp.array(True)


class Delayed(Probe):
    """Action 0 earns 0.5 and ends; action 1 earns 1, a step later: right if the discount is above 0.5."""

    positions = 2

    def rules(self, position, action):
        first = position == 0
        patient = first & (action == 1)
        reward = jnp.where(first, jnp.where(action == 1, 0.0, 0.5), 1.0).astype(jnp.float32)
        return jnp.where(patient, 1, position).astype(jnp.int32), reward, ~patient


class Endless(Probe):
    """Reward 1 in each step; only a time limit ends it. V = 1 / (1 - discount), whatever the time limit."""

    def rules(self, position, action):
        del action
        return position, jnp.float32(1.0), jnp.array(False)


class Ending(Probe):
    """The same rewards, but each step terminates. V = 1, not 1 / (1 - discount)."""

    def rules(self, position, action):
        del action
        return position, jnp.float32(1.0), jnp.array(True)


class Forbidden(Probe):
    """Action 1 earns 3 at position 0, and would earn 10 at position 1, where it is illegal and action 0 earns 1.

    From position 0 action 0 leads to position 1: it is worth the discount, if nobody believes in what is illegal.
    """

    positions = 2

    def start(self, key):
        return jax.random.bernoulli(key).astype(jnp.int32)

    def rules(self, position, action):
        moves = (position == 0) & (action == 0)
        earned = jnp.where(action == 1, jnp.where(position == 0, 3.0, 10.0), (position == 1).astype(jnp.float32))
        return jnp.where(moves, 1, position).astype(jnp.int32), earned.astype(jnp.float32), ~moves

    def legal_actions(self, observation):
        return jnp.stack([jnp.ones_like(observation[..., 1]) > 0, observation[..., 1] < 0.5], axis=-1)


TASKS = (OneStep, TwoSteps, Contextual, Delayed, Endless, Ending)


class Probes(Probe):
    """All of them as one environment, told apart by a parameter: an algorithm is compiled once for all."""

    def step_env(self, key, state, action, params):
        return jax.lax.switch(params.task, [task().step_env for task in TASKS], key, state, action, params)

    def reset_env(self, key, params):
        return jax.lax.switch(params.task, [task().reset_env for task in TASKS], key, params)
