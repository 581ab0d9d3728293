"""What policies brought in an experiment of one environment, for statistics of one's own."""

import pandas as pd

from jaxmoe import Experiment
from jaxmoe.analysis.comparison import brought_by
from jaxmoe.analysis.intervals import Brought

KEYS = ("agent", "environment", "policy", "split", "by", "unit", "requests")


def sums_of(experiment: Experiment, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sums by prompts and by episodes on a split: of every agent, and of every baseline."""
    tables = experiment.tables
    found = tables.load_evaluation(tables.results["agent"].tolist()), tables.baselines
    agents, baselines = (rows[rows["split"] == split] for rows in found)
    return agents, baselines


def evaluations_of(name: str, agents: pd.DataFrame, baselines: pd.DataFrame) -> dict[str, Brought]:
    """By policy: the agents together, by a name for them, and each baseline."""
    metrics = [str(column) for column in agents if column not in KEYS]
    found = {name: brought_by(agents, "agent", metrics)}
    return found | {str(policy): brought_by(rows, "policy", metrics) for policy, rows in baselines.groupby("policy")}
