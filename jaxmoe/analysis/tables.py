"""What an experiment has found so far, as tidy tables: what everything in this package reads."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from jaxmoe.table.splits import SPLITS

IDENTITY = ("agent", "configuration", "environment", "seed", "algorithm", "scenario", "job")
MEASURES = {"normalised": "normalised score", "qos": "QoS"}  # what agents are ranked by, in words
SMALLER_IS_BETTER = frozenset({"computing_cost", "transmission_cost", "latency_s", "energy_j"})


class Objective(NamedTuple):
    """What configurations are ranked by."""

    metric: str = "normalised"
    split: str = "train"
    statistic: str = "mean"  # over seeds: mean, iqm or min
    limits: Mapping[str, float] = {}

    def __str__(self) -> str:
        said = (
            "" if not self.limits else f", {', '.join(f'{name} at most {top:g}' for name, top in self.limits.items())}"
        )
        return f"{self.statistic} {measure_words(self.metric)} on {self.split} prompts{said}"


class BaselineFacts(NamedTuple):
    """What is known of a baseline."""

    knows: str  # in a few words
    deployable: bool  # it reads only what an agent may observe
    levels: Mapping[int, float]  # the normalised score that it stands for, by environment


class JobFacts(NamedTuple):
    """What a finished training job says of itself."""

    algorithm: str
    agents: int
    env_steps: int  # of each agent, by this job
    env_steps_per_s: float  # of all its agents together
    device: str
    versions: str


@dataclass(frozen=True)
class Tables:
    """An experiment and what it has found so far."""

    name: str
    where: str  # its folder, as commands name it
    spec: dict[str, Any]  # as it is now, with what extensions have changed
    table_digest: str
    experts: tuple[str, ...]
    objective: Objective
    environments: list[int]  # planned, in which baselines are evaluated
    agents: pd.DataFrame  # one row per planned agent: who it is
    results: pd.DataFrame  # one row per trained agent: who it is, and its last evaluation
    baselines: pd.DataFrame  # sums: one row per environment, policy, split and unit
    families: Mapping[str, BaselineFacts]  # baselines by name, without the member that was chosen
    jobs: list[JobFacts]
    unfinished: list[str]  # jobs that are at work, in words
    load_curves: Callable[[Collection[int] | None], pd.DataFrame]  # of these agents, or of all
    load_evaluation: Callable[[Collection[int]], pd.DataFrame]  # sums of these agents
    idle_s: float = 0.0  # since the folder was last written to
    behaviour: pd.DataFrame | None = None  # what confirmed agents were watched doing
    confirmations: "list[Tables]" = field(default_factory=list)  # the winner again, on seeds that chose nothing

    @property
    def complete(self) -> bool:
        """Whether every planned agent is trained."""
        return len(self.results) == len(self.agents)

    @property
    def splits(self) -> list[str]:
        """Of the prompts: train, and validation and test if there are any."""
        return [split for split in SPLITS if f"{split}_qos" in self.results]

    @property
    def chooses(self) -> str:
        """The split of the prompts by which configurations are ranked."""
        return self.objective.split

    @property
    def alike(self) -> list[str]:
        """Splits that lack normalised scores, because the baselines of 0 and 1 are not told apart."""
        if not len(self.baselines):
            return []
        evaluated = self.results[self.results["environment"].isin(self.baselines["environment"].unique())]
        return [
            split
            for split in self.splits
            if f"{split}_normalised" in evaluated
            and (evaluated[f"{split}_normalised"].isna() & evaluated[f"{split}_qos"].notna()).any()
        ]

    @property
    def measure(self) -> str:
        """What agents are ranked by."""
        return self.objective.metric

    @property
    def sign(self) -> float:
        """By what a score is multiplied, so that the larger is the better one."""
        return sign_of(self.measure)

    def levels(self, environments: Iterable[int]) -> dict[str, float]:
        """Baselines that stand for a normalised score in all of these environments, with it."""
        wanted = list(environments)
        found = {name: {facts.levels.get(each) for each in wanted} for name, facts in self.families.items()}
        return {name: levels.pop() for name, levels in found.items() if len(levels) == 1 and None not in levels}  # type: ignore[misc]

    @property
    def environment_columns(self) -> list[str]:
        """Columns that say in which environment an agent lives, not how it learns."""
        names: dict[str, None] = {}
        for section in ("params", "settings"):
            for key, value in self.spec[section].items():
                of_one = key in self.spec["scenario"] and isinstance(value, Mapping) and "grid" not in value
                own = value if of_one else {key: value}
                names |= dict.fromkeys(own)
        return [name for name in names if name in self.agents]

    @property
    def configuration_columns(self) -> list[str]:
        """Columns that say how an agent learns."""
        own = {*IDENTITY, *self.environment_columns}
        return [str(name) for name in self.agents if name not in own]


def sign_of(metric: str) -> float:
    """By what a metric is multiplied, so that the larger is the better one."""
    return -1.0 if metric in SMALLER_IS_BETTER else 1.0


def measure_words(metric: str) -> str:
    """A metric for readers."""
    return MEASURES.get(metric, metric.replace("_", " "))


def varies(rows: pd.DataFrame, name: str) -> bool:
    """Whether a setting differs within an algorithm, not only from one to another."""
    return any(len(set(part[name].dropna())) > 1 for _, part in rows.groupby("algorithm"))


def with_ends(agents: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Who each agent is, beside its last evaluation.

    What is both a setting and measured, such as the temperature of SAC, is the setting; what it came to is `_reached`.
    """
    return agents.merge(ends, on="agent", suffixes=("", "_reached"))
