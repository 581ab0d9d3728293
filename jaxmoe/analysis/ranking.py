"""The configurations of one scenario side by side: in which environments and on which seeds they compete, and who wins.

They are chosen on one half of the seeds, by the experiment's objective, and measured on the other: whoever is best of
many on some seeds was also lucky on them. Test prompts choose nothing. Where a search draws configuration and
environment together, the drawn point is what is ranked. This is the only ranking: tables, `best`, reports, exports and
comparisons all name the same winner.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.statistics import STATISTICS, Scores, iqm, with_interval
from jaxmoe.analysis.tables import Tables, varies
from jaxmoe.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

TABLE_RESAMPLES = 2000


@dataclass(frozen=True)
class Ranking:
    """What competes in one scenario."""

    tables: Tables
    scenario: str
    configurations: pd.DataFrame  # a row each: its columns, and those of its environment if it has its own
    agents: NDArray[np.int64]  # numbers of the agents, [configurations, tasks, runs]
    environments: NDArray[np.int64]  # of each configuration and task, [configurations, tasks]
    left_out: int  # configurations that have fewer runs so far

    @property
    def runs(self) -> int:
        """Seeds of each configuration and task."""
        return self.agents.shape[2]

    @property
    def seeds(self) -> list[int]:
        """Which they are, of the first configuration in the first task."""
        of_agent = self.tables.agents.set_index("agent")["seed"]
        return of_agent.loc[self.agents[0, 0].tolist()].tolist()

    @property
    def tasks(self) -> int:
        """Environments that each configuration meets."""
        return self.agents.shape[1]

    @property
    def chosen_on(self) -> slice:
        """The runs that configurations are chosen on: the only one, or all where there is nothing to choose."""
        return slice(0, self.runs if len(self.configurations) == 1 else max(1, self.runs // 2))

    @property
    def measured_on(self) -> slice:
        """The runs that configurations are measured on."""
        return slice(0 if len(self.configurations) == 1 else self.runs // 2, self.runs)

    @cached_property
    def axes(self) -> list[str]:
        """What differs between configurations of an algorithm."""
        names = [str(name) for name in self.configurations if name not in ("number", "algorithm", "configuration")]
        return [name for name in names if varies(self.configurations, name)]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Positions of configurations, best first, by their score on the runs that they are chosen on."""
        worth = np.nan_to_num(self.tables.sign * self.chosen, nan=-np.inf)
        return np.lexsort((-worth, ~self.within_limits))

    @cached_property
    def chosen(self) -> NDArray[np.float64]:
        """What each configuration is ranked by: the objective's statistic on the seeds that choose.

        The minimum is the worst: of what is better the smaller it is, the largest.
        """
        objective, sign = self.tables.objective, self.tables.sign
        return sign * STATISTICS[objective.statistic](sign * self.scores(objective.split)[..., self.chosen_on])

    @cached_property
    def within_limits(self) -> NDArray[np.bool_]:
        """Which configurations keep the objective's limits, on average."""
        objective = self.tables.objective
        kept = np.ones(len(self.configurations), bool)
        for name, top in objective.limits.items():
            kept &= ~(self.scores(objective.split, name)[..., self.chosen_on].mean(axis=(1, 2)) > top)
        return kept

    @property
    def winner(self) -> int:
        """Position of the best configuration."""
        return int(self.order[0])

    def scores(self, split: str, measure: str | None = None) -> Scores:
        """Scores of all agents, [configurations, tasks, runs]."""
        column = f"{split}_{measure or self.tables.measure}"
        return self._column(column).astype(np.float64)

    def diverged(self) -> NDArray[np.bool_]:
        """Which agents diverged, [configurations, tasks, runs]."""
        return self._column("diverged").astype(bool)

    def table(self) -> pd.DataFrame:
        """One row per configuration, best first: what it is, and its scores with intervals."""
        found = self.configurations.drop(columns="number").assign(rank=np.argsort(self.order) + 1)
        found.insert(0, "scenario", self.scenario)
        found["chosen"] = self.chosen
        for split in self.tables.splits:
            scores = self.scores(split)[..., self.measured_on]
            found[split], found[f"{split}_low"], found[f"{split}_high"] = with_interval(iqm, scores, TABLE_RESAMPLES)
        if self.tables.objective.limits:
            found["within_limits"] = self.within_limits
        if self.tables.measure == "normalised":
            found["below_random"] = (self.scores(self.tables.chooses) < 0).sum(axis=(1, 2))
        found["seeds"], found["diverged"] = self.runs * self.tasks, self.diverged().sum(axis=(1, 2))
        return found.iloc[self.order].reset_index(drop=True)

    def best_of(self, column: str) -> dict[str, int]:
        """Position of the best configuration for each value of a column of `configurations`, the best first."""
        values = self.configurations[column].to_numpy()
        best: dict[str, int] = {}
        for position in self.order:
            best.setdefault(str(values[position]), int(position))
        return best

    def identity(self, position: int) -> tuple[object, ...]:
        """What tells a configuration, or a drawn point, from every other one."""
        row = self.configurations.iloc[position]
        return (self.scenario, row["algorithm"], row["configuration"], *sorted(self.environments[position].tolist()))

    def describe(self, position: int, axes: list[str] | None = None) -> str:
        """A configuration in words; axes of other algorithms say nothing."""
        row = self.configurations.iloc[position]
        said = [f"{words(name)} {value(row.get(name))}" for name in (self.axes if axes is None else axes)]
        said = [text for text in said if not text.endswith(" ")]
        return row["algorithm"].upper() + (f" with {listed(said)}" if said else "")

    def _column(self, name: str) -> NDArray[np.generic]:
        of_agent = self.tables.results.set_index("agent")[name]
        return of_agent.loc[self.agents.ravel().tolist()].to_numpy().reshape(self.agents.shape)


def rankings(tables: Tables) -> list[Ranking]:
    """One for each scenario in which an agent is trained."""
    return [
        ranking
        for scenario, rows in tables.results.groupby("scenario", sort=False)
        if (ranking := _ranking(tables, str(scenario), rows)) is not None
    ]


def confirmed(ranking: Ranking, position: int) -> Ranking | None:
    """A configuration trained again on fresh seeds, if it is."""
    own = ranking.identity(position)
    again = [each for tables in ranking.tables.confirmations for each in rankings(tables) if each.identity(0) == own]
    return again[0] if again else None


def environment_words(ranking: Ranking, position: int, task: int) -> str:
    """An environment in words: its scenario, and in what it differs from others, or else what the spec says of it."""
    tables = ranking.tables
    planned = tables.agents[tables.agents["scenario"] == ranking.scenario]
    row = planned[planned["environment"] == ranking.environments[position, task]].iloc[0]
    differing = [name for name in tables.environment_columns if len(planned[name].unique()) > 1]
    said = [f"{words(name)} {value(row[name])}" for name in differing or tables.environment_columns]
    return ", ".join([ranking.scenario, *(text for text in said if not text.endswith(" "))])


def words(name: str) -> str:
    """A column's name for readers."""
    return name.replace("_", " ")


def value(cell: object) -> str:
    """A cell for readers; nothing for what is missing.

    >>> value(0.00123456), value(64.0), value(None), value("64,64"), value(True)
    ('0.001235', '64', '', '64,64', 'true')
    """
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(cell).lower()
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _ranking(tables: Tables, scenario: str, rows: pd.DataFrame) -> Ranking | None:
    planned = tables.agents[tables.agents["scenario"] == scenario]
    identity, own = ["algorithm", "configuration"], ["algorithm", "configuration", *tables.configuration_columns]
    if not _crossed(planned, identity):
        identity, own = [*identity, "environment"], [*own, *tables.environment_columns]
    numbers = planned.groupby(identity, sort=False).ngroup()
    rows = rows.assign(number=rows["agent"].map(pd.Series(numbers.to_numpy(), index=planned["agent"].to_numpy())))
    tasks = planned.assign(number=numbers).groupby("number")["environment"].nunique().max()
    ordered = rows[["number", "environment", "seed", "agent"]].sort_values(["number", "environment", "seed"])
    grouped = ordered.groupby(["number", "environment"])
    cells = grouped.size()
    runs = int(cells.mode().max())
    full = cells[cells >= runs]
    enough = full.groupby("number").size()
    kept = enough.index[enough == tasks]
    if not len(kept):
        return None
    full = full[full.index.get_level_values("number").isin(kept)]
    environments = full.index.get_level_values("environment").to_numpy().reshape(len(kept), tasks)
    chosen = (grouped["agent"].transform("size") >= runs) & (grouped.cumcount() < runs) & ordered["number"].isin(kept)
    agents = ordered["agent"][chosen].to_numpy().reshape(len(kept), tasks, runs)
    configurations = rows.drop_duplicates("number").set_index("number").loc[kept, own].reset_index()
    return Ranking(tables, scenario, configurations, agents, environments, int(numbers.nunique()) - len(kept))


def _crossed(planned: pd.DataFrame, own: list[str]) -> bool:
    """Whether every configuration meets every environment of the scenario."""
    met = planned.groupby(own, sort=False)["environment"].nunique()
    return bool((met == planned["environment"].nunique()).all())


def listed(texts: list[str]) -> str:
    """Texts as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def ranking_of(tables: Tables, scenario: str | None = None) -> Ranking:
    """The ranking of a scenario, which need not be said where there is but one.

    Raises:
        InputError: there are several and none is said, there is none of the name, or nothing is trained yet.
    """
    found = {each.scenario: each for each in rankings(tables)}
    if not found:
        raise InputError(f"{tables.where}: no configuration has all its agents trained yet; nothing can be ranked")
    if scenario is None and len(found) > 1:
        raise InputError(f"{tables.where} has several scenarios; say which: one of {', '.join(found)}")
    chosen = scenario or next(iter(found))
    if chosen not in found:
        raise InputError(f"{tables.where} has no scenario {chosen!r}; choose one of {', '.join(found)}")
    return found[chosen]


def ranking_table(tables: Tables) -> pd.DataFrame:
    """All configurations, scenario by scenario and best first: what they are, and their scores with intervals."""
    parts = [each.table() for each in rankings(tables)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def best_position(ranking: Ranking, algorithm: str | None = None) -> int:
    """Of the winner, or of an algorithm's best configuration.

    Raises:
        InputError: there is no such algorithm, or all agents of the configuration diverged.
    """
    position = ranking.winner
    if algorithm is not None:
        best = ranking.best_of("algorithm")
        if algorithm not in best:
            raise InputError(
                f"{ranking.tables.where} has no algorithm {algorithm!r} in {ranking.scenario}; choose one of "
                f"{', '.join(best)}"
            )
        position = best[algorithm]
    if ranking.diverged()[position].all():
        raise InputError(f"{ranking.tables.where}: every agent of the best configuration diverged; there is no winner")
    return position


def best_agent(ranking: Ranking, algorithm: str | None = None) -> int:
    """Number of the best agent of the best configuration, by the objective's metric; not one that diverged."""
    position, objective = best_position(ranking, algorithm), ranking.tables.objective
    sound = np.flatnonzero(~ranking.diverged()[position].ravel())
    worth = np.nan_to_num(ranking.tables.sign * ranking.scores(objective.split)[position].ravel()[sound], nan=-np.inf)
    return int(ranking.agents[position].ravel()[sound[np.argmax(worth)]])


def printed(tables: Tables, most: int = 10) -> "list[tuple[str, Table]]":
    """Title and table of the best configurations of each scenario, for a terminal."""
    from rich.table import Table

    found = []
    for each in rankings(tables):
        rows = each.table().head(most)
        title = (
            f"{each.scenario}: the best {len(rows)} of {len(each.configurations)} configurations, "
            f"by the {tables.objective}, chosen on {each.chosen_on.stop} of {each.runs} seeds"
        )
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        axes = (["algorithm"] if len(set(each.configurations["algorithm"])) > 1 else []) + each.axes
        scores = ["chosen", *tables.splits]
        counts = [name for name in ("within_limits",) if name in rows]
        counts += ["diverged"] if rows["diverged"].any() else []
        for name in ("configuration", *axes, *scores, *counts):
            table.add_column("no." if name == "configuration" else name.replace("_", " "), justify="right")
        for row in rows.to_dict("records"):
            cells = [value(row[name]) for name in ("configuration", *axes)]
            table.add_row(*cells, *(f"{row[name]:.3f}" for name in scores), *(str(row[name]) for name in counts))
        found.append((title, table))
    return found
