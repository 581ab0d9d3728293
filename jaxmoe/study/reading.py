"""A sweep's folder as it stands, finished or not: what was planned, and the tidy tables of what is done."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.table_records import SPLITS

MANIFEST = "manifest.json"
AGENTS = "agents.parquet"
CHUNKS = "chunks"
TABLES = ("results", "curves", "prompts", "references")
IDENTITY = ("agent", "configuration", "seed", "algorithm", "scenario", "environment")
MEASURES = {"normalised": "normalised score", "qos": "QoS"}  # what agents are ranked by, in words


@dataclass(frozen=True)
class Study:
    """A sweep and what it has found so far."""

    folder: Path
    manifest: dict[str, Any]
    environments: list[int]  # planned, in which references are evaluated
    agents: pd.DataFrame  # one row per planned agent: who it is
    results: pd.DataFrame  # one row per trained agent: who it is, and its last evaluation
    curves: pd.DataFrame  # one row per trained agent and evaluation
    prompts: pd.DataFrame  # one row per trained agent, split and prompt
    references: pd.DataFrame  # one row per environment, split, policy and prompt

    @property
    def spec(self) -> dict[str, Any]:
        """What was searched."""
        return self.manifest["spec"]

    @property
    def complete(self) -> bool:
        """Whether every planned agent is trained."""
        return len(self.results) == len(self.agents)

    @property
    def splits(self) -> list[str]:
        """Of the prompts: train, and test if there are any."""
        return [split for split in SPLITS if f"{split}_qos" in self.results]

    @property
    def measure(self) -> str:
        """What agents are ranked by: the normalised score, or the QoS where no reference was evaluated."""
        return "normalised" if "train_normalised" in self.results else "qos"

    @property
    def experts(self) -> list[str]:
        """Names of the experts."""
        return [str(name).removeprefix("share_") for name in self.prompts if str(name).startswith("share_")]

    @property
    def place_columns(self) -> list[str]:
        """Columns that say in which environment an agent lives, not how it learns."""
        names: dict[str, None] = {}
        for section in ("params", "settings"):
            for key, value in self.spec[section].items():
                own = value if key in self.spec["scenario"] else {key: value}
                names |= dict.fromkeys(own)
        return [name for name in names if name in self.agents]

    @property
    def setting_columns(self) -> list[str]:
        """Columns that say how an agent learns."""
        places = {*IDENTITY, *self.place_columns}
        return [str(name) for name in self.agents if name not in places]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name


def read_study(folder: str | os.PathLike[str]) -> Study:
    """Read a sweep's folder, in whatever state it is; what a sweep at work writes meanwhile is not seen.

    Raises:
        InputError: there is no sweep in the folder, or a file in it cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    planned = _read(folder / AGENTS) if (folder / AGENTS).is_file() else None
    if all((folder / f"{name}.parquet").is_file() for name in TABLES):
        tables = {name: _read(folder / f"{name}.parquet") for name in TABLES}
        agents = tables["results"][_planned_columns(tables["results"])]
        return Study(
            folder, manifest, _environments(manifest, agents if planned is None else planned), agents, **tables
        )
    if planned is None:
        raise InputError(
            f"{folder} does not say which agents are planned: there is no {AGENTS} in it; run the command of its sweep "
            "again, which writes it and goes on"
        )
    index, count = _shard(manifest)
    agents = planned[planned["agent"] % count == index].reset_index(drop=True)
    tables = {name: _of_parts(folder, manifest, f"{name}.parquet") for name in ("curves", "prompts", "references")}
    curves = tables["curves"]
    if len(curves):
        last = curves.sort_values(["agent", "env_steps"], kind="stable").groupby("agent", sort=True).tail(1)
        results = with_ends(agents, last)
        tables["curves"] = agents[["agent", "configuration", "seed"]].merge(curves, on="agent")
    else:
        results = agents.head(0)
    return Study(folder, manifest, _environments(manifest, planned), agents, results, **tables)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep's folder."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    if not path.is_file():
        raise InputError(f"{folder} holds no sweep: there is no {MANIFEST} in it")
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if isinstance(manifest, dict) and "run" in manifest:
        raise InputError(
            f"{folder} holds a training run, whose figure and tables are there; give the folder of a sweep"
        )
    if not isinstance(manifest, dict) or "spec" not in manifest or "done" not in manifest:
        raise InputError(f"{path} is not the manifest of a sweep")
    return manifest


def varies(rows: pd.DataFrame, name: str) -> bool:
    """Whether a setting differs within an algorithm, not only from one to another."""
    return any(len(set(part[name].dropna())) > 1 for _, part in rows.groupby("algorithm"))


def with_ends(agents: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Who each agent is, beside its last evaluation.

    What is both a setting and measured, such as the temperature of SAC, is the setting; what it came to is `_reached`.
    """
    return agents.merge(ends, on="agent", suffixes=("", "_reached"))


def _shard(manifest: Mapping[str, Any]) -> tuple[int, int]:
    index, _, count = manifest["shard"].partition("/")
    return int(index), int(count)


def _environments(manifest: Mapping[str, Any], planned: pd.DataFrame) -> list[int]:
    """Whose references the folder's shard evaluates."""
    index, count = _shard(manifest)
    wanted = manifest["spec"].get("references", True)
    return [number for number in sorted(set(planned["environment"])) if number % count == index and wanted]


def _planned_columns(results: pd.DataFrame) -> list[str]:
    """Columns before the first that training has brought."""
    names = [str(name) for name in results]
    return names[: names.index("env_steps")] if "env_steps" in names else names


def _of_parts(folder: Path, manifest: Mapping[str, Any], file: str) -> pd.DataFrame:
    """The rows of a file in all finished parts."""
    paths = [
        folder / CHUNKS / name / file for name, about in sorted(manifest["done"].items()) if file in about["files"]
    ]
    frames = [_read(path) for path in paths if path.is_file()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own exceptions are of these
        raise InputError(f"{path} cannot be read: {error}") from None
