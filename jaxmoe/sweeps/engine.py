"""The training engine: many agents at once, in segments between which the host looks, reports and may stop.

A segment is compiled once per static signature, whatever its length; the state is donated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmoe.agents.algorithm import AgentState, Algorithm, Clock
from jaxmoe.sweeps.lanes import for_each_agent, pad, padded_count


class Agents(NamedTuple):
    """What tells agents apart; each leaf has the agent axis in front."""

    seed: Int[Array, " A"]
    hypers: Any  # the algorithm's `Hypers`, [A] each
    overrides: dict[str, Array]  # fields of the environment's parameters that differ between agents, [A, ...] each


class Engine(NamedTuple):
    """An algorithm, ready to train a fixed set of agents."""

    agents: int  # without padding
    env_steps: int  # of one agent in one iteration
    init: Callable[[], AgentState]
    # Trains all agents for some iterations from where the clock stands. Metrics are means over the segment. The agents
    # beyond `agents` are padding.
    segment: Callable[[AgentState, Clock, int], tuple[AgentState, dict[str, Float[Array, " A"]]]]


def make_engine(algorithm: Algorithm, env_params: Any, agents: Agents, root_seed: int = 0) -> Engine:
    """Prepare the training of many agents.

    An agent's key is `fold_in(root, seed)`: agents with the same seed share their random numbers, and adding agents or
    putting them in another order changes none.

    Args:
        algorithm: bound to its environment and static configuration.
        env_params: parameters of the environment, shared by all agents but for their overrides.
        agents: seeds, hyperparameters and overrides.
        root_seed: of all agents' keys.
    """
    count = agents.seed.shape[0]
    root = jax.random.key(root_seed)
    padded = pad(agents, padded_count(count))

    def init_agent(nothing: None, agent: Agents, env_params: Any) -> AgentState:
        del nothing
        own = env_params.replace(**agent.overrides)
        return algorithm.init(jax.random.fold_in(root, agent.seed), agent.hypers, own)

    def train_agent(
        state: AgentState, agent: Agents, shared: tuple[Any, Clock, Array]
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]:
        env_params, clock, iterations = shared
        own = env_params.replace(**agent.overrides)

        def iterate(done: Array, carry: tuple[AgentState, dict[str, Array]]) -> tuple[AgentState, dict[str, Array]]:
            state, totals = carry
            now = clock._replace(iteration=clock.iteration + done)
            state, metrics = algorithm.step(state, agent.hypers, own, now)
            return state, jax.tree.map(jnp.add, totals, metrics)

        metrics_shape = jax.eval_shape(algorithm.step, state, agent.hypers, own, clock)[1]
        totals = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), metrics_shape)
        state, totals = jax.lax.fori_loop(jnp.int32(0), iterations, iterate, (state, totals))
        return state, jax.tree.map(lambda total: total / iterations.astype(jnp.float32), totals)

    run_init, run_segment = for_each_agent(init_agent), for_each_agent(train_agent)
    return Engine(
        agents=count,
        env_steps=algorithm.env_steps,
        init=lambda: run_init(None, padded, env_params),
        segment=lambda state, clock, iterations: run_segment(state, padded, (env_params, clock, jnp.int32(iterations))),
    )
