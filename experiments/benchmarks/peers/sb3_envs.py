"""`oneshot` for Stable-Baselines3, in two forms."""

from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from jaxmoe.env.gymnasium_wrapper import EdgeExpertsGymnasium
from jaxmoe.env.scenarios import make


def gymnasium_envs(num_envs: int) -> VecEnv:
    """Gymnasium environments in Stable-Baselines3's own `make_vec_env`: one call per environment and step."""
    env, params = make("oneshot")
    return make_vec_env(lambda: EdgeExpertsGymnasium(env, params), n_envs=num_envs, seed=0)


class CompiledVecEnv(VecEnv):
    """All environments take a step, and begin anew, in one compiled call."""

    def __init__(self, num_envs: int) -> None:
        env, self.params = make("oneshot")
        self.key = jax.random.key(0)
        self._reset = jax.jit(lambda keys: jax.vmap(env.reset, (0, None))(keys, self.params))

        def step(key: jax.Array, state: Any, actions: jax.Array) -> tuple[Any, ...]:
            key, key_steps = jax.random.split(key)
            step_all = jax.vmap(env.step, (0, 0, 0, None))
            keys = jax.random.split(key_steps, num_envs)
            observation, state, reward, terminated, _, _ = step_all(keys, state, actions, self.params)
            return key, state, observation, reward, terminated

        self._step = jax.jit(step)
        box = spaces.Box(-np.inf, np.inf, env.observation_space(self.params).shape, np.float32)
        super().__init__(num_envs, box, spaces.Discrete(env.num_actions))

    def reset(self) -> np.ndarray:
        """Begin all episodes."""
        self.key, key = jax.random.split(self.key)
        observation, self.state = self._reset(jax.random.split(key, self.num_envs))
        return np.array(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step; the last observations are not handed on, since only truncated episodes would need them."""
        self.key, self.state, *seen = self._step(self.key, self.state, self.actions)
        observation, reward, done = map(np.array, seen)  # copies, because torch wants to be able to write
        return observation, reward, done, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The environments have no attributes of their own."""
        del indices
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """See `get_attr`."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """See `get_attr`."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """They are not."""
        del wrapper_class, indices
        return [False] * self.num_envs
