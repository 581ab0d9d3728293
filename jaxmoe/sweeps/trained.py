"""Trained agents, out of the folder of a training run or of a sweep."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.sweeps import store
from jaxmoe.sweeps.plan import Group, Plan, make_plan
from jaxmoe.sweeps.run import MANIFEST, POLICIES, load_run, read_arrays
from jaxmoe.sweeps.spec import load_spec
from jaxmoe.table import ExpertTable, load_table


class TrainedAgent(NamedTuple):
    """What an agent is, what it has learned, and how good it is."""

    number: int
    group: int  # agents of a group have networks of one shape, in one setting
    seed: int
    root_seed: int
    env_steps: int
    algorithm: str
    scenario: str
    settings: Mapping[str, Any]  # static settings of the scenario that differ
    params: Mapping[str, float]  # numbers of the scenario that differ
    hypers: Mapping[str, float]
    config: Mapping[str, Any]
    leaves: Mapping[str, np.ndarray]  # of the acting network, by names such as `params/Dense_0/kernel`
    scores: Mapping[str, Any]  # of the trained agent: QoS and normalised score on each split, and whether it diverged
    versions: Mapping[str, str]


def load_agents(
    folder: str | os.PathLike[str], table: ExpertTable | None = None
) -> tuple[list[TrainedAgent], ExpertTable]:
    """All agents of a training run or of a finished sweep, and the table that they were trained on.

    Args:
        folder: of the run or the sweep.
        table: the one that a run was trained on, the shipped one if absent; a sweep says its own.

    Raises:
        InputError: the folder holds neither, the sweep is not finished, or the table is another one.
    """
    path = Path(folder)
    if "spec" in _manifest(path):
        return _of_sweep(path, table)
    return _of_run(path, table)


def best_agent(agents: list[TrainedAgent]) -> TrainedAgent:
    """The agent with the largest QoS on train prompts, of those that did not diverge; test prompts have no say.

    In environments of different numbers QoS says nothing of agents; then the normalised score decides.
    """
    sound = [agent for agent in agents if not agent.scores["diverged"]]
    if not sound:
        raise InputError("all agents diverged, so that none is best; say the number of one")
    one_place = len({(agent.scenario, json.dumps([agent.settings, agent.params])) for agent in sound}) == 1
    by = "qos" if one_place else "normalised"
    scores = [agent.scores["train"].get(by) for agent in sound]
    if None in scores:
        raise InputError(
            "the agents were trained in different environments, and a sweep without references does not tell which is "
            "best; say the number of one"
        )
    return sound[int(np.argmax(scores))]


def agent_numbered(agents: list[TrainedAgent], number: int) -> TrainedAgent:
    """One of the agents."""
    for agent in agents:
        if agent.number == number:
            return agent
    raise InputError(f"there is no agent {number}; they are numbered from 0 to {max(each.number for each in agents)}")


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} holds neither a training run nor a sweep: there is no {MANIFEST} in it")
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    return content if isinstance(content, dict) else {}


def _of_run(folder: Path, table: ExpertTable | None) -> tuple[list[TrainedAgent], ExpertTable]:
    run, table = load_run(folder), load_table() if table is None else table
    _require_table(folder, run.table_digest, table, "give the table it was trained on with --table")
    leaves, results = _policies(folder), _results(folder)
    agents = [
        TrainedAgent(
            number=row,
            group=0,
            seed=seed,
            root_seed=run.root_seed,
            env_steps=run.env_steps,
            algorithm=run.algorithm,
            scenario=run.scenario,
            settings=run.settings,
            params=run.params,
            hypers=run.hypers,
            config=run.config,
            leaves={name: leaf[row] for name, leaf in leaves.items()},
            scores=_scores(results[row]),
            versions=_manifest(folder)["versions"],
        )
        for row, seed in enumerate(run.seeds)
    ]
    return agents, table


def _of_sweep(folder: Path, table: ExpertTable | None) -> tuple[list[TrainedAgent], ExpertTable]:
    manifest = store.read_manifest(folder)
    spec = load_spec(manifest["spec"])
    table = load_table(spec.table, relevance=spec.relevance) if table is None else table
    _require_table(
        folder, manifest["table_digest"], table, "its table has changed since; give the old one with --table"
    )
    plan, leaves = make_plan(spec, table), _policies(folder)
    results = {row["agent"]: row for row in _results(folder)}
    versions = next(about["versions"] for about in manifest["done"].values() if "versions" in about)
    agents = []
    for group in plan.groups:
        prefix = f"group{group.number}/"
        held = {name.removeprefix(prefix): leaf for name, leaf in leaves.items() if name.startswith(prefix)}
        numbers = held.pop("agent", np.array([], np.int32)).tolist()
        agents += [
            _agent_of_plan(plan, group, number, {name: leaf[row] for name, leaf in held.items()}, results, versions)
            for row, number in enumerate(numbers)
        ]
    return sorted(agents, key=lambda agent: agent.number), table


def _agent_of_plan(
    plan: Plan,
    group: Group,
    number: int,
    leaves: Mapping[str, np.ndarray],
    results: Mapping[int, Mapping[str, Any]],
    versions: Mapping[str, str],
) -> TrainedAgent:
    point = plan.configurations[plan.configuration_of[number]]
    hypers = plan.agents(group, [number]).hypers
    return TrainedAgent(
        number=number,
        group=group.number,
        seed=plan.seed_of[number],
        root_seed=plan.spec.root_seed,
        env_steps=int(results[number]["env_steps"]),
        algorithm=group.algorithm,
        scenario=group.scenario,
        settings=group.settings,
        params=point.params,
        hypers={name: float(value[0]) for name, value in hypers._asdict().items()},
        config=group.config,
        leaves=leaves,
        scores=_scores(results[number]),
        versions=versions,
    )


def _require_table(folder: Path, digest: str, table: ExpertTable, what_to_do: str) -> None:
    if digest != table.meta.digest:
        raise InputError(f"{folder} was trained on another expert table; {what_to_do}")


def _policies(folder: Path) -> dict[str, np.ndarray]:
    path = folder / POLICIES
    if not path.is_file():
        raise InputError(f"{folder} holds a sweep that is not finished: there is no {POLICIES} in it yet")
    return read_arrays(path)


def _results(folder: Path) -> list[dict[str, Any]]:
    path = folder / "results.parquet"
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `results` says of an agent."""
    scores: dict[str, Any] = {"diverged": bool(row["diverged"])}
    for split in ("train", "test"):
        found = {what: row.get(f"{split}_{what}") for what in ("qos", "normalised")}
        known = {what: float(value) for what, value in found.items() if value is not None and value == value}
        if known:
            scores[split] = known
    return scores
