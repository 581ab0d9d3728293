"""`EdgeExperts` as a Gymnasium environment, for agents that are written without JAX."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from jaxmoe.env.observation import observation_limits, observation_names
from jaxmoe.env.rules import EnvParams, EnvState

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
