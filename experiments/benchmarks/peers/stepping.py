"""Steps of a random policy in many parallel gymnax environments, with auto-reset; for gymnax 0.0.9 and 1.x alike."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from peers import tasks


def random_stepper(env: Any, num_envs: int, steps: int) -> Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]:
    """A compiled function from key and parameters to the last observations and the mean reward."""

    def run(key: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
        def step_all(carry: tuple[Any, jax.Array, jax.Array], key: jax.Array) -> tuple[Any, None]:
            state, _, total = carry
            key_actions, key_steps = jax.random.split(key)
            actions = jax.random.randint(key_actions, (num_envs,), 0, env.num_actions)
            keys = jax.random.split(key_steps, num_envs)
            observation, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, actions, params)
            return (state, observation, total + jnp.mean(reward)), None

        key_reset, key_steps = jax.random.split(key)
        observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), params)
        carry, _ = jax.lax.scan(step_all, (state, observation, jnp.zeros(())), jax.random.split(key_steps, steps))
        _, observation, total = carry
        return observation, total / steps

    return jax.jit(run)


def step_command(task: tasks.Task, env: Any, params: Any) -> Callable[[], dict[str, float]]:
    """A worker's command that steps as many environments as its agents have, without learning."""
    num_envs = task.agents * tasks.NUM_ENVS
    stepper = random_stepper(env, num_envs, tasks.STEPS)

    def step() -> dict[str, float]:
        _, reward = stepper(jax.random.key(0), params)
        return {"mean_reward": float(reward), "env_steps": num_envs * tasks.STEPS}

    return step
