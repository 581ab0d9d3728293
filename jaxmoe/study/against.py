"""The winner against every reference: on the same requests, with intervals that count prompts as well as seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.intervals import Estimate, Tally, estimate
from jaxmoe.study.reading import Study

WORST = "random"
Means = NDArray[np.float64]


def best_reference(policies: Sequence[str]) -> str:
    """The reference whose normalised score is 1: the planner where there is one, else the one-slot optimum."""
    return "lookahead" if "lookahead" in policies else "one_slot_optimum"


def family(policy: object) -> str:
    """A policy's name without what was chosen for it, such as the subset.

    >>> family("fixed_subset(6)"), family("ppo (8 agents)")
    ('fixed_subset', 'ppo')
    """
    return str(policy).partition("(")[0].strip()


def against_references(
    study: Study, agents: NDArray[np.int64], environments: NDArray[np.int64], name: str
) -> pd.DataFrame:
    """One row per split, policy and metric: `mean`, `low` and `high`.

    Metrics are the mean `qos` of a request, the `normalised` score, and how far the agents are `ahead` in QoS, of which
    the interval is paired: all policies meet the same prompts. Of several environments each counts alike.

    Args:
        study: the tables.
        agents: numbers of the agents of a setting, [tasks, runs].
        environments: of each task.
        name: of the agents, as a policy.
    """
    rows = []
    for split in study.splits:
        own = [_agents_tally(study.prompts, split, numbers) for numbers in agents]
        others = _reference_tallies(study.references, split, environments)
        worst, best = others.get(WORST), others.get(best_reference(list(others)))
        for policy, tallies in {name: own, **others}.items():
            rows += _rows(split, policy, tallies, own, worst, best)
    return pd.DataFrame(rows, columns=["split", "policy", "metric", *Estimate._fields])


def _rows(
    split: str, policy: str, tallies: list[Tally], own: list[Tally], worst: list[Tally] | None, best: list[Tally] | None
) -> list[tuple[object, ...]]:
    count = len(tallies)

    def statistic(*means: Means) -> Means:
        parts = [np.stack(means[begin : begin + count]) for begin in range(0, len(means), count)]
        qos, agents, *levels = parts
        found = [qos.mean(axis=0), (agents - qos).mean(axis=0)]
        if levels:
            low, high = levels
            found.append(((qos - low) / (high - low)).mean(axis=0))
        return np.concatenate(found, axis=-1)

    levels = [] if worst is None or best is None else [*worst, *best]
    found = estimate(statistic, [*tallies, *own, *levels])
    return [(split, policy, metric, *of) for metric, of in zip(("qos", "ahead", "normalised"), found, strict=False)]


def _agents_tally(prompts: pd.DataFrame, split: str, agents: NDArray[np.int64]) -> Tally:
    """QoS of some agents, one row each."""
    rows = prompts[(prompts["split"] == split) & prompts["agent"].isin(agents)]
    return _tally(rows, "agent")


def _reference_tallies(references: pd.DataFrame, split: str, environments: NDArray[np.int64]) -> dict[str, list[Tally]]:
    """QoS of each reference in each environment, as far as it is evaluated in all of them.

    In several environments another subset, or number of experts, can be the best: these go by the family's name.
    """
    if not len(references):
        return {}
    rows = references[(references["split"] == split) & references["environment"].isin(environments)]
    if len(environments) > 1:
        rows = rows.assign(policy=rows["policy"].map(family))
    found: dict[str, list[Tally]] = {}
    for policy, part in rows.groupby("policy", sort=False):
        tallies = {environment: _tally(each, "policy") for environment, each in part.groupby("environment")}
        if set(tallies) == set(environments.tolist()):
            found[str(policy)] = [tallies[environment] for environment in environments.tolist()]
    return found


def _tally(rows: pd.DataFrame, by: str) -> Tally:
    slots = rows.pivot_table(index=by, columns="prompt", values="slots", aggfunc="sum", fill_value=0, sort=True)
    qos = rows.assign(sum=rows["qos"].fillna(0.0) * rows["slots"])
    sums = qos.pivot_table(index=by, columns="prompt", values="sum", aggfunc="sum", fill_value=0.0, sort=True)
    return Tally(sums.to_numpy(np.float64)[:, :, None], slots.to_numpy(np.float64))
