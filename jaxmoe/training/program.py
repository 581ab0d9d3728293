"""The training program: many agents at once, in segments between which the host looks, reports and may stop.

It is compiled once per signature, whatever the number of agents and the length of a segment; the state is donated.
Where training is cut into segments changes nothing, not even the metrics, whose sums travel with the agents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled as Executable
from jaxtyping import Array, Float, Int

from jaxmoe.algorithms.algorithm import AgentState, Algorithm, Clock
from jaxmoe.training.batches import batches, for_each_agent, joined, zeros
from jaxmoe.training.compiled import Check
from jaxmoe.training.job import KEEP_LAST, Keeping
from jaxmoe.training.keeping import NEVER, frozen_if_stopped, make_look, nothing_kept


class Agents(NamedTuple):
    """What tells agents apart; each leaf has the agent axis in front."""

    seed: Int[Array, " A"]
    hypers: Any  # the algorithm's `Hypers`, [A] each
    overrides: dict[str, Array]  # fields of the environment's parameters that differ between agents, [A, ...] each


class Batch(NamedTuple):
    """Agents of one batch in training."""

    state: AgentState
    totals: dict[str, Float[Array, " W"]]  # sum of each metric over iterations, since `Engine.metrics` took it last
    counted: dict[str, Float[Array, " W"]]  # in how many iterations there was a number to add
    kept: Any = ()  # what evaluations have decided: a `Kept`, where they decide anything


class Program(NamedTuple):
    """An algorithm, ready to train any agents of one signature."""

    env_steps: int  # of one agent in one iteration
    init: Callable[[Agents, Array], Batch]  # from the key of all agents' keys
    advance: Callable[[Batch, Agents, Clock, int], Batch]  # by some iterations, from where the clock stands
    shape: Callable[[Agents], Batch]  # of what `init` returns, without computing it
    look: Callable[[Batch, Array, int, bool], Batch]  # after an evaluation: QoS, the iteration, whether it counts
    keeping: Keeping
    compile: Callable[[Agents, Array, bool, Check], Executable]  # nothing is run; what makes agents only if they begin

    def learns(self, batch: Batch) -> bool:
        """Whether an agent of the batch has not stopped."""
        return not self.keeping.stop.stops or bool((np.asarray(batch.kept.stopped) == NEVER).any())


class Engine(NamedTuple):
    """A program and the agents that it trains."""

    agents: int
    agents_per_device: int
    env_steps: int  # of one agent in one iteration
    init: Callable[[], list[Batch]]
    advance: Callable[[list[Batch], Clock, int], list[Batch]]  # but those batches of which every agent has stopped
    shape: Callable[[], list[Batch]]
    look: Callable[[list[Batch], Float[np.ndarray, " A"], int, bool], list[Batch]]
    keeping: Keeping
    overrides: list[dict[str, Array]]  # of the agents of each batch
    compile: Callable[[bool, Check], Executable]  # the same for these agents; what trains them

    def metrics(self, parts: list[Batch]) -> tuple[list[Batch], dict[str, Float[np.ndarray, " A"]]]:
        """Take the sums of the metrics, and begin anew; the agents, and the means: NaN of what was never measured."""
        totals, counted = joined([(part.totals, part.counted) for part in parts], self.agents)
        with np.errstate(invalid="ignore"):
            means = {name: total / counted[name] for name, total in totals.items()}
        fresh = [jax.tree.map(jnp.zeros_like, (part.totals, part.counted)) for part in parts]
        return [
            part._replace(totals=sums, counted=counts) for part, (sums, counts) in zip(parts, fresh, strict=True)
        ], means

    def policies(self, parts: list[Batch]) -> Any:
        """Parameters of the acting networks that are kept, agents along the leading axis."""
        return joined(self.kept_policies(parts), self.agents)

    def kept_policies(self, parts: list[Batch]) -> list[Any]:
        """Of each batch the parameters of the acting networks that are kept: of the last iteration, or the best."""
        return [part.kept.policy if self.keeping.keep == "best" else part.state.policy for part in parts]

    def kept_at(self, parts: list[Batch], reached: int) -> np.ndarray:
        """Iterations after which each agent's kept policy was as it is."""
        if self.keeping.keep == "best":
            return joined([part.kept.at for part in parts], self.agents).astype(np.int64)
        return self.ended_at(parts, reached)

    def ended_at(self, parts: list[Batch], reached: int) -> np.ndarray:
        """Iterations that each agent has learned in."""
        return np.where(self.stopped(parts), self._stopped_at(parts), reached)

    def stopped(self, parts: list[Batch]) -> np.ndarray:
        """Which agents have stopped."""
        return self._stopped_at(parts) != NEVER

    def _stopped_at(self, parts: list[Batch]) -> np.ndarray:
        if not self.keeping.looks:
            return np.full(self.agents, NEVER)
        return joined([part.kept.stopped for part in parts], self.agents).astype(np.int64)

    def diverged(self, parts: list[Batch]) -> np.ndarray:
        """Which agents are frozen."""
        return joined([part.state.diverged for part in parts], self.agents)


def make_program(algorithm: Algorithm, env_params: Any, keeping: Keeping = KEEP_LAST) -> Program:
    """Prepare the training of agents in batches.

    An agent's key is `fold_in(root, seed)`: agents with the same seed share their random numbers, and adding agents or
    putting them in another order changes none.

    Args:
        algorithm: bound to its environment and static configuration.
        env_params: parameters of the environment, shared by all agents but for their overrides.
        keeping: what evaluations decide.
    """

    def metrics_shape(state: AgentState, hypers: Any, own: Any) -> Any:
        clock = Clock(jnp.int32(0), jnp.int32(0), jnp.int32(1))
        return jax.eval_shape(algorithm.step, state, hypers, own, clock)[1]

    def init_agent(nothing: None, agent: Agents, shared: tuple[Any, Array]) -> Batch:
        del nothing
        env_params, root = shared
        own = env_params.replace(**agent.overrides)
        state = algorithm.init(jax.random.fold_in(root, agent.seed), agent.hypers, own)
        shape = metrics_shape(state, agent.hypers, own)
        return Batch(state, zeros(shape), zeros(shape), nothing_kept(keeping, state.policy))

    def advance_agent(batch: Batch, agent: Agents, shared: tuple[Any, Clock, Array]) -> Batch:
        env_params, clock, iterations = shared
        own = env_params.replace(**agent.overrides)

        def iterate(done: Array, batch: Batch) -> Batch:
            now = clock._replace(iteration=clock.iteration + done)
            state, metrics = algorithm.step(batch.state, agent.hypers, own, now)
            if keeping.stop.stops:
                state = frozen_if_stopped(batch.state, state, batch.kept)
            there = jax.tree.map(lambda value: ~jnp.isnan(value), metrics)
            added = jax.tree.map(lambda value, there: jnp.where(there, value, 0.0), metrics, there)
            counts = jax.tree.map(lambda there: there.astype(jnp.float32), there)
            totals = jax.tree.map(jnp.add, batch.totals, added)
            return Batch(state, totals, jax.tree.map(jnp.add, batch.counted, counts), batch.kept)

        return jax.lax.fori_loop(jnp.int32(0), iterations, iterate, batch)

    run_init, run_advance, run_look = for_each_agent(init_agent), for_each_agent(advance_agent), make_look(keeping)
    clock = Clock(*(jnp.int32(0) for _ in Clock._fields))

    def compile_all(agents: Agents, root: Array, begins: bool, check: Check) -> Executable:
        batch = run_init.shape(None, agents, (env_params, root))
        if begins:
            check()
            run_init.compile(None, agents, (env_params, root))
        check()
        trains = run_advance.compile(batch, agents, (env_params, clock, np.int32(0)))
        check()
        if keeping.looks:
            run_look.compile(batch, agents.seed.astype(np.float32), (np.int32(0), np.bool_(True)))
        return trains

    return Program(
        env_steps=algorithm.env_steps,
        init=lambda agents, root: run_init(None, agents, (env_params, root)),
        advance=lambda batch, agents, clock, iterations: run_advance(
            batch, agents, (env_params, clock, np.int32(iterations))
        ),
        shape=lambda agents: run_init.shape(None, agents, (env_params, jax.random.key(0))),
        look=lambda batch, qos, iteration, counts: run_look(batch, qos, (np.int32(iteration), np.bool_(counts))),
        keeping=keeping,
        compile=compile_all,
    )


def bind(program: Program, agents: Agents, agents_per_device: int, root: Array) -> Engine:
    """Let a program train these agents, whose keys come from a root and their seeds."""
    parts = batches(agents, agents_per_device)
    return Engine(
        agents=agents.seed.shape[0],
        agents_per_device=agents_per_device,
        env_steps=program.env_steps,
        init=lambda: [program.init(part, root) for part in parts],
        advance=lambda states, clock, iterations: [
            program.advance(state, part, clock, iterations) if program.learns(state) else state
            for state, part in zip(states, parts, strict=True)
        ],
        shape=lambda: [program.shape(part) for part in parts],
        look=lambda states, qos, iteration, counts: [
            program.look(state, row, iteration, counts)
            for state, row in zip(states, batches(qos.astype(np.float32), agents_per_device), strict=True)
        ],
        keeping=program.keeping,
        overrides=[part.overrides for part in parts],
        compile=lambda begins, check: program.compile(parts[0], root, begins, check),
    )
