"""Adding to an experiment: seeds, samples, env steps. An extension is a round of its own; no earlier file changes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.experiment import folder
from jaxmoe.experiment.plan import (
    IDENTITY,
    column,
    latest_jobs,
    make_round,
    members,
    next_job,
    phases_now,
    times,
)
from jaxmoe.experiment.rounds import Round, Settled
from jaxmoe.experiment.spec import Spec, load_spec
from jaxmoe.experiment.tables import Contents
from jaxmoe.training.inputs import seed_list
from jaxmoe.training.job import Job, Phase, Start, require_same_evaluation
from jaxmoe.training.storage import Storage


def extensions(storage: Storage, contents: Contents, change: Mapping[str, Any], new_schedule: bool) -> list[Round]:
    """The rounds that a change needs; none where an earlier call has planned them."""
    settled, rounds = folder.settled(storage), contents.rounds
    wider = {key: value for key, value in change.items() if key != "env_steps"}
    found: list[Round] = []
    if wider:
        changed = load_spec(contents.spec, wider)
        _require_superset(contents.spec, changed)
        planned = widened(settled, changed, {"set": wider}, rounds)
        if planned is not None:
            found.append(planned)
    if "env_steps" in change:
        phases = phases_now([*rounds, *found])
        if change["env_steps"] != phases[-1].until:
            _require_states(storage, contents, latest_jobs([*rounds, *found]))
            why = {"set": {"env_steps": change["env_steps"]}, "new_schedule": new_schedule}
            found.append(lengthened(settled, change["env_steps"], new_schedule, why, [*rounds, *found]))
    return found


def _require_states(storage: Storage, contents: Contents, jobs: list[Job]) -> None:
    """Refuse to go on from states that were not kept."""
    for job in jobs:
        about = contents.done.get(job.number)
        gone = about is not None and (
            about.get("state") is None
            or storage.size(f"{job.folder}/{about['attempt']}/state.safetensors") != about["state"]["bytes"]
        )
        if not job.keep_states or gone:
            raise InputError(
                f"{storage.where}: the final states of its agents were not kept, so that they cannot go on; "
                "plan with keep_states = true"
            )


def _require_superset(before: Spec, after: Spec) -> None:
    """Extensions add; they take nothing away."""
    old, new = seed_list(before.seeds), seed_list(after.seeds)
    if missing := set(old) - set(new):
        raise InputError(
            f"seeds = {after.seeds} lacks seed {min(missing)}, which the experiment has; extending only adds: give a "
            "number or a list that holds them all"
        )
    if before.search.samples != after.search.samples:
        if before.search.method == "grid":
            raise InputError(
                "a grid has all its points and cannot be extended by samples; search at random or by Sobol"
            )
        if (after.search.samples or 0) < (before.search.samples or 0):
            raise InputError(
                f"search.samples = {after.search.samples} is fewer than the {before.search.samples} that are there; "
                "extending only adds"
            )


def widened(settled: Settled, changed: Spec, why: dict[str, Any], earlier: list[Round]) -> Round | None:
    """A round with the seeds and samples that a changed spec has beyond earlier rounds; none if there are none."""
    ranked = [each for each in earlier if each.kind != "confirmation"]
    have = set(zip(*(column(ranked, name) for name in (*IDENTITY, "seed")), strict=True))
    wanted = [
        (member, seed)
        for member in members(changed, settled.table)
        for seed in seed_list(changed.seeds)
        if (member.point.algorithm, member.point.scenario, member.configuration, member.environment, seed) not in have
    ]
    if not wanted:
        return None
    return make_round(settled, len(earlier), "extension", why, wanted, earlier, phases_now(earlier))


def lengthened(
    settled: Settled, env_steps: int, new_schedule: bool, why: dict[str, Any], earlier: list[Round]
) -> Round:
    """A round in which all agents go on from their final states, until so many env steps."""
    phases = phases_now(earlier)
    last = phases[-1]
    if env_steps <= last.until:
        raise InputError(f"env_steps = {env_steps:,} is not more than the {last.until:,} that agents are trained for")
    if new_schedule:
        phases = (*phases, Phase(env_steps, last.until, env_steps - last.until))
    elif env_steps > last.schedule_begin + last.schedule_steps:
        raise InputError(
            f"schedules end at {last.schedule_begin + last.schedule_steps:,} env steps (the rate of default PPO is 0 "
            f"there), so that agents would not learn on to {env_steps:,}; give --new-schedule, which begins schedules "
            f"anew over the added steps, or plan with schedule_steps = {env_steps} from the start"
        )
    else:
        phases = (*phases[:-1], last._replace(until=env_steps))
    require_same_evaluation((job for each in earlier for job in each.jobs), "the experiment")
    number, first = len(earlier), next_job(earlier)
    jobs = []
    for position, job in enumerate(latest_jobs(earlier)):
        ends = times(settled, job.signature, env_steps)
        jobs.append(
            job._replace(
                number=first + position,
                round=number,
                phases=phases,
                evaluate_at=(last.until, *(at for at in ends if at > last.until)),
                start=Start("states", "", tuple((job.number, row) for row in range(len(job.rows)))),
            )
        )
    of_job = {agent: job.number for job in jobs for agent in job.rows}
    agents = pd.concat([each.agents for each in earlier if each.kind != "confirmation"], ignore_index=True)
    agents = agents.drop_duplicates("agent").reset_index(drop=True)
    return Round(number, "extension", why, agents.assign(job=agents["agent"].map(of_job)), jobs)
