"""The tidy tables of a sweep, put together from its finished parts; the same whatever the order in which they came."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save

from jaxmoe.env.evaluation import best_reference
from jaxmoe.env.scenarios import make
from jaxmoe.study.reading import with_ends
from jaxmoe.sweeps.evaluating import with_normalised
from jaxmoe.sweeps.plan import Plan
from jaxmoe.sweeps.store import Store
from jaxmoe.table import ExpertTable

TABLES = ("results", "curves", "prompts", "references")


def collect(store: Store, plan: Plan, table: ExpertTable) -> dict[str, pd.DataFrame]:
    """The tables of what is done so far.

    `results`: one row per agent. `curves`: one per agent and evaluation. `prompts`: one per agent, split and prompt.
    `references`: one per environment, split, policy and prompt.
    """
    who, references = plan.table(), _read(store, "references.parquet")
    levels = _levels(references, plan, table)
    curves = _sorted(_read(store, "curves.parquet"), ["agent", "env_steps"])
    if len(curves):
        curves = with_levels(who[["agent", "configuration", "seed", "environment"]].merge(curves, on="agent"), levels)
    last = curves.groupby("agent", sort=True).tail(1) if len(curves) else curves
    ends = last.drop(columns=["configuration", "seed", "environment"], errors="ignore")
    return {
        "results": with_ends(who, ends) if len(ends) else who.head(0),
        "curves": curves.drop(columns="environment", errors="ignore"),
        "prompts": _sorted(_read(store, "prompts.parquet"), ["agent"]),
        "references": _sorted(references, ["environment"]),
    }


def write_agents(store: Store, plan: Plan) -> None:
    """Write who is planned, so that whoever looks at an unfinished sweep knows it."""
    store.write("agents.parquet", partial(plan.table().to_parquet, index=False))


def write(store: Store, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the tables, and the policies of all agents, into the sweep's folder."""
    for name in TABLES:
        store.write(f"{name}.parquet", partial(tables[name].to_parquet, index=False))
    policies = save(_stacked(_files(store, "policies.safetensors")))
    store.write("policies.safetensors", lambda path: path.write_bytes(policies))


def with_levels(rows: pd.DataFrame, levels: Mapping[int, dict[str, tuple[float, float]]]) -> pd.DataFrame:
    """The rows with their normalised scores, as far as the references of their environment are known."""
    if not levels:
        return rows
    parts = []
    for environment in rows["environment"].unique().tolist():
        part = rows[rows["environment"] == environment].copy()
        parts.append(with_normalised(part, levels[environment]) if environment in levels else part)
    return _sorted(pd.concat(parts), ["agent", "env_steps"])


def _levels(references: pd.DataFrame, plan: Plan, table: ExpertTable) -> dict[int, dict[str, tuple[float, float]]]:
    """Mean QoS of `random` and of the best reference: of each environment and split."""
    levels: dict[int, dict[str, tuple[float, float]]] = {}
    if not len(references):
        return levels
    totals = references.assign(total=references["qos"] * references["slots"])
    sums = totals.groupby(["environment", "split", "policy"], sort=False)[["total", "slots"]].sum()
    means = (sums["total"] / sums["slots"]).to_dict()
    for environment, split in dict.fromkeys(zip(references["environment"], references["split"], strict=True)):
        place = plan.places[environment]
        best = best_reference(make(place.scenario, table, **place.settings)[0])
        levels.setdefault(environment, {})[split] = (
            means[environment, split, "random"],
            means[environment, split, best],
        )
    return levels


def _files(store: Store, file: str) -> list[Path]:
    return [store.path(name) / file for name, about in sorted(store.done.items()) if file in about["files"]]


def _read(store: Store, file: str) -> pd.DataFrame:
    frames = [pd.read_parquet(path) for path in _files(store, file)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _sorted(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return rows.sort_values(by, kind="stable", ignore_index=True) if len(rows) else rows


def _stacked(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """The policies of all parts: those of a program along one leading axis, in the order of agents."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        held = load_file(path)
        [group] = {name.split("/")[0] for name in held}
        parts.setdefault(group, []).append(held)
    stacked: dict[str, np.ndarray] = {}
    for group, held in sorted(parts.items()):
        order = np.argsort(np.concatenate([part[f"{group}/agent"] for part in held]), kind="stable")
        stacked |= {name: np.concatenate([part[name] for part in held])[order] for name in sorted(held[0])}
    return stacked
