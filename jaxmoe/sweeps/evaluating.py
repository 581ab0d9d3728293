"""What policies bring, beside every reference, on the same requests."""

import os
from collections.abc import Mapping
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
from jaxmoe.policy.bundle import is_policy_file, read_bundle
from jaxmoe.policy.running import policy_function, training_place
from jaxmoe.progress import SILENT, Reporter
from jaxmoe.sweeps.comparison import compare, normalised_score
from jaxmoe.sweeps.engine import Block, Engine
from jaxmoe.sweeps.inputs import environments, require_positive
from jaxmoe.sweeps.lanes import blocks, for_each_agent, joined
from jaxmoe.sweeps.run import load_policies, load_run
from jaxmoe.table import ExpertTable, load_table

SEED = 0
SLOTS = 8192
PART_SLOTS = 1024  # about so many requests are served by each agent in one call


def evaluate(
    policy: Policy | str | os.PathLike[str] | None = None,
    scenario: str | None = None,
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
            run, which then says the scenario itself; or an exported policy's file, of any format, which is evaluated on
            any table that has its experts; or nothing, for the references alone.
        scenario: "oneshot", "fading" or "queueing"; if absent the one that an exported policy was trained in, and
            "oneshot" for others.
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
    if isinstance(policy, str | os.PathLike) and is_policy_file(policy):
        return _evaluate_exported(policy, scenario, params or {}, settings or {}, table, slots, seed, report)
    folder = policy if isinstance(policy, str | os.PathLike) else None
    run = None if folder is None else load_run(folder)
    if run is not None:
        if run.table_digest != table.meta.digest:
            raise InputError(f"{folder} was trained on another expert table; give the table it was trained on")
        scenario, params, settings = run.scenario, run.params, run.settings
    env, splits = environments(scenario or "oneshot", table, settings or {}, params or {})
    tallies = tally_references(env, splits, report, seed, slots)
    if folder is not None and run is not None:
        report.stage("evaluating the agents")
        algorithm = run.bind(env, splits["train"])
        policies = blocks(load_policies(folder, run, algorithm, splits["train"]))
        judge = Judge(algorithm, env, splits, seed, slots)
        add(tallies, run.agents_name, judge.judge(policies, [{}] * len(policies), len(run.seeds)))
    elif callable(policy):
        report.stage("evaluating the policy")
        add(tallies, "policy", {name: evaluation.tally(policy, env, splits[name], seed, slots) for name in splits})
    return comparison(tallies, env, table)


def _evaluate_exported(
    path: str | os.PathLike[str],
    scenario: str | None,
    params: Mapping[str, float],
    settings: Mapping[str, Any],
    table: ExpertTable,
    slots: int,
    seed: int,
    report: Reporter,
) -> pd.DataFrame:
    bundle = read_bundle(path)
    contract = bundle.contract
    if table.experts != contract.experts:
        table = table.select_experts(contract.experts)
    own = training_place(contract)
    if scenario is None:
        scenario, settings, params = own.scenario, {**own.settings, **settings}, {**own.params, **params}
    interface: dict[str, Any] = {
        name: own.settings[name] for name in ("num_replicas", "observe_words") if name in own.settings
    }
    env, splits = environments(scenario, table, {**interface, **settings}, params)
    function = policy_function(bundle, env, splits["train"])
    tallies = tally_references(env, splits, report, seed, slots)
    report.stage(f"evaluating {bundle.path.name}")
    found = {name: evaluation.tally(function, env, splits[name], seed, slots) for name in splits}
    add(tallies, bundle.path.name, found)
    return comparison(tallies, env, table)


def tally_references(
    env: EdgeExperts, splits: dict[str, EnvParams], report: Reporter, seed: int = SEED, slots: int = SLOTS
) -> Tallies:
    """Let every reference serve the requests, and say which one is at work."""
    return evaluation.tally_references(
        env, splits, seed, slots, lambda name: report.stage(f"evaluating the references: {name}")
    )


class Judge:
    """Lets trained agents serve the same requests as every other policy, by their greedy actions.

    A part of the requests is one call of a compiled program; whoever wants an impression takes fewer parts.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        env: EdgeExperts,
        splits: dict[str, EnvParams],
        seed: int = SEED,
        slots: int = SLOTS,
    ) -> None:
        """Prepare for agents of one algorithm, in one environment, who may differ in numbers of the scenario."""
        length = evaluation.episode_slots(env, splits["train"])
        episodes = evaluation.episodes_for(slots, length)
        self.parts = -(-episodes * length // PART_SLOTS)
        self._episodes = -(-episodes // self.parts)  # of one part
        self._splits, self._key = splits, jax.random.key(seed)

        def evaluate_agent(nothing: None, agent: tuple[Any, Any], shared: tuple[EnvParams, Array, Array]) -> Sums:
            del nothing
            (policy, overrides), (params, key, first) = agent, shared

            def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
                del key, state, params
                return jnp.argmax(algorithm.preferences(policy, observation))

            return evaluation.sums(act, env, params.replace(**overrides), key, self._episodes, length, first)

        self._run = for_each_agent(evaluate_agent)

    def __call__(self, trained: list[Block], engine: Engine, parts: int | None = None) -> dict[str, Tally]:
        """What the agents of an engine bring in the first parts, all if absent, on each split; one row per agent."""
        return self.judge([block.state.policy for block in trained], engine.overrides, engine.agents, parts)

    def judge(
        self, policies: list[Any], overrides: list[dict[str, Array]], agents: int, parts: int | None = None
    ) -> dict[str, Tally]:
        """The same for blocks of policies."""
        found = {}
        for split, params in self._splits.items():
            each = [
                [
                    self._run(None, block, (params, self._key, jnp.int32(part * self._episodes)))
                    for block in zip(policies, overrides, strict=True)
                ]
                for part in range(self.parts if parts is None else parts)
            ]
            totals = [jax.tree.map(lambda leaf: leaf.astype(np.float64), joined(part, agents)) for part in each]
            found[split] = Tally(*jax.tree.map(lambda *leaves: sum(leaves), *totals))
        return found


def level_table(tallies: Tallies, best: str) -> dict[str, tuple[float, float]]:
    """Mean QoS of the policies whose normalised score is 0 and 1, for each split."""
    return {
        split: (float(policies["random"].mean()[0]), float(policies[best].mean()[0]))
        for split, policies in tallies.items()
    }


def with_normalised(rows: pd.DataFrame, levels: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """The rows with a column `{split}_normalised` after each `{split}_qos`."""
    for split, (worst, best) in levels.items():
        place = list(rows.columns).index(f"{split}_qos") + 1
        scores = normalised_score(rows[f"{split}_qos"].to_numpy()[:, None], np.array([worst]), np.array([best]))
        rows.insert(place, f"{split}_normalised", scores[:, 0])
    return rows


def add(tallies: Tallies, name: str, found: Mapping[str, Tally]) -> None:
    """Put a policy's tallies beside the others."""
    for split, tally in found.items():
        tallies[split][name] = tally


def comparison(tallies: Tallies, env: EdgeExperts, table: ExpertTable) -> pd.DataFrame:
    """One row per split, policy and metric."""
    return compare(tallies, evaluation.metric_names(table.experts), evaluation.best_reference(env))
