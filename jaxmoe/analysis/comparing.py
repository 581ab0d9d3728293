"""`compare`: algorithms, scenarios and experiments against each other, each by its best configuration."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.comparison import against_baselines
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import Ranking, confirmed, environment_words, rankings
from jaxmoe.analysis.remarks import few_seeds, few_seeds_sentence, leads, strongest_deployable
from jaxmoe.analysis.statistics import Scores, difference, improvement, interval, iqm
from jaxmoe.analysis.tables import Tables, sign_of
from jaxmoe.errors import InputError
from jaxmoe.table.splits import choosing

OWN = "agents"  # what these are called beside baselines


class Competitor(NamedTuple):
    """The best configuration of an algorithm in a scenario of an experiment."""

    name: str
    configuration: str  # in words
    tasks: tuple[str, ...]  # its environments, in words
    table: str  # digest of the expert table
    seeds: tuple[int, ...]  # that chose nothing
    scores: dict[str, Scores]  # of each split, on these seeds, [tasks, runs]
    rival: str | None  # the strongest deployable baseline, if one is evaluated
    leads: dict[str, Estimate]  # QoS beyond it on the same requests, of each split
    few_seeds: int  # how many, where these are few and make most of the intervals of leads; else 0
    diverged: NDArray[np.bool_]  # which of the agents, [tasks, runs]


class Pair(NamedTuple):
    """Two competitors on the same tasks."""

    first: str
    second: str
    split: str
    difference: Estimate  # of interquartile means; paired where both have the same seeds
    improvement: Estimate  # that an agent of the first beats one of the second


class Compared(NamedTuple):
    """Competitors against each other."""

    measure: str
    competitors: list[Competitor]
    pairs: list[Pair]

    def table(self) -> pd.DataFrame:
        """One row per competitor, best first: interquartile means, and the lead over its rival, with intervals."""
        rows = []
        for competitor in self.competitors:
            row: dict[str, object] = {"name": competitor.name, "configuration": competitor.configuration}
            row |= {"environments": len(competitor.tasks), "seeds": competitor.scores["train"].shape[1]}
            for split, scores in competitor.scores.items():
                found = interval(iqm, scores)
                row |= {split: found.mean, f"{split}_low": found.low, f"{split}_high": found.high}
            row["rival"] = competitor.rival
            for split, lead in competitor.leads.items():
                row |= {f"{split}_lead": lead.mean, f"{split}_lead_low": lead.low, f"{split}_lead_high": lead.high}
            rows.append(row)
        rising = sign_of(self.measure) < 0
        split = choosing(set.intersection(*(set(competitor.scores) for competitor in self.competitors)))
        return pd.DataFrame(rows).sort_values(split, ascending=rising, kind="stable", ignore_index=True)

    def remark(self) -> str:
        """What the intervals of leads cannot know, in a sentence; nothing where seeds are many."""
        few = [each for each in self.competitors if each.few_seeds]
        if not few:
            return ""
        diverged = np.concatenate([each.diverged.ravel() for each in few])
        return few_seeds_sentence(min(each.few_seeds for each in few), [each.name for each in few], diverged)


def compare_tables(several: list[Tables]) -> Compared:
    """Set the best configuration of each algorithm and scenario of experiments against each other.

    Raises:
        InputError: an experiment has no trained agents, or there is but one competitor.
    """
    for tables in several:
        if not len(tables.results):
            raise InputError(f"{tables.where}: none of {len(tables.agents):,} agents is trained yet")
    measures = {tables.measure for tables in several}
    measure = measures.pop() if len(measures) == 1 else "qos"
    names = _names(several)
    competitors = [
        found
        for tables, name in zip(several, names, strict=True)
        for ranking in rankings(tables)
        for found in _competitors(ranking, name, measure)
    ]
    if len(competitors) < 2:
        raise InputError("there is one algorithm in one scenario only; give several experiments, or one that has more")
    return Compared(measure, competitors, list(_pairs(competitors, sign_of(measure))))


def _competitors(ranking: Ranking, name: str, measure: str) -> Iterable[Competitor]:
    for algorithm, position in ranking.best_of("algorithm").items():
        again = confirmed(ranking, position)  # the better seeds, because there are more of them
        source, row, runs = (ranking, position, ranking.measured_on) if again is None else (again, 0, slice(None))
        scores = {split: source.scores(split, measure)[row][:, runs] for split in source.tables.splits}
        of_agent = source.tables.agents.set_index("agent")["seed"]
        agents, environments = source.agents[row][:, runs], source.environments[row]
        beside = against_baselines(source.tables, agents, environments, OWN)
        rival = strongest_deployable(beside)
        yield Competitor(
            name=" ".join(part for part in (name, algorithm, ranking.scenario) if part),
            configuration=ranking.describe(position),
            tasks=tuple(environment_words(ranking, position, task) for task in range(ranking.tasks)),
            table=ranking.tables.table_digest,
            seeds=tuple(of_agent.loc[agents[0].tolist()].tolist()),
            scores=scores,
            rival=rival,
            leads=leads(beside, rival) if rival else {},
            few_seeds=few_seeds(beside, OWN),
            diverged=source.diverged()[row][:, runs],
        )


def _pairs(competitors: list[Competitor], sign: float) -> Iterable[Pair]:
    """Of those who compete on the same environments and table; first who is better on the prompts that choose."""
    for pair in itertools.combinations(competitors, 2):
        if len({(each.tasks, each.table) for each in pair}) > 1:
            continue
        common = [split for split in pair[0].scores if split in pair[1].scores]
        first, second = sorted(pair, key=lambda each: -sign * float(iqm(each.scores[choosing(common)])))
        for split in common:
            one, other = first.scores[split], second.scores[split]
            apart = difference(iqm, one, other, paired=first.seeds == second.seeds)
            yield Pair(first.name, second.name, split, apart, improvement(sign * one, sign * other))


def _names(several: list[Tables]) -> list[str]:
    """What tells the folders apart: nothing if there is one, their names, or their paths if names are the same."""
    if len(several) == 1:
        return [""]
    short = [tables.name for tables in several]
    return short if len(set(short)) == len(short) else [tables.where for tables in several]
