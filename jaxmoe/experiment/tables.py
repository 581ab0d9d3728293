"""The tidy tables of an experiment, put together from its jobs; the same whatever the order in which they were done."""

import json
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jaxmoe.analysis.comparison import brought_by, comparison, family, normalised_score
from jaxmoe.analysis.intervals import told_apart
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.tables import BaselineFacts, JobFacts, Objective, Tables, with_ends
from jaxmoe.errors import InputError
from jaxmoe.experiment.folder import EXPERIMENT, read_about, read_round, round_numbers, spec_of
from jaxmoe.experiment.made import Made
from jaxmoe.experiment.reading import metrics_of, read_rows, read_watched, require_metrics
from jaxmoe.experiment.rounds import Round, current_spec
from jaxmoe.experiment.spec import Spec
from jaxmoe.table.splits import SPLITS, choosing
from jaxmoe.training.events import Planned
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Memory, Storage
from jaxmoe.training.stored import finished, in_parallel, parquet, progress_of, result_name

BEHAVIOUR = "behaviour.parquet"
MADE = "made.json"
EVALUATION = "evaluation.parquet"  # of a job


class Contents(NamedTuple):
    """An experiment's plan, and what is done of it."""

    spec: Spec  # as it is now
    about: dict[str, Any]
    rounds: list[Round]
    done: dict[int, dict[str, Any]]  # what done.json of each finished job says

    @property
    def jobs(self) -> list[Job]:
        """Of all rounds."""
        return [job for each in self.rounds for job in each.jobs]

    @property
    def complete(self) -> bool:
        """Whether every job is done."""
        return len(self.done) == len(self.jobs)

    @property
    def planned(self) -> Planned:
        """What is to be told of it when its jobs are run."""
        from jaxmoe.training.evaluation import AGENT_GROUP  # it imports JAX

        train = [job for job in self.jobs if job.kind == "train"]
        left = [job for job in train if job.number not in self.done]
        agents, agents_left = (sum(len(job.rows) for job in some) for some in (train, left))
        to_do = sum(len(job.rows) * (job.env_steps - job.begins_at) for job in left)
        requests = sum(
            len(job.rows) * ((len(job.evaluate_at) - 1) * min(AGENT_GROUP, job.requests) + job.requests) for job in left
        )
        return Planned(len(self.jobs), len(self.done), agents, agents - agents_left, to_do, requests)


def read_contents(storage: Storage) -> Contents:
    """What was planned, and what is done. Raises `InputError` where the planning has not come to its end."""
    about = read_about(storage)
    spec = spec_of(about)
    rounds = [read_round(storage, number) for number in round_numbers(storage)]
    if not rounds:
        raise InputError(f"{storage.where} is not planned to the end: give the command that was planning it again")
    jobs = [job for each in rounds for job in each.jobs]
    return Contents(current_spec(spec, rounds), about, rounds, finished(storage, jobs))


def tables_of(storage: Storage, contents: Contents | None = None, name: str = "", lean: bool = False) -> Tables:
    """What an experiment has found so far.

    Args:
        storage: of the experiment.
        contents: what is in it, if that is known already.
        name: of the experiment; that of its folder if absent.
        lean: of the results only what a ranking needs, which is quicker to read.
    """
    contents = contents or read_contents(storage)
    ranked = [each for each in contents.rounds if each.kind != "confirmation"]
    baselines = _baselines(storage, contents)
    name = name or ("experiment" if isinstance(storage, Memory) else PurePath(storage.where).name)
    whole = _tables(storage, contents, ranked, baselines, name, _ranked_by(contents.spec) if lean else None)
    if lean:
        return whole
    confirmed: dict[str, list[Round]] = {}
    for each in contents.rounds:
        if each.kind == "confirmation" and each.why["env_steps"] == contents.spec.env_steps:
            confirmed.setdefault(json.dumps(each.why["configuration"]), []).append(each)
    confirmations = [
        _tables(storage, contents, own, baselines, name, objective=whole.objective) for own in confirmed.values()
    ]
    watched = Made(storage, MADE).read(BEHAVIOUR)
    finished = [each for each in confirmations if each.complete]
    return Tables(
        **{
            **vars(whole),
            "confirmations": finished,
            "behaviour": None
            if watched is None
            else read_watched(watched, f"{storage.where}/{BEHAVIOUR}", whole.experts),
        }
    )


def finish(storage: Storage, contents: Contents | None = None) -> Tables:
    """Write the tables of what is complete, and return them."""
    tables = tables_of(storage, contents)
    made = Made(storage, MADE)
    made.write("results.parquet", parquet(tables.results))
    made.write("curves.parquet", parquet(tables.load_curves(None)))
    made.write("comparison.parquet", parquet(comparison_table(tables)))
    made.close()
    return tables


def comparison_table(tables: Tables) -> pd.DataFrame:
    """The winner of each scenario and every baseline, on the same requests, with intervals."""
    parts = [comparison(ranking) for ranking in rankings(tables)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _ranked_by(spec: Spec) -> set[str]:
    """Columns of results that a ranking reads."""
    objective = spec.objective
    metrics = {"qos", objective.metric, *objective.limits}
    return {"agent", "env_steps", "diverged", *(f"{split}_{name}" for split in SPLITS for name in metrics)}


def _tables(
    storage: Storage,
    contents: Contents,
    rounds: list[Round],
    baselines: pd.DataFrame,
    name: str,
    columns: Collection[str] | None = None,
    objective: Objective | None = None,
) -> Tables:
    jobs = {job.number: job for each in rounds for job in each.jobs if job.kind == "train"}
    agents = pd.concat([each.agents for each in rounds], ignore_index=True) if rounds else pd.DataFrame()
    latest = agents.drop_duplicates("agent", keep="last") if len(agents) else agents
    planned = _sorted(latest, contents.spec)
    done = {number: about for number, about in contents.done.items() if number in jobs}
    of_agent = _latest_done(jobs, done)
    results = _results(storage, jobs, done, of_agent, columns)
    measured = metrics_of(results, f"{storage.where}, results")
    if columns is None and len(baselines):
        require_metrics(baselines, measured, f"{storage.where}, baselines")
    families = _families(contents)
    levels = _levels(baselines, families, "prompts")
    if len(results):
        results = with_ends(planned, results)
        results = with_normalised(results, levels)
    else:
        results = planned.head(0)

    def load_curves(chosen: Collection[int] | None) -> pd.DataFrame:
        wanted = None if chosen is None else set(chosen)
        numbers = [n for n in sorted(done) if wanted is None or wanted & set(jobs[n].rows)]
        found = in_parallel(lambda n: read_rows(storage, jobs[n], done[n], "curves.parquet"), numbers)
        frames = [_chosen(rows.to_pandas(), wanted) for rows in found]
        if not frames:
            return pd.DataFrame()
        curves = pd.concat(frames, ignore_index=True)
        order = planned.reset_index(names="place")[["agent", "place"]]
        curves = order.merge(curves, on="agent").sort_values(["place", "env_steps"], kind="stable", ignore_index=True)
        keys = planned if wanted is None else planned[planned["agent"].isin(wanted)]
        whole = keys.merge(curves.drop(columns="place"), on="agent", suffixes=("", "_reached"))
        if "kept_env_steps" in results:
            kept = results.set_index("agent")["kept_env_steps"]
            whole["kept"] = whole["env_steps"] == whole["agent"].map(kept)
        return with_normalised(whole, _levels(baselines, families, "look") or levels)  # older folders have no looks

    def load_evaluation(chosen: Collection[int]) -> pd.DataFrame:
        wanted = set(chosen)
        numbers = sorted({of_agent[agent] for agent in wanted if agent in of_agent})
        found = in_parallel(lambda n: read_rows(storage, jobs[n], done[n], EVALUATION), numbers)
        frames = [
            _chosen(rows.to_pandas(), wanted, of_agent, number) for number, rows in zip(numbers, found, strict=True)
        ]
        for number, frame in zip(numbers, frames, strict=True):
            require_metrics(frame, measured, f"{storage.where}/{result_name(jobs[number], done[number], EVALUATION)}")
        return pd.concat([frame.astype({"split": str, "by": str}) for frame in frames], ignore_index=True)

    spec = contents.spec.model_dump(mode="json")
    wanted = [job for each in contents.rounds for job in each.jobs if job.kind == "baselines"]
    return Tables(
        name=name,
        where=storage.where,
        spec=spec,
        table_digest=contents.about["table"]["digest"],
        experts=_experts(results, baselines),
        objective=objective or _objective(contents.spec, results),
        environments=sorted(row for job in wanted for row in job.rows),
        agents=planned,
        results=results,
        baselines=baselines,
        families=families,
        jobs=[_facts(jobs[number], about) for number, about in sorted(done.items())],
        unfinished=_unfinished(storage, jobs, done),
        load_curves=load_curves,
        load_evaluation=load_evaluation,
        idle_s=_idle_s(storage, jobs),
    )


def with_normalised(rows: pd.DataFrame, levels: Mapping[tuple[int, str], tuple[float, float]]) -> pd.DataFrame:
    """The rows with a column `{split}_normalised` after each `{split}_qos`, as far as levels are known."""
    for split in dict.fromkeys(split for _, split in levels):
        if f"{split}_qos" not in rows:
            continue
        environments, position = np.unique(rows["environment"].to_numpy(), return_inverse=True)
        found = [levels.get((environment, split), (np.nan, np.nan)) for environment in environments.tolist()]
        worst, best = np.array(found).reshape(-1, 2)[position].T
        qos = rows[f"{split}_qos"].to_numpy(np.float64)
        scores = normalised_score(qos[:, None], worst[:, None], best[:, None])[:, 0]
        rows.insert(list(rows.columns).index(f"{split}_qos") + 1, f"{split}_normalised", scores)
    return rows


def _families(contents: Contents) -> dict[str, BaselineFacts]:
    """What jobs say of the baselines that they evaluated."""
    found: dict[str, BaselineFacts] = {}
    for job in contents.jobs:
        for name, said in contents.done.get(job.number, {}).get("baselines", {}).items():
            own = {} if said["level"] is None else dict.fromkeys(job.rows, float(said["level"]))
            before = found[name].levels if name in found else {}
            found[name] = BaselineFacts(str(said["knows"]), bool(said["deployable"]), {**before, **own})
    return found


def _levels(
    baselines: pd.DataFrame, families: Mapping[str, BaselineFacts], by: str
) -> dict[tuple[int, str], tuple[float, float]]:
    """Mean QoS of the policies whose normalised score is 0 and 1: of each environment and split.

    By "prompts" of all requests, by "look" of those that curves are of. It is missing, NaN, where the two are not told
    apart.
    """
    if not len(baselines):
        return {}
    rows = baselines[baselines["policy"].map(family).isin([name for name, of in families.items() if of.levels])]
    found: dict[tuple[int, str], tuple[float, float]] = {}
    keys: Any
    for keys, part in rows.groupby(["environment", "split"], sort=False):
        environment, split = int(keys[0]), str(keys[1])
        own = {families[family(name)].levels.get(environment): each for name, each in part.groupby("policy")}
        if 0.0 in own and 1.0 in own and (part["by"] == by).any():
            ends = own[0.0], own[1.0]
            apart = told_apart(*(brought_by(each, "policy", ["qos"]) for each in ends))
            worst, best = (_mean_qos(each[each["by"] == by]) if apart else np.nan for each in ends)
            found[environment, split] = worst, best
    return found


def _mean_qos(sums: pd.DataFrame) -> float:
    return float(sums["qos"].astype(np.float64).sum() / sums["requests"].sum())


def _objective(spec: Spec, results: pd.DataFrame) -> Objective:
    said = spec.objective
    present = [split for split in SPLITS if f"{split}_qos" in results]
    split = choosing(present) if said.split == "auto" else said.split
    if len(results) and f"{split}_qos" not in results:
        raise InputError(f"objective: split = {split!r}, and the table has no {split} prompts")
    scores = results.get(f"{split}_normalised")
    told = scores is not None and bool((scores.notna() | results[f"{split}_qos"].isna()).all())
    metric = said.metric
    if metric in ("auto", "normalised"):  # QoS until baselines are evaluated, and where they are not told apart
        metric = "normalised" if told else "qos"
    limits = {name: top for name, top in said.limits.items() if told or name != "normalised"}
    for name in (metric, *limits):
        if len(results) and f"{split}_{name}" not in results:
            known = [str(column).removeprefix("train_") for column in results if str(column).startswith("train_")]
            raise InputError(f"objective: an evaluation has no metric {name!r}; choose among {', '.join(known)}")
    return Objective(metric, split, said.statistic, limits)


def _latest_done(jobs: Mapping[int, Job], done: Mapping[int, Any]) -> dict[int, int]:
    """The last finished job of each agent."""
    return {agent: number for number in sorted(done) for agent in jobs[number].rows}


def _results(
    storage: Storage,
    jobs: Mapping[int, Job],
    done: Mapping[int, Any],
    of_agent: Mapping[int, int],
    columns: Collection[str] | None,
) -> pd.DataFrame:
    def own(number: int) -> pa.Table:
        """Rows of the agents whose last job this is."""
        rows = read_rows(storage, jobs[number], done[number], "results.parquet", columns)
        others = [agent for agent in jobs[number].rows if of_agent[agent] != number]
        return rows.filter(~pc.field("agent").isin(others)) if others else rows

    parts = in_parallel(own, sorted(done))
    return pa.concat_tables(parts, promote_options="permissive").to_pandas() if parts else pd.DataFrame()


def _baselines(storage: Storage, contents: Contents) -> pd.DataFrame:
    jobs = [job for job in contents.jobs if job.kind == "baselines" and job.number in contents.done]
    found = in_parallel(lambda job: read_rows(storage, job, contents.done[job.number], EVALUATION), jobs)
    if not found:
        return pd.DataFrame()
    frames = [rows.to_pandas() for rows in found]
    table = pd.concat([frame.astype({"split": str, "by": str}) for frame in frames], ignore_index=True)
    return table.sort_values("environment", kind="stable", ignore_index=True)


def _sorted(agents: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Agents by algorithm, scenario, environment, configuration and seed."""
    if not len(agents):
        return agents
    names = {"algorithm": spec.algorithm, "scenario": spec.scenario}
    codes = [pd.Categorical(agents[name], categories=known).codes for name, known in names.items() if len(known) > 1]
    numbers = [agents[name].to_numpy() for name in ("environment", "configuration", "seed")]
    return agents.iloc[np.lexsort((*reversed(numbers), *reversed(codes)))].reset_index(drop=True)


def _experts(results: pd.DataFrame, baselines: pd.DataFrame) -> tuple[str, ...]:
    own = [str(name).removeprefix("train_share_") for name in results if str(name).startswith("train_share_")]
    return tuple(own or [str(name).removeprefix("share_") for name in baselines if str(name).startswith("share_")])


def _facts(job: Job, about: Mapping[str, Any]) -> JobFacts:
    device = about.get("device", {})
    return JobFacts(
        job.signature.algorithm,
        len(job.rows),
        int(about["env_steps"]) - job.begins_at,
        float(about.get("env_steps_per_s") or 0.0),
        f"{device.get('count', '?')} x {device.get('kind', 'unknown')}",
        ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()),
    )


def _unfinished(storage: Storage, jobs: Mapping[int, Job], done: Mapping[int, Any]) -> list[str]:
    """Where jobs stand that are at work, or were."""
    present = storage.files("jobs/")
    begun = [job for number, job in jobs.items() if number not in done and f"{job.folder}/progress.json" in present]
    lines = []
    for job, at in zip(begun, in_parallel(lambda job: progress_of(storage, job), begun), strict=True):
        if at is not None:
            share = at["env_steps"] / at["env_steps_total"]
            where = f", on {at['where']}" if at.get("where") else ""
            lines.append(f"job {job.number}, {job.signature}: {share:.0%} of {len(job.rows):,} agents' training{where}")
    return lines


def _idle_s(storage: Storage, jobs: Iterable[int]) -> float:
    """Seconds since something was written that tells of work."""
    names = [f"jobs/{number:06d}/{file}" for number in jobs for file in ("done.json", "progress.json")]
    present = {**storage.files(EXPERIMENT), **storage.files("jobs/")}
    times = [at for name in (EXPERIMENT, *names) if name in present and (at := present[name].modified) is not None]
    return max(0.0, time.time() - max(times, default=time.time()))


def _chosen(
    rows: pd.DataFrame, wanted: set[int] | None, of_agent: Mapping[int, int] | None = None, job: int = -1
) -> pd.DataFrame:
    """Rows of these agents, and of those whose last job this is."""
    if wanted is not None:
        rows = rows[rows["agent"].isin(wanted)]
    if of_agent is not None:
        position, agents = pd.factorize(rows["agent"])  # a dictionary is slow to map by where it is large
        rows = rows[np.array([of_agent.get(agent) == job for agent in agents.tolist()], bool)[position]]
    return rows
