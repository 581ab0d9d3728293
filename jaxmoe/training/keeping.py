"""Which policy of an agent is kept in the end, and when it stops learning before the end.

Both are decided at evaluations, by its QoS on the prompts that choose (validation prompts, where the table has them),
on the requests of the first look, which are the same at all times. A stopped agent is frozen as it was then.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmoe.algorithms.algorithm import AgentState, held
from jaxmoe.training.batches import for_each_agent
from jaxmoe.training.compiled import Compiled
from jaxmoe.training.job import Keeping, Stop

NEVER = -1


class Kept(NamedTuple):
    """What an agent's evaluations have decided so far; each leaf has the agent axis in front."""

    policy: Any  # the best so far, where that is kept
    best: Float[Array, ""]  # its QoS
    at: Int[Array, ""]  # iterations after which it was the best
    passed: Float[Array, ""]  # QoS of the last evaluation that was better by `min_gain` than all before it
    since: Int[Array, ""]  # evaluations in a row since then
    stopped: Int[Array, ""]  # iterations after which the agent stopped, or `NEVER`


def nothing_kept(keeping: Keeping, policy: Any) -> Kept | tuple[()]:
    """Of an agent that was never evaluated; nothing where evaluations decide nothing."""
    if not keeping.looks:
        return ()
    own = policy if keeping.keep == "best" else ()
    least = jnp.float32(-jnp.inf)
    return Kept(own, least, jnp.int32(0), least, jnp.int32(0), jnp.int32(NEVER))


def after_evaluation(
    kept: Kept, policy: Any, qos: Float[Array, ""], iteration: Array, stop: Stop, counts: bool | Array = True
) -> Kept:
    """What is decided by an agent's evaluation; of a stopped agent nothing more is.

    Args:
        kept: what was decided so far.
        policy: the agent's, as it was evaluated.
        qos: what it brought.
        iteration: iterations that it has learned in; an agent that has learned in none does not stop.
        stop: what ends its learning.
        counts: whether an evaluation that is no better counts towards a plateau: the early ones, at ever longer
            distances, do not.

    >>> first = nothing_kept(Keeping("best", Stop(plateau=1)), jnp.zeros(1))
    >>> second = after_evaluation(first, jnp.ones(1), jnp.float32(0.4), jnp.int32(8), Stop(plateau=1))
    >>> third = after_evaluation(second, jnp.full(1, 2.0), jnp.float32(0.3), jnp.int32(16), Stop(plateau=1))
    >>> third.policy.tolist(), int(third.at), int(third.stopped)
    ([1.0], 8, 16)
    """
    learns = kept.stopped == NEVER
    better, gained = learns & (qos > kept.best), learns & (qos > kept.passed + stop.min_gain)
    since = jnp.where(gained, 0, kept.since + jnp.asarray(counts).astype(jnp.int32))
    ends = jnp.zeros_like(learns)
    if stop.value is not None:
        ends |= qos >= stop.value
    if stop.plateau is not None:
        ends |= since >= stop.plateau
    return Kept(
        held(policy, kept.policy, better) if jax.tree.leaves(kept.policy) else (),
        jnp.where(better, qos, kept.best),
        jnp.where(better, iteration, kept.at),
        jnp.where(gained, qos, kept.passed),
        jnp.where(learns, since, kept.since),
        jnp.where(learns & ends & (iteration > 0), iteration, kept.stopped),
    )


def frozen_if_stopped(before: AgentState, after: AgentState, kept: Kept) -> AgentState:
    """The agent after an iteration, or as before if it has stopped; its memory, which is unused then, moves on."""
    found = held(before._replace(memory=()), after._replace(memory=()), kept.stopped != NEVER)
    return found._replace(memory=after.memory)


def make_look(keeping: Keeping) -> Compiled:
    """A program of a batch, its agents' QoS, the iteration and whether it counts: the batch after the evaluation."""

    def look(batch: Any, qos: Array, shared: tuple[Array, Array]) -> Any:
        iteration, counts = shared
        policy = batch.state.policy
        return batch._replace(kept=after_evaluation(batch.kept, policy, qos, iteration, keeping.stop, counts))

    return for_each_agent(look)
