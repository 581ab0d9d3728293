"""`EdgeExperts` as a Gymnasium environment, one or many at once, for agents that are written without JAX."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Array, Bool, Float, Float32

from jaxmoe.env.observation import observation_limits, observation_names
from jaxmoe.env.params import EnvParams
from jaxmoe.env.rules import EnvState
from jaxmoe.env.scenarios import make
from jaxmoe.table import ExpertTable

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

Observation: TypeAlias = Float32[np.ndarray, " O"]
Info: TypeAlias = dict[str, Any]  # floats, ints and NumPy arrays

_LARGEST = np.finfo(np.float32).max


class EdgeExpertsGymnasium(gymnasium.Env):
    """One environment of `jaxmoe.make`, one slot per call.

    `observation_names` says what each number of the observation is. `info["action_mask"]` says which actions ask
    available devices only, in the form that `action_space.sample(mask)` takes; after a step `info` also holds every
    term of the reward, as `EdgeExperts.step` gives them.

    >>> import jaxmoe
    >>> env = EdgeExpertsGymnasium(*jaxmoe.make("oneshot"), seed=0)
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(15)
    >>> terminated, truncated
    (True, False)
    """

    metadata: ClassVar[Info] = {"render_modes": []}

    def __init__(self, env: "EdgeExperts", params: EnvParams, seed: int | None = None) -> None:
        """Keep the environment; `seed` fixes the episodes until `reset` is given another one."""
        self.env, self.params = env, params
        self.action_space = gymnasium.spaces.Discrete(env.num_actions)
        self.observation_space = _observation_space(env)
        self.observation_names = observation_names(env.settings)
        self._state: EnvState | None = None
        super().reset(seed=seed)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Observation, Info]:
        """Begin an episode; there are no options."""
        super().reset(seed=seed, options=options)
        key = jax.random.key(int(self.np_random.integers(2**63)))
        self._key, self._state, observation, mask = _begin(self.env, key, self.params)
        return np.asarray(observation), {"action_mask": np.asarray(mask, np.int8)}

    def step(self, action: int | np.integer) -> tuple[Observation, float, bool, bool, Info]:
        """Serve the slot's request with one of the assignments.

        Raises:
            ValueError: an action outside `action_space`, or no episode has begun.
        """
        if self._state is None:
            raise ValueError("there is no episode to step in: call reset first")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not one of 0 to {self.env.num_actions - 1}")
        stepped = _step(self.env, self._key, self._state, jnp.int32(action), self.params)
        self._key, self._state, *rest = stepped
        observation, reward, terminated, truncated, mask, info = jax.device_get(rest)
        plain = {name: value.item() if np.ndim(value) == 0 else value for name, value in info.items()}
        plain["action_mask"] = mask.astype(np.int8)
        return observation, float(reward), bool(terminated), bool(truncated), plain


class EdgeExpertsVector(VectorEnv):
    """Many environments of `jaxmoe.make` that step together, as one program.

    Each is an `EdgeExpertsGymnasium` with randomness of its own. Where an episode has ended the next step begins
    another one, whatever the action; its reward is 0, and `info` then says nothing of it but `action_mask`.

    >>> import jaxmoe
    >>> env = EdgeExpertsVector(*jaxmoe.make("oneshot"), num_envs=3, seed=0)
    >>> observations, info = env.reset()
    >>> observations, rewards, terminated, truncated, info = env.step(np.array([0, 5, 15]))
    >>> terminated.tolist(), info["arrived"].shape
    ([True, True, True], (3,))
    """

    metadata: ClassVar[Info] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, env: "EdgeExperts", params: EnvParams, num_envs: int, seed: int | None = None) -> None:
        """Keep the environment; `seed` fixes the episodes until `reset` is given another one."""
        self.env, self.params, self.num_envs = env, params, num_envs
        self.single_action_space = gymnasium.spaces.Discrete(env.num_actions)
        self.single_observation_space = _observation_space(env)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.observation_names = observation_names(env.settings)
        self._state: EnvState | None = None
        super().reset(seed=seed)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Begin an episode in each environment; there are no options."""
        super().reset(seed=seed, options=options)
        key = jax.random.key(int(self.np_random.integers(2**63)))
        begun = _begin_all(self.env, jax.random.split(key, self.num_envs), self.params)
        self._keys, self._state, observations, masks = begun
        self._ended = np.zeros(self.num_envs, bool)
        every = np.ones(self.num_envs, bool)
        return np.asarray(observations), {"action_mask": np.asarray(masks, np.int8), "_action_mask": every}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Serve a request in each environment, or begin an episode where one has ended.

        Raises:
            ValueError: actions outside `action_space`, or no episode has begun.
        """
        if self._state is None:
            raise ValueError("there is no episode to step in: call reset first")
        if not self.action_space.contains(np.asarray(actions)):
            raise ValueError(f"actions {actions!r} are not {self.num_envs} of 0 to {self.env.num_actions - 1}")
        chosen = jnp.asarray(actions, jnp.int32)
        stepped = _step_all(self.env, self._keys, self._state, jnp.asarray(self._ended), chosen, self.params)
        self._keys, self._state, *rest = stepped
        observations, rewards, terminated, truncated, masks, info = jax.device_get(rest)
        known = info | {f"_{name}": ~self._ended for name in info}
        known |= {"action_mask": masks.astype(np.int8), "_action_mask": np.ones(self.num_envs, bool)}
        self._ended = terminated | truncated
        return observations, rewards.astype(np.float64), terminated, truncated, known


def make_one(scenario: str, *, seed: int | None = None, **chosen: Any) -> EdgeExpertsGymnasium:
    """One environment of a scenario, for `gymnasium.make`; the other arguments are those of `make_many`."""
    return EdgeExpertsGymnasium(*_made(scenario, **chosen), seed)


def make_many(scenario: str, num_envs: int = 1, *, seed: int | None = None, **chosen: Any) -> EdgeExpertsVector:
    """Many environments of a scenario that step together, for `gymnasium.make_vec`.

    Args:
        scenario: its name.
        num_envs: how many.
        seed: fixes their episodes until `reset` is given another one.
        **chosen: `table`, `split`, `params` and settings as `jaxmoe.make` takes them.

    Raises:
        InputError: something of it that there is not, or that is not allowed.
    """
    return EdgeExpertsVector(*_made(scenario, **chosen), num_envs, seed)


def _made(
    scenario: str,
    table: ExpertTable | None = None,
    split: str = "train",
    params: Mapping[str, Any] | None = None,
    **settings: Any,
) -> "tuple[EdgeExperts, EnvParams]":
    return make(scenario, table, split, params, **settings)


def _observation_space(env: "EdgeExperts") -> gymnasium.spaces.Box:
    """The limits of the observation's fields, finite as some agents want them."""
    low, high = (np.clip(limits, -_LARGEST, _LARGEST) for limits in observation_limits(env.settings))
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


@partial(jax.jit, static_argnums=0)
def _begin(
    env: "EdgeExperts", key: Array, params: EnvParams
) -> tuple[Array, EnvState, Float[Array, " O"], Bool[Array, " A"]]:
    """Key of the episode, its first state, observation and action mask."""
    key_episode, key_begin = jax.random.split(key)
    observation, state = env.reset_env(key_begin, params)
    return key_episode, state, observation, env.action_mask(state, params)


@partial(jax.jit, static_argnums=0)
def _step(env: "EdgeExperts", key: Array, state: EnvState, action: Array, params: EnvParams) -> tuple[Any, ...]:
    """Key of the next slots, then what a step brings; no new episode begins by itself."""
    key_next, key_slot = jax.random.split(key)
    observation, state, reward, terminated, info = env.step_env(key_slot, state, action, params)
    truncated, mask = env.is_truncated(state, params), env.action_mask(state, params)
    return key_next, state, observation, reward, terminated, truncated, mask, info


@partial(jax.jit, static_argnums=0)
def _begin_all(
    env: "EdgeExperts", keys: Array, params: EnvParams
) -> tuple[Array, EnvState, Float[Array, "N O"], Bool[Array, "N A"]]:
    """`_begin` of each key."""
    return jax.vmap(partial(_begin, env, params=params))(keys)


@partial(jax.jit, static_argnums=0)
def _step_all(
    env: "EdgeExperts",
    keys: Array,
    states: EnvState,
    ended: Bool[Array, " N"],
    actions: Array,
    params: EnvParams,
) -> tuple[Any, ...]:
    """`_step` of each environment, or `_begin` where an episode has ended."""

    def one(key: Array, state: EnvState, ended: Array, action: Array) -> tuple[Any, ...]:
        *stepped, info = _step(env, key, state, action, params)
        key_episode, state, observation, mask = _begin(env, key, params)
        begun = [key_episode, state, observation, jnp.float32(0.0), jnp.bool_(False), jnp.bool_(False), mask]
        return *jax.tree.map(partial(jnp.where, ended), begun, stepped), info

    return jax.vmap(one)(keys, states, ended, actions)
