"""How far an experiment is, while another process works on it or after."""

from typing import NamedTuple

import numpy as np

from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.tables import Tables, measure_words
from jaxmoe.progress import duration


class Standing(NamedTuple):
    """Where an experiment stands."""

    agents: int  # planned
    trained: int
    diverged: int
    environments: int  # whose baselines are to be evaluated; 0 if they are not wanted
    evaluated: int  # of these
    agents_per_s: float  # in training, from what finished jobs took; 0 if unknown
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
            parts.append(f"baselines evaluated in {self.evaluated} of {self.environments} environments")
        if self.trained < self.agents and self.agents_per_s:
            parts.append(f"about {duration((self.agents - self.trained) / self.agents_per_s)} of training left")
        return ", ".join(parts)


def standing(tables: Tables) -> Standing:
    """Where an experiment stands."""
    speeds = [job.env_steps_per_s / job.env_steps for job in tables.jobs if job.env_steps_per_s and job.env_steps]
    baselines = tables.baselines
    return Standing(
        agents=len(tables.agents),
        trained=len(tables.results),
        diverged=int(tables.results["diverged"].sum()) if len(tables.results) else 0,
        environments=len(tables.environments),
        evaluated=int(baselines["environment"].nunique()) if len(baselines) else 0,
        agents_per_s=float(np.median(speeds)) if speeds else 0.0,
        idle_s=tables.idle_s,
    )


class Leader(NamedTuple):
    """The best configuration of a scenario so far."""

    scenario: str
    configurations: int  # that it is the best of
    configuration: str  # in words
    measure: str  # in words
    score: float  # on the prompts that choose


def leaders(tables: Tables) -> list[Leader]:
    """The best configuration of each scenario so far."""
    return [
        Leader(
            each.scenario,
            len(each.configurations),
            each.describe(each.winner),
            measure_words(tables.measure),
            float(each.chosen[each.winner]),
        )
        for each in (rankings(tables) if len(tables.results) else [])
    ]


def status_lines(tables: Tables) -> list[str]:
    """Where an experiment stands and its best configurations so far, line by line."""
    at = standing(tables)
    lines = [f"{tables.name}: {'done' if at.complete else 'not done'}; {at}"]
    if tables.where != "memory":
        lines.append(f"last written to {duration(at.idle_s)} ago")
    lines += tables.unfinished
    for each in leaders(tables):
        lines.append(
            f"{each.scenario}: best of {each.configurations} configurations so far, "
            f"{each.configuration}: {each.measure} {each.score:.3f} on {tables.chooses} prompts"
        )
    return lines
