"""`compare`: algorithms, scenarios and sweeps against each other, each by its best setting."""

import itertools
import os
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.intervals import Estimate
from jaxmoe.study.arena import Arena, arenas, place_words
from jaxmoe.study.reading import Study, read_study
from jaxmoe.study.statistics import Scores, difference, improvement, interval, iqm


class Competitor(NamedTuple):
    """The best setting of an algorithm in a scenario of a sweep."""

    name: str
    setting: str
    tasks: tuple[str, ...]  # its environments, in words
    table: str  # digest of the expert table
    scores: dict[str, Scores]  # of each split, on the judged seeds, [tasks, runs]


class Pair(NamedTuple):
    """Two competitors on the same tasks."""

    first: str
    second: str
    split: str
    difference: Estimate  # of interquartile means
    improvement: Estimate  # that an agent of the first beats one of the second


class Compared(NamedTuple):
    """Competitors against each other."""

    measure: str
    competitors: list[Competitor]
    pairs: list[Pair]

    def table(self) -> pd.DataFrame:
        """One row per competitor: interquartile means with intervals, best first."""
        rows = []
        for competitor in self.competitors:
            row: dict[str, object] = {"name": competitor.name, "setting": competitor.setting}
            row |= {"environments": len(competitor.tasks), "seeds": competitor.scores["train"].shape[1]}
            for split, scores in competitor.scores.items():
                found = interval(iqm, scores)
                row |= {split: found.mean, f"{split}_low": found.low, f"{split}_high": found.high}
            rows.append(row)
        return pd.DataFrame(rows).sort_values("train", ascending=False, kind="stable", ignore_index=True)


def compare_studies(folders: Iterable[str | os.PathLike[str]]) -> Compared:
    """Read sweeps' folders and set the best setting of each algorithm and scenario against each other.

    Raises:
        InputError: a folder holds no sweep or no trained agents, or there is but one competitor.
    """
    studies = [read_study(folder) for folder in folders]
    for study in studies:
        if not len(study.results):
            raise InputError(f"{study.folder}: none of {len(study.agents):,} agents is trained yet")
    measure = "normalised" if all(study.measure == "normalised" for study in studies) else "qos"
    names = _names(studies)
    competitors = [
        found
        for study, name in zip(studies, names, strict=True)
        for arena in arenas(study)
        for found in _competitors(arena, name, measure)
    ]
    if len(competitors) < 2:
        raise InputError("there is one algorithm in one scenario only; give several folders, or one that has more")
    return Compared(measure, competitors, list(_pairs(competitors)))


def _competitors(arena: Arena, name: str, measure: str) -> Iterable[Competitor]:
    for algorithm, position in arena.best_of("algorithm").items():
        scores = {split: arena.scores(split, measure)[position][:, arena.judged_on] for split in arena.study.splits}
        yield Competitor(
            name=" ".join(part for part in (name, algorithm, arena.scenario) if part),
            setting=arena.describe(position),
            tasks=tuple(place_words(arena, position, task) for task in range(arena.tasks)),
            table=arena.study.manifest["table_digest"],
            scores=scores,
        )


def _pairs(competitors: list[Competitor]) -> Iterable[Pair]:
    """Of those who compete on the same environments and table; the better one on train prompts first."""
    for one, other in itertools.combinations(competitors, 2):
        if (one.tasks, one.table) != (other.tasks, other.table):
            continue
        first, second = sorted((one, other), key=lambda each: -float(iqm(each.scores["train"])))
        for split in [split for split in first.scores if split in second.scores]:
            scores = first.scores[split], second.scores[split]
            yield Pair(first.name, second.name, split, difference(iqm, *scores), improvement(*scores))


def _names(studies: list[Study]) -> list[str]:
    """What tells the folders apart: nothing if there is one, their names, or their paths if names are the same."""
    if len(studies) == 1:
        return [""]
    short = [study.name for study in studies]
    return short if len(set(short)) == len(short) else [str(study.folder) for study in studies]
