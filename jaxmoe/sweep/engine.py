"""The training engine: many agents at once, in segments between which the host looks, reports and may stop.

`(state, metrics) = segment(state, hypers, env_params)` is compiled once per static signature; the state is donated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmoe.agents.algorithm import AgentState, Algorithm, Clock
from jaxmoe.sweep.lanes import for_each_agent, pad, padded_count


class Agents(NamedTuple):
    """What tells agents apart; each leaf has the agent axis in front."""

    seed: Int[Array, " A"]
    hypers: Any  # the algorithm's `Hypers`, [A] each
    overrides: dict[str, Array]  # fields of the environment's parameters that differ between agents, [A, ...] each


class Engine(NamedTuple):
    """An algorithm, ready to train a fixed set of agents."""

    agents: int  # without padding
    env_steps: int  # of one agent in one segment
    init: Callable[[], AgentState]
    # Trains all agents for one segment; the clock says where in the run. Metrics are means over the segment. The agents
    # beyond `agents` are padding.
    segment: Callable[[AgentState, Clock], tuple[AgentState, dict[str, Float[Array, " A"]]]]


def make_engine(
    algorithm: Algorithm, env_params: Any, agents: Agents, segment_iterations: int, root_seed: int = 0
) -> Engine:
    """Prepare the training of many agents.

    An agent's key is `fold_in(root, seed)`: agents with the same seed share their random numbers, and adding agents or
    putting them in another order changes none.

    Args:
        algorithm: bound to its environment and static configuration.
        env_params: parameters of the environment, shared by all agents but for their overrides.
        agents: seeds, hyperparameters and overrides.
        segment_iterations: iterations of one segment.
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
        state: AgentState, agent: Agents, shared: tuple[Any, Clock]
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]:
        env_params, clock = shared
        own = env_params.replace(**agent.overrides)

        def iterate(carry: tuple[AgentState, dict[str, Array]], done: Array) -> tuple[Any, None]:
            state, totals = carry
            now = clock._replace(iteration=clock.iteration + done)
            state, metrics = algorithm.step(state, agent.hypers, own, now)
            return (state, jax.tree.map(jnp.add, totals, metrics)), None

        metrics_shape = jax.eval_shape(algorithm.step, state, agent.hypers, own, clock)[1]
        totals = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), metrics_shape)
        iterations = jnp.arange(segment_iterations, dtype=jnp.int32)
        (state, totals), _ = jax.lax.scan(iterate, (state, totals), iterations)
        return state, jax.tree.map(lambda total: total / segment_iterations, totals)

    run_init, run_segment = for_each_agent(init_agent), for_each_agent(train_agent)
    return Engine(
        agents=count,
        env_steps=algorithm.env_steps * segment_iterations,
        init=lambda: run_init(None, padded, env_params),
        segment=lambda state, clock: run_segment(state, padded, (env_params, clock)),
    )
