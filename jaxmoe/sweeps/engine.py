"""The training engine: many agents at once, in stretches between which the host looks, reports and may stop.

A program is compiled once per static signature, whatever the number of agents and the length of a stretch; the state is
donated. Where a run is cut into stretches changes nothing, not even the metrics, whose sums travel with the agents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmoe.agents.algorithm import AgentState, Algorithm, Clock
from jaxmoe.sweeps.lanes import block_width, blocks, for_each_agent, joined, zeros


class Agents(NamedTuple):
    """What tells agents apart; each leaf has the agent axis in front."""

    seed: Int[Array, " A"]
    hypers: Any  # the algorithm's `Hypers`, [A] each
    overrides: dict[str, Array]  # fields of the environment's parameters that differ between agents, [A, ...] each


class Block(NamedTuple):
    """Agents of one block in training."""

    state: AgentState
    totals: dict[str, Float[Array, " W"]]  # sum of each metric over iterations, since `Engine.metrics` took it last


class Program(NamedTuple):
    """An algorithm, ready to train any agents of one static signature."""

    env_steps: int  # of one agent in one iteration
    init: Callable[[Agents], Block]
    advance: Callable[[Block, Agents, Clock, int], Block]  # by some iterations, from where the clock stands
    shape: Callable[[Agents], Block]  # of what `init` returns, without computing it


class Engine(NamedTuple):
    """A program and the agents that it trains."""

    agents: int
    env_steps: int  # of one agent in one iteration
    init: Callable[[], list[Block]]
    advance: Callable[[list[Block], Clock, int], list[Block]]
    shape: Callable[[], list[Block]]
    overrides: list[dict[str, Array]]  # of the agents of each block

    def segment(
        self, parts: list[Block], clock: Clock, iterations: int
    ) -> tuple[list[Block], dict[str, Float[np.ndarray, " A"]]]:
        """Train for some iterations; the agents and the means of their metrics."""
        return self.metrics(self.advance(parts, clock, iterations), iterations)

    def metrics(self, parts: list[Block], iterations: int) -> tuple[list[Block], dict[str, Float[np.ndarray, " A"]]]:
        """Take the sums of the metrics, of so many iterations, and begin anew; the agents, and the means."""
        totals = joined([part.totals for part in parts], self.agents)
        means = {name: total / np.float32(iterations) for name, total in totals.items()}
        return [part._replace(totals=jax.tree.map(jnp.zeros_like, part.totals)) for part in parts], means

    def bytes_per_agent(self) -> int:
        """Memory of one agent in training: networks, moments, environments, replay."""
        [part, *_] = self.shape()
        return sum(map(_bytes, jax.tree.leaves(part))) // block_width()

    def policies(self, parts: list[Block]) -> Any:
        """Parameters of the acting networks, agents along the leading axis."""
        return joined([part.state.policy for part in parts], self.agents)

    def diverged(self, parts: list[Block]) -> np.ndarray:
        """Which agents are frozen."""
        return joined([part.state.diverged for part in parts], self.agents)


def make_program(algorithm: Algorithm, env_params: Any, root_seed: int = 0) -> Program:
    """Prepare the training of agents in blocks.

    An agent's key is `fold_in(root, seed)`: agents with the same seed share their random numbers, and adding agents or
    putting them in another order changes none.

    Args:
        algorithm: bound to its environment and static configuration.
        env_params: parameters of the environment, shared by all agents but for their overrides.
        root_seed: of all agents' keys.
    """
    root = jax.random.key(root_seed)

    def metrics_shape(state: AgentState, hypers: Any, own: Any) -> Any:
        clock = Clock(jnp.int32(0), jnp.int32(1))
        return jax.eval_shape(algorithm.step, state, hypers, own, clock)[1]

    def init_agent(nothing: None, agent: Agents, env_params: Any) -> Block:
        del nothing
        own = env_params.replace(**agent.overrides)
        state = algorithm.init(jax.random.fold_in(root, agent.seed), agent.hypers, own)
        return Block(state, zeros(metrics_shape(state, agent.hypers, own)))

    def advance_agent(block: Block, agent: Agents, shared: tuple[Any, Clock, Array]) -> Block:
        env_params, clock, iterations = shared
        own = env_params.replace(**agent.overrides)

        def iterate(done: Array, block: Block) -> Block:
            now = clock._replace(iteration=clock.iteration + done)
            state, metrics = algorithm.step(block.state, agent.hypers, own, now)
            return Block(state, jax.tree.map(jnp.add, block.totals, metrics))

        return jax.lax.fori_loop(jnp.int32(0), iterations, iterate, block)

    run_init, run_advance = for_each_agent(init_agent), for_each_agent(advance_agent)
    return Program(
        env_steps=algorithm.env_steps,
        init=lambda agents: run_init(None, agents, env_params),
        advance=lambda block, agents, clock, iterations: run_advance(
            block, agents, (env_params, clock, jnp.int32(iterations))
        ),
        shape=lambda agents: jax.eval_shape(run_init, None, agents, env_params),
    )


def bind(program: Program, agents: Agents) -> Engine:
    """Let a program train these agents."""
    parts = blocks(agents)
    return Engine(
        agents=agents.seed.shape[0],
        env_steps=program.env_steps,
        init=lambda: [program.init(part) for part in parts],
        advance=lambda states, clock, iterations: [
            program.advance(state, part, clock, iterations) for state, part in zip(states, parts, strict=True)
        ],
        shape=lambda: [program.shape(part) for part in parts],
        overrides=[part.overrides for part in parts],
    )


def make_engine(algorithm: Algorithm, env_params: Any, agents: Agents, root_seed: int = 0) -> Engine:
    """Prepare the training of these agents; see `make_program`."""
    return bind(make_program(algorithm, env_params, root_seed), agents)


def _bytes(leaf: Any) -> int:
    """Of an array, or of a shape."""
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return int(leaf.size) * (8 if key else leaf.dtype.itemsize)
