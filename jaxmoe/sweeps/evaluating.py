"""What policies bring, beside every reference, on the same requests."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from jaxmoe.agents.algorithm import Algorithm
from jaxmoe.env import evaluation
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.evaluation import Sums, Tallies
from jaxmoe.env.params import EnvParams
from jaxmoe.env.references import Policy
from jaxmoe.errors import InputError
from jaxmoe.intervals import Tally
from jaxmoe.progress import SILENT, Reporter
from jaxmoe.sweeps.comparison import compare
from jaxmoe.sweeps.inputs import environments, require_positive
from jaxmoe.sweeps.lanes import for_each_agent, pad, padded_count
from jaxmoe.sweeps.run import load_policies, load_run
from jaxmoe.table import ExpertTable, load_table

SEED = 0
SLOTS = 8192


def evaluate(
    policy: Policy | str | os.PathLike[str] | None = None,
    scenario: str = "oneshot",
    *,
    params: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | None = None,
    slots: int = SLOTS,
    seed: int = SEED,
    report: Reporter = SILENT,
) -> pd.DataFrame:
    """Compare a policy, or the agents of a training run, with every reference, on the same requests.

    Args:
        policy: a function `(key, observation, state, params) -> action` of one environment; or the folder of a training
            run, which then says the scenario itself; or nothing, for the references alone.
        scenario: "oneshot", "fading" or "queueing".
        params: numbers of the scenario to change.
        settings: static settings of the scenario to change.
        table: what the experts write; the shipped table if absent.
        slots: requests per policy and split.
        seed: of the random numbers, which are the same for every policy.
        report: told how the evaluation goes.

    Returns:
        One row per split, policy and metric: `mean`, and `low` and `high` of the 95 % interval over prompts and seeds.

    Raises:
        InputError: an unknown name, a value that is not allowed, or a folder that holds no training run.
    """
    table = load_table() if table is None else table
    require_positive("slots", slots)
    folder = policy if isinstance(policy, str | os.PathLike) else None
    run = None if folder is None else load_run(folder)
    if run is not None:
        if run.table_digest != table.meta.digest:
            raise InputError(f"{folder} was trained on another expert table; give the table it was trained on")
        scenario, params, settings = run.scenario, run.params, run.settings
    env, splits = environments(scenario, table, settings or {}, params or {})
    tallies = tally_references(env, splits, report, seed, slots)
    if folder is not None and run is not None:
        report.stage("evaluating the agents")
        algorithm = run.bind(env, splits["train"])
        policies = load_policies(folder, run, algorithm, splits["train"])
        add(tallies, run.agents_name, evaluate_agents(algorithm, env, splits, len(run.seeds), seed, slots)(policies))
    elif callable(policy):
        report.stage("evaluating the policy")
        add(tallies, "policy", {name: evaluation.tally(policy, env, splits[name], seed, slots) for name in splits})
    return comparison(tallies, env, table)


def tally_references(
    env: EdgeExperts, splits: dict[str, EnvParams], report: Reporter, seed: int = SEED, slots: int = SLOTS
) -> Tallies:
    """Let every reference serve the requests, and say which one is at work."""
    return evaluation.tally_references(
        env, splits, seed, slots, lambda name: report.stage(f"evaluating the references: {name}")
    )


def evaluate_agents(
    algorithm: Algorithm,
    env: EdgeExperts,
    splits: dict[str, EnvParams],
    agents: int,
    seed: int = SEED,
    slots: int = SLOTS,
) -> Callable[[Any], dict[str, Tally]]:
    """A function from the agents' policies, padded or not, to what their greedy actions bring, one row per agent."""
    length = evaluation.episode_slots(env, splits["train"])
    episodes = evaluation.episodes_for(slots, length)

    def evaluate_agent(nothing: None, policy: Any, shared: tuple[EnvParams, Array]) -> Sums:
        del nothing
        params, key = shared

        def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
            del key, state, params
            return jnp.argmax(algorithm.preferences(policy, observation))

        return evaluation.sums(act, env, params, key, episodes, length)

    run = for_each_agent(evaluate_agent)

    def evaluate_all(policies: Any) -> dict[str, Tally]:
        padded = pad(policies, padded_count(agents))
        found = {split: run(None, padded, (params, jax.random.key(seed))) for split, params in splits.items()}
        return {
            split: Tally(*(np.asarray(leaf, np.float64)[:agents] for leaf in totals)) for split, totals in found.items()
        }

    return evaluate_all


def add(tallies: Tallies, name: str, found: Mapping[str, Tally]) -> None:
    """Put a policy's tallies beside the others."""
    for split, tally in found.items():
        tallies[split][name] = tally


def comparison(tallies: Tallies, env: EdgeExperts, table: ExpertTable) -> pd.DataFrame:
    """One row per split, policy and metric."""
    return compare(tallies, evaluation.metric_names(table.experts), evaluation.best_reference(env))
