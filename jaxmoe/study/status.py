"""`status`: how far a sweep is, told from its files, while another process works in the folder or after."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from jaxmoe.progress import duration
from jaxmoe.study.arena import arenas
from jaxmoe.study.reading import CHUNKS, MEASURES, Study, read_study


class Standing(NamedTuple):
    """Where a sweep stands."""

    agents: int  # planned
    trained: int
    diverged: int
    environments: int  # whose references are to be evaluated; 0 if they are not wanted
    evaluated: int  # of these
    steps_done: float  # of all agents together, as planned
    agents_per_s: float  # in training, from what finished chunks took; 0 if unknown
    idle_s: float  # since the folder was last written to

    @property
    def complete(self) -> bool:
        """Whether everything is done."""
        return self.trained == self.agents and self.evaluated == self.environments

    def __str__(self) -> str:
        parts = [f"{self.trained:,} of {self.agents:,} agents trained"]
        if self.diverged:
            parts.append(f"{self.diverged:,} diverged")
        if self.environments:
            parts.append(f"references evaluated in {self.evaluated} of {self.environments} environments")
        if self.trained < self.agents and self.agents_per_s:
            parts.append(f"about {duration((self.agents - self.trained) / self.agents_per_s)} of training left")
        return ", ".join(parts)


def standing(study: Study) -> Standing:
    """Where a study stands."""
    done = study.manifest["done"]
    speeds = [about["env_steps_per_s"] for about in done.values() if about.get("env_steps_per_s")]
    steps = int(study.spec["env_steps"])
    references = study.references
    return Standing(
        agents=len(study.agents),
        trained=len(study.results),
        diverged=int(study.results["diverged"].sum()) if len(study.results) else 0,
        environments=len(study.environments),
        evaluated=int(references["environment"].nunique()) if len(references) else 0,
        steps_done=float(steps * len(study.results)),
        agents_per_s=float(pd.Series(speeds).median()) / steps if speeds else 0.0,
        idle_s=max(0.0, time.time() - _last_written(study.folder)),
    )


def status_lines(folder: str | os.PathLike[str]) -> list[str]:
    """A sweep's standing and its best settings so far, line by line."""
    study = read_study(folder)
    at = standing(study)
    state = "done" if at.complete else "not done"
    lines = [f"{study.name}: {state}; {at}", f"last written to {duration(at.idle_s)} ago"]
    unfinished = sorted(path.name.removesuffix(".checkpoint") for path in _checkpoints(study.folder))
    if unfinished:
        lines.append(f"checkpoint of an unfinished chunk: {', '.join(unfinished)}")
    for arena in arenas(study) if len(study.results) else []:
        best = arena.table().iloc[0]
        lines.append(
            f"{arena.scenario}: best of {len(arena.settings)} settings so far, {arena.describe(arena.winner)}: "
            f"{MEASURES[study.measure]} {best['train']:.3f} on train prompts"
        )
    return lines


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{CHUNKS}/*.checkpoint") if path.is_dir()]


def _last_written(folder: Path) -> float:
    paths = [folder / "manifest.json", folder / CHUNKS, *_checkpoints(folder)]
    return max((path.stat().st_mtime for path in paths if path.exists()), default=time.time())
