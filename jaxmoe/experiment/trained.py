"""Trained agents, out of an experiment: what they are and what they have learned."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.analysis.ranking import best_position, ranking_of
from jaxmoe.analysis.tables import Tables
from jaxmoe.errors import InputError
from jaxmoe.experiment.tables import Contents
from jaxmoe.policy.contract import Network, network_from
from jaxmoe.table.splits import SPLITS
from jaxmoe.training.arrays import read_arrays
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import ANEW, numbers_in, require_whole
from jaxmoe.values import plain, whole


class TrainedAgent(NamedTuple):
    """What an agent is, what it has learned, and how good it is."""

    number: int
    job: Job
    seed: int
    env_steps: int
    params: Mapping[str, Any]  # numbers of the scenario that differ
    hypers: Mapping[str, float]
    network: Network
    preferences: str  # what the network puts out
    tensors: Mapping[str, np.ndarray]  # of the acting network: `layer0/kernel` and so on
    scores: Mapping[str, Any]  # of the trained agent: QoS and normalised score on each split, and whether it diverged
    versions: Mapping[str, str]


def trained_agents(
    storage: Storage, contents: Contents, results: pd.DataFrame, numbers: Sequence[int] | None = None
) -> list[TrainedAgent]:
    """Agents by their numbers, all if absent, in this order.

    Raises:
        InputError: there is none of a number, it is not trained yet, or the file of its policy is damaged.
    """
    known = results.set_index("agent", drop=False)
    planned = {int(agent) for each in contents.rounds for agent in each.agents["agent"]}
    wanted = [int(number) for number in (known.index if numbers is None else numbers)]
    for number in wanted:
        if number not in planned:
            raise InputError(f"there is no agent {number}; they are numbered from 0 to {max(planned)}")
        if number not in known.index:
            raise InputError(f"{storage.where}: agent {number} is not trained yet")
    job_of = {
        agent: (job, row)
        for job in contents.jobs
        if job.kind == "train" and job.number in contents.done
        for row, agent in enumerate(job.rows)
    }
    by_job: dict[int, list[int]] = {}
    for number in wanted:
        by_job.setdefault(job_of[number][0].number, []).append(number)
    found: dict[int, TrainedAgent] = {}
    for job_number, agents in by_job.items():
        job, about = job_of[agents[0]][0], contents.done[job_number]
        name = require_whole(storage, job, about, "policies.safetensors")
        order = sorted(agents, key=lambda agent: job_of[agent][1])
        network = network_from(about["network"], f"{storage.where}/{job.folder}/done.json, network")
        arrays = read_arrays(storage, name, [job_of[agent][1] for agent in order])
        shapes = {key: (len(order), *shape) for key, shape in network.shapes().items()}
        if {key: array.shape for key, array in arrays.items()} != shapes:
            raise InputError(f"{storage.where}/{name} is damaged: its arrays are not those of the network; {ANEW}")
        for row, agent in enumerate(order):
            tensors = {key: array[row] for key, array in arrays.items()}
            of_agent = {str(name): value for name, value in known.loc[agent].to_dict().items()}
            found[agent] = _agent(agent, job, of_agent, tensors, about, network)
    return [found[number] for number in wanted]


def stacked(agents: Sequence[TrainedAgent]) -> dict[str, np.ndarray]:
    """Tensors of the acting networks of agents of one shape, along the leading axis."""
    return {name: np.stack([agent.tensors[name] for agent in agents]) for name in agents[0].tensors}


def _agent(
    number: int,
    job: Job,
    row: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    network: Network,
) -> TrainedAgent:
    signature = job.signature
    return TrainedAgent(
        number=number,
        job=job,
        seed=int(row["seed"]),
        env_steps=int(row.get("kept_env_steps", row["env_steps"])),
        params={**signature.static_numbers, **{name: numbers_in([row[name]])[0] for name in job.numbers}},
        hypers={name: _number(row, name) for name in about["hypers"]},
        network=network,
        preferences=about["preferences"],
        tensors=tensors,
        scores=_scores(row),
        versions=about.get("versions", {}),
    )


def _number(row: Mapping[str, Any], name: str) -> float:
    """A hyperparameter of an agent."""
    value = row.get(name)
    if not isinstance(value, int | float):
        raise InputError(f"agent {row['agent']} has no number {name} in its plan; restore plan.parquet from a copy")
    return float(value)


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """What results say of an agent."""
    scores: dict[str, Any] = {"diverged": bool(row["diverged"])}
    for split in SPLITS:
        found = {what: row.get(f"{split}_{what}") for what in ("qos", "normalised")}
        known = {what: float(value) for what, value in found.items() if value is not None and value == value}
        if known:
            scores[split] = known
    return scores


def agents_among(given: Any) -> list[TrainedAgent]:
    """Trained agents, if that is what is given: one, or a list of them."""
    listed = [given] if isinstance(given, TrainedAgent) else given
    agents = isinstance(listed, list | tuple) and listed and all(isinstance(each, TrainedAgent) for each in listed)
    return list(listed) if agents else []


def chosen_agents(tables: Tables, agents: Any) -> list[int]:
    """Numbers of those that are meant: by the best configuration, all, numbers, or trained agents themselves.

    Raises:
        InputError: it is none of these.
    """
    agents = plain([each.number for each in among] if (among := agents_among(agents)) else agents, "agents")
    if agents == "all":
        return [int(number) for number in tables.results["agent"]]
    if agents == "best":
        ranking = ranking_of(tables)
        return [int(number) for number in ranking.agents[best_position(ranking)].ravel()]
    if isinstance(agents, str):
        raise InputError(f"agents = {agents!r} is neither 'best', 'all' nor numbers of agents")
    found = [whole(number, "agents") for number in (agents if isinstance(agents, list) else [agents])]
    if not found:
        raise InputError("agents = [] names none; give at least one number")
    return found
