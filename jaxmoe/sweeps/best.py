"""`best`: the winner of a sweep, trained again on seeds that chose nothing, and watched at work.

Whoever is best of many settings was also lucky; on fresh seeds the luck is gone, and the drop says how much it was.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxmoe.errors import InputError
from jaxmoe.files import write_whole
from jaxmoe.intervals import Estimate
from jaxmoe.progress import SILENT, Reporter
from jaxmoe.study.arena import Arena, arenas
from jaxmoe.study.reading import read_study
from jaxmoe.study.sections import BEHAVIOUR, best_folder
from jaxmoe.study.statistics import interval, iqm
from jaxmoe.study.status import standing
from jaxmoe.sweeps.behaviour import watch
from jaxmoe.sweeps.plan import make_plan
from jaxmoe.sweeps.spec import SweepSpec, load_spec
from jaxmoe.sweeps.sweeping import spec_table, sweep


class Best(NamedTuple):
    """The winner and what is left of its score on fresh seeds: interquartile means over seeds."""

    folder: Path
    winner: str  # in words
    measure: str  # of the scores: "normalised" or "qos"
    chosen: Estimate  # on train prompts and the seeds that it was chosen on
    fresh: dict[str, Estimate]  # of each split, on the fresh seeds
    interrupted: bool


def best(
    folder: str | os.PathLike[str],
    *,
    scenario: str | None = None,
    algorithm: str | None = None,
    fresh_seeds: int = 32,
    compilation_cache: bool = True,
    report: Reporter = SILENT,
) -> Best:
    """Train the winner of a finished sweep again on fresh seeds; the same call goes on where an earlier one ended.

    The winner is the setting whose agents are best on train prompts and on the first half of the seeds. Its training is
    kept in the sweep's folder, as `best-SCENARIO`, and a report tells of it; that of an algorithm's best setting as
    `best-SCENARIO-ALGORITHM`, and `compare` sets these against each other.

    Args:
        folder: of a finished sweep.
        scenario: whose winner; needed where there are several.
        algorithm: whose best setting; that of all algorithms if absent.
        fresh_seeds: how many.
        compilation_cache: keep compiled programs in the user's cache folder.
        report: told how it goes.

    Raises:
        InputError: there is no finished sweep in the folder, or several scenarios and none is named, or the scenario or
            algorithm is not in it.
    """
    if fresh_seeds < 1:
        raise InputError(f"fresh_seeds = {fresh_seeds} must be at least 1")
    arena = _arena(folder, scenario)
    position = _position(arena, algorithm)
    if arena.diverged()[position].all():
        raise InputError(f"{folder}: every agent of the best setting diverged; there is no winner to train again")
    out = best_folder(arena.study, arena.scenario, algorithm)
    spec = _spec_of(arena, position, fresh_seeds)
    found = sweep(spec, out, compilation_cache=compilation_cache, report=report)  # refuses a folder with other seeds
    scores = arena.scores("train")[position][:, arena.chosen_on]
    again: dict[str, Estimate] = {}
    if not found.interrupted:
        report.stage("watching the agents at work")
        rows = watch(out)
        write_whole(out / BEHAVIOUR, partial(rows.to_parquet, index=False), overwrite=True)
        fresh = arenas(read_study(out))[0]
        again = {split: interval(iqm, fresh.scores(split)[0]) for split in fresh.study.splits}
    winner, measure = arena.describe(position), arena.study.measure
    return Best(out, winner, measure, interval(iqm, scores), again, found.interrupted)


def _arena(folder: str | os.PathLike[str], scenario: str | None) -> Arena:
    study = read_study(folder)
    at = standing(study)
    if not at.complete:
        raise InputError(f"{folder} is not finished, and its winner may change: {at}")
    found = {arena.scenario: arena for arena in arenas(study)}
    if scenario is None and len(found) > 1:
        raise InputError(f"{folder} has several scenarios; say --scenario with one of {', '.join(found)}")
    chosen = scenario or next(iter(found))
    if chosen not in found:
        raise InputError(f"{folder} has no scenario {chosen!r}; choose one of {', '.join(found)}")
    return found[chosen]


def _position(arena: Arena, algorithm: str | None) -> int:
    """Of the winner, or of an algorithm's best setting."""
    if algorithm is None:
        return arena.winner
    best = arena.best_of("algorithm")
    if algorithm not in best:
        raise InputError(
            f"{arena.study.folder} has no algorithm {algorithm!r} in {arena.scenario}; choose one of {', '.join(best)}"
        )
    return best[algorithm]


def _spec_of(arena: Arena, position: int, fresh_seeds: int) -> SweepSpec:
    """The sweep of one setting alone, in all its environments, with seeds that the first sweep has not used."""
    spec = load_spec(arena.study.spec)
    plan = make_plan(spec, spec_table(spec))
    point = plan.configurations[plan.configuration_of[int(arena.agents[position, 0, 0])]]
    first = int(arena.study.agents["seed"].max()) + 1
    changed: dict[str, Any] = {"algorithm": [point.algorithm], "scenario": [point.scenario]}
    changed |= {"seeds": list(range(first, first + fresh_seeds)), "search": {}}
    changed |= {"hypers": point.hypers, "config": point.config}
    for section, own in (("params", point.params), ("settings", point.settings)):
        changed[section] = own if arena.tasks == 1 else _said(getattr(spec, section), spec.scenario, point.scenario)
    return load_spec({**spec.model_dump(mode="json", exclude_none=True), **changed})


def _said(section: dict[str, Any], scenarios: list[str], scenario: str) -> dict[str, Any]:
    """What a section of the spec says of a scenario."""
    common = {name: value for name, value in section.items() if name not in scenarios}
    return common | dict(section.get(scenario, {}))
