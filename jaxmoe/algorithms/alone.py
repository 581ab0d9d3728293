"""Training of one agent as one function: no folder, no table, no batches; `jax.jit` and `jax.vmap` it as you like."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmoe.algorithms.algorithm import AgentState, Algorithm, Clock


def train(
    algorithm: Algorithm, key: Array, hypers: Any, env_params: Any, env_steps: int
) -> tuple[AgentState, dict[str, Float[Array, " T"]]]:
    """Train an agent from its key to the end.

    Args:
        algorithm: bound to a gymnax environment, as `registered_algorithm("ppo").make(env, config, env_params)` gives.
        key: of all that is random.
        hypers: the algorithm's `Hypers`; may be traced, as may the environment's parameters.
        env_params: of the environment.
        env_steps: environment steps, rounded up to T whole iterations.

    Returns:
        The agent, whose `policy` acts by the argmax of `algorithm.preferences(policy, observation)`; and the metrics
        of each iteration, `reward` (the mean of a step) among them.
    """
    iterations = -(-env_steps // algorithm.env_steps)

    def iterate(state: AgentState, iteration: Array) -> tuple[AgentState, dict[str, Array]]:
        return algorithm.step(state, hypers, env_params, Clock(iteration, jnp.int32(iterations)))

    return jax.lax.scan(iterate, algorithm.init(key, hypers, env_params), jnp.arange(iterations))
