"""One request outside a table: what a baseline would choose for it, and what a choice would cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.env import rules
from jaxmoe.env.actions import subsets
from jaxmoe.env.baselines import predicted_values
from jaxmoe.env.params import EnvParams
from jaxmoe.env.rules import EnvState
from jaxmoe.env.scenarios import SCENARIOS, make, scenario_named
from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


class Situation(NamedTuple):
    """A request with known relevance and channels, idle devices and a full battery."""

    env: "EdgeExperts"
    known: EnvParams  # of the table's prompts, which predictions may be fitted on
    params: EnvParams  # the same with the request in place of the first prompt
    state: EnvState


class Costs(NamedTuple):
    """Of one request that was served."""

    computing_cost: float
    transmission_cost: float
    latency_s: float


def situation(
    table: ExpertTable, scenario: str, relevance: Sequence[float], snr_db: Sequence[float], numbers: dict[str, Any]
) -> Situation:
    """Put a request before the devices of a scenario, one per expert.

    Of a table that has only subsets of a few experts, no larger ones are asked.

    Raises `InputError` for another number of experts or channels than the table has, and for an unknown scenario or
    number of it.
    """
    env, known = make(scenario, table, params=numbers, **_as_far_as_known(scenario, table))
    for name, values in (("relevance", relevance), ("snr_db", snr_db)):
        if len(values) != table.num_experts:
            raise InputError(f"{name} has {len(values)} values, and there are {table.num_experts} experts")
        if not np.all(np.isfinite(values)):
            raise InputError(f"{name} must be finite numbers, and is {', '.join(map(str, values))}")
    known = known.replace(**{name: jnp.asarray(getattr(known, name), jnp.float32) for name in numbers})
    prompt = known.prompts[0]
    gate = np.array(known.table.relevance)
    gate[int(prompt)] = relevance
    own = jax.tree.map(jnp.asarray, replace(known.table, relevance=gate))
    _, state = env.reset(jax.random.key(0), known)
    channels = jnp.asarray(snr_db, jnp.float32)
    state = state._replace(
        prompt=prompt,
        snr_db=channels,
        observed_snr_db=channels,
        available=jnp.ones_like(state.available),
        backlog_s=jnp.zeros_like(state.backlog_s),
        drawn={name: jnp.full_like(value, getattr(known, name)) for name, value in state.drawn.items()},  # the mean
    )
    return Situation(env, known, known.replace(table=own), state)


def predicted_qos(at: Situation) -> dict[int, float]:
    """What `predict_then_optimise` expects of each subset that can be asked, by its bitmask."""
    values: list[float] = predicted_values(at.env, at.known)(at.state, at.params).tolist()
    return dict(zip(subsets(at.env.settings), values, strict=True))


def costs(at: Situation, subset: int, words: Sequence[float]) -> Costs:
    """What it takes to let these experts write so many words each."""
    slot = rules.true_slot(at.state, at.params)._replace(words=jnp.asarray(words, jnp.float32))
    chosen = jnp.asarray([bool(subset >> expert & 1) for expert in range(len(words))])
    outcome = rules.serve(slot, chosen, jnp.float32(0.0), at.params, at.env.settings)
    return Costs(float(outcome.computing_cost), float(outcome.transmission_cost), float(outcome.latency_s))


def _as_far_as_known(scenario: str, table: ExpertTable) -> dict[str, Any]:
    """The setting that keeps to the subsets of which the table says something, where it lacks some."""
    known = table.complete_up_to()
    allowed = SCENARIOS[scenario_named(scenario)][0].max_experts
    return {"max_experts": known} if 1 <= known < (allowed or table.num_experts) else {}
