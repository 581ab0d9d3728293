"""The settings of one scenario side by side: on which tasks and seeds they compete, and which one wins.

A setting is an algorithm with its hyperparameters and configuration; a task is an environment (a scenario with its
numbers); a run is a seed. Settings are chosen on one half of the seeds and judged on the other, by their interquartile
mean on train prompts: whoever is best of many on some seeds was also lucky on them. Test prompts choose nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.study.reading import Study, varies
from jaxmoe.study.statistics import Scores, bootstrap, iqm

TABLE_RESAMPLES = 2000


@dataclass(frozen=True)
class Arena:
    """What competes in one scenario."""

    study: Study
    scenario: str
    settings: (
        pd.DataFrame
    )  # one row per setting: algorithm, its columns, and those of its environment if it has its own
    agents: NDArray[np.int64]  # numbers of the agents, [settings, tasks, runs]
    environments: NDArray[np.int64]  # of each setting and task, [settings, tasks]
    left_out: int  # settings that have fewer runs so far

    @property
    def runs(self) -> int:
        """Seeds of each setting and task."""
        return self.agents.shape[2]

    @property
    def tasks(self) -> int:
        """Environments that each setting meets."""
        return self.agents.shape[1]

    @property
    def chosen_on(self) -> slice:
        """The runs that settings are chosen on: the only one, or all where there is nothing to choose."""
        return slice(0, self.runs if len(self.settings) == 1 else max(1, self.runs // 2))

    @property
    def judged_on(self) -> slice:
        """The runs that settings are judged on."""
        return slice(0 if len(self.settings) == 1 else self.runs // 2, self.runs)

    @property
    def axes(self) -> list[str]:
        """What differs between settings of an algorithm."""
        names = [str(name) for name in self.settings if name not in ("setting", "algorithm")]
        return [name for name in names if varies(self.settings, name)]

    @cached_property
    def ranking(self) -> NDArray[np.int64]:
        """Positions of settings, best first, by their score on the runs that they are chosen on."""
        scores = iqm(self.scores("train")[..., self.chosen_on])
        return np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")

    @property
    def winner(self) -> int:
        """Position of the best setting."""
        return int(self.ranking[0])

    def scores(self, split: str, measure: str | None = None) -> Scores:
        """Scores of all agents, [settings, tasks, runs]."""
        column = f"{split}_{measure or self.study.measure}"
        return self._column(column).astype(np.float64)

    def diverged(self) -> NDArray[np.bool_]:
        """Which agents diverged, [settings, tasks, runs]."""
        return self._column("diverged").astype(bool)

    def table(self) -> pd.DataFrame:
        """One row per setting, best first: what it is, and its scores with intervals."""
        found = self.settings.drop(columns="setting").assign(rank=np.argsort(self.ranking) + 1)
        found["chosen"] = iqm(self.scores("train")[..., self.chosen_on])
        for split in self.study.splits:
            scores = self.scores(split)[..., self.judged_on]
            found[split], found[f"{split}_low"], found[f"{split}_high"] = bootstrap(iqm, scores, TABLE_RESAMPLES)
        if self.study.measure == "normalised":
            found["below_random"] = (self.scores("train") < 0).sum(axis=(1, 2))
        found["seeds"], found["diverged"] = self.runs * self.tasks, self.diverged().sum(axis=(1, 2))
        return found.iloc[self.ranking].reset_index(drop=True)

    def best_of(self, column: str) -> dict[str, int]:
        """Position of the best setting for each value of a column of `settings`, the best of them first."""
        values = self.settings[column].to_numpy()
        best: dict[str, int] = {}
        for position in self.ranking:
            best.setdefault(str(values[position]), int(position))
        return best

    def describe(self, position: int, axes: list[str] | None = None) -> str:
        """A setting in words; axes of other algorithms say nothing."""
        row = self.settings.iloc[position]
        said = [f"{words(name)} {value(row.get(name))}" for name in (self.axes if axes is None else axes)]
        said = [text for text in said if not text.endswith(" ")]
        return row["algorithm"].upper() + (f" with {listed(said)}" if said else "")

    def _column(self, name: str) -> NDArray[np.generic]:
        of_agent = self.study.results.set_index("agent")[name]
        return of_agent.loc[self.agents.ravel().tolist()].to_numpy().reshape(self.agents.shape)


def arenas(study: Study) -> list[Arena]:
    """One for each scenario in which an agent is trained."""
    return [
        arena
        for scenario, rows in study.results.groupby("scenario", sort=False)
        if (arena := _arena(study, str(scenario), rows)) is not None
    ]


def place_words(arena: Arena, position: int, task: int) -> str:
    """An environment in words: its scenario, and what the spec says of its numbers."""
    study = arena.study
    row = study.agents[study.agents["environment"] == arena.environments[position, task]].iloc[0]
    said = [f"{words(name)} {value(row[name])}" for name in study.place_columns]
    return ", ".join([arena.scenario, *(text for text in said if not text.endswith(" "))])


def words(name: str) -> str:
    """A column's name for readers."""
    return name.replace("_", " ")


def value(cell: object) -> str:
    """A cell for readers; nothing for what is missing.

    >>> value(0.00123456), value(64.0), value(None), value("64,64")
    ('0.001235', '64', '', '64,64')
    """
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _arena(study: Study, scenario: str, rows: pd.DataFrame) -> Arena | None:
    planned = study.agents[study.agents["scenario"] == scenario]
    own = ["algorithm", *study.setting_columns]
    if not _crossed(planned, own):
        own += study.place_columns
    numbers = planned.groupby(own, sort=False, dropna=False).ngroup()
    rows = rows.assign(setting=rows["agent"].map(dict(zip(planned["agent"], numbers, strict=True))))
    tasks = planned.assign(setting=numbers).groupby("setting")["environment"].nunique().max()
    cells = rows.sort_values("agent").groupby(["setting", "environment"], sort=True)["agent"].apply(list)
    runs = int(cells.map(len).mode().max())
    full = cells[cells.map(len) >= runs]
    enough = full.groupby("setting").size()
    kept = enough.index[enough == tasks]
    if not len(kept):
        return None
    full = full[full.index.get_level_values("setting").isin(kept)]
    environments = full.index.get_level_values("environment").to_numpy().reshape(len(kept), tasks)
    agents = np.array([found[:runs] for found in full]).reshape(len(kept), tasks, runs)
    settings = rows.drop_duplicates("setting").set_index("setting").loc[kept, own].reset_index()
    return Arena(study, scenario, settings, agents, environments, int(numbers.nunique()) - len(kept))


def _crossed(planned: pd.DataFrame, own: list[str]) -> bool:
    """Whether every setting meets every environment of the scenario."""
    met = planned.groupby(own, sort=False, dropna=False)["environment"].nunique()
    return bool((met == planned["environment"].nunique()).all())


def listed(texts: list[str]) -> str:
    """Texts as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
