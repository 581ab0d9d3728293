"""Who is trained, and in which jobs: rounds, each a function of the spec and of what earlier rounds planned.

Agents of one signature (whose configurations and environments differ only in numbers) share a compiled program. A job
holds agents of one signature. Configurations are numbered within algorithm and scenario, environments over all; both
numbers, like those of agents and jobs, stay what they are when more samples, seeds or env steps are added.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from jaxmoe.algorithms.algorithm import about
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env.baselines import levels
from jaxmoe.env.scenarios import settings_of
from jaxmoe.errors import InputError
from jaxmoe.experiment.rounds import Round, Settled
from jaxmoe.experiment.search import Point, points, shown
from jaxmoe.experiment.spec import Spec
from jaxmoe.names import short
from jaxmoe.progress import size
from jaxmoe.table import ExpertTable
from jaxmoe.training import sizes
from jaxmoe.training.baselines import chosen_baselines
from jaxmoe.training.evaluation import metric_names
from jaxmoe.training.inputs import checked_config, seed_list
from jaxmoe.training.job import (
    EVALUATION,
    Job,
    Keeping,
    Phase,
    Signature,
    Start,
    Stop,
    batched,
    even_sizes,
    require_same_evaluation,
)
from jaxmoe.training.keys import TRAINING
from jaxmoe.training.prepared import prepare
from jaxmoe.training.trainer import evaluation_times

KEYS = ("agent", "configuration", "environment", "seed", "algorithm", "scenario", "job")
IDENTITY = ("algorithm", "scenario", "configuration", "environment")
Key = tuple[str, str]  # algorithm and scenario


@dataclass(frozen=True)
class Member:
    """A configuration in an environment, with their numbers."""

    point: Point
    configuration: int
    environment: int

    @cached_property  # it is asked for with every seed
    def key(self) -> str:
        """What it is, whatever its numbers."""
        return _key((self.point.algorithm, *_configuration(self.point), *_environment(self.point)))


def members(spec: Spec, table: ExpertTable) -> list[Member]:
    """Every configuration in every environment that a spec asks for, in the order of tables."""
    found = points(spec, table)
    configurations: dict[Key, dict[str, int]] = {}
    environments: dict[str, int] = {}
    for point in sorted(found, key=lambda point: point.sample):  # so that more samples change no number
        own = configurations.setdefault((point.algorithm, point.scenario), {})
        own.setdefault(_key(_configuration(point)), len(own))
        environments.setdefault(_key(_environment(point)), len(environments))
    numbered = [
        Member(
            point,
            configurations[point.algorithm, point.scenario][_key(_configuration(point))],
            environments[_key(_environment(point))],
        )
        for point in found
    ]
    return sorted(numbered, key=lambda each: _order(spec, each))


def first_round(settled: Settled, found: list[Member]) -> Round:
    """What the spec asks for: its members, with all seeds."""
    spec = settled.spec
    phases = (Phase(spec.env_steps, 0, spec.schedule_steps or spec.env_steps),)
    wanted = [(member, seed) for member in found for seed in seed_list(spec.seeds)]
    return make_round(settled, 0, "spec", {}, wanted, [], phases)


def phases_now(rounds: list[Round]) -> tuple[Phase, ...]:
    """The phases that agents of an experiment are trained in, so far."""
    return latest_jobs(rounds)[0].phases


def latest_jobs(rounds: list[Round]) -> list[Job]:
    """The training jobs of ranked agents that nobody goes on from."""
    jobs = [job for each in rounds if each.kind != "confirmation" for job in each.jobs if job.kind == "train"]
    continued = {number for job in jobs for number, _ in job.start.rows}
    return [job for job in jobs if job.number not in continued]


def states_fit(spec: Spec, found: list[Member], table: ExpertTable) -> bool:
    """Whether all final states together are small enough to be kept."""
    seeds, total, known = len(seed_list(spec.seeds)), 0, {}
    for member in found:
        signature = signature_of(member.point, table)
        if signature.key not in known:
            known[signature.key] = _agent_bytes(signature, table, spec, tuple(member.point.numbers()))
        total += seeds * known[signature.key]
    return total <= sizes.KEPT_STATES


def signature_of(point: Point, table: ExpertTable, plugins: tuple[str, ...] = ()) -> Signature:
    """What shapes the program that trains a point."""
    config = asdict(checked_config(registered_algorithm(point.algorithm).Config, point.config))
    static = {name: float(value) if isinstance(value, int) else value for name, value in point.static_numbers().items()}
    return Signature(
        point.algorithm,
        config,
        point.scenario,
        _settings_of(point),
        static,
        table.meta.digest,
        plugins,
    )


def _settings_of(point: Point) -> dict[str, Any]:
    """Static settings, those that follow from numbers which are not static among them."""
    up = np.min(point.numbers().get("device_up_probability", 1.0))
    return point.settings if up >= 1 or "masked" in point.settings else {**point.settings, "masked": True}


def baselines_of(spec: Spec, scenario: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The baselines that a spec asks for, of those that suit a scenario."""
    return chosen_baselines(spec.baselines, settings_of(scenario, settings))


def check_spec(spec: Spec, found: Iterable[Member], table: ExpertTable) -> None:
    """Refuse what cannot be planned: unknown baselines and metrics, an objective whose baselines are not asked for."""
    found, metrics = list(found), ("normalised", *metric_names(table.experts))
    if spec.objective.split not in ("auto", *table.meta.splits):
        raise InputError(f"objective.split = {spec.objective.split!r}, and the table has no such prompts")
    for member in found:
        baselines_of(spec, member.point.scenario, member.point.settings)  # or they are refused
    for name in (spec.objective.metric, *spec.objective.limits):
        if name not in ("auto", *metrics) or (name == "auto" and name in spec.objective.limits):
            raise InputError(f"objective: an evaluation has no metric {short(name)}; choose among {', '.join(metrics)}")
    if "normalised" in (spec.objective.metric, *spec.objective.limits):
        for member in found:
            scenario, settings = member.point.scenario, member.point.settings
            asked = baselines_of(spec, scenario, settings)
            for needed in levels(settings_of(scenario, settings)):
                if needed not in asked:
                    raise InputError(
                        f"objective: 'normalised' needs the baseline {needed} in {scenario}, and baselines "
                        "does not ask for it"
                    )


def keeping_of(spec: Spec) -> Keeping:
    """Which policies are kept, and what ends an agent's training early."""
    split = "" if spec.objective.split == "auto" else spec.objective.split
    return Keeping(spec.keep, Stop(**spec.stop.model_dump()), split)


def make_round(
    settled: Settled,
    number: int,
    kind: str,
    why: dict[str, Any],
    wanted: list[tuple[Member, int]],
    earlier: list[Round],
    phases: tuple[Phase, ...],
    purpose: int = TRAINING,
) -> Round:
    """Number the agents, and put them into jobs; the baselines of new environments come first."""
    spec = settled.spec
    first_agent = 1 + max(column(earlier, "agent"), default=-1)
    seen = set(column(earlier, "environment"))
    jobs: list[Job] = []
    first_job = next_job(earlier)
    common: dict[str, Any] = {"round": number, "root_seed": spec.root_seed, "requests": spec.requests}
    common |= {"platform": settled.machine.platform, "keeping": keeping_of(spec), "evaluation": EVALUATION}
    precision = spec.devices.matmul_precision
    common |= {"matmul_precision": "default" if precision == "auto" else precision}
    common |= {"deterministic": spec.devices.deterministic}
    require_same_evaluation((job for each in earlier for job in each.jobs), "the experiment")
    for member in {each.environment: each for each, _ in wanted if each.environment not in seen}.values():
        families = baselines_of(spec, member.point.scenario, member.point.settings)
        if families:
            signature = signature_of(member.point, settled.table, settled.plugins)._replace(algorithm="", config={})
            jobs.append(
                Job(
                    number=first_job + len(jobs), kind="baselines", signature=signature, rows=(member.environment,),
                    numbers=tuple(member.point.numbers()), agents_per_device=1, purpose=TRAINING, phases=(),
                    evaluate_at=(), families=families, start=Start(), keep_states=False, **common,
                )
            )  # fmt: skip
    by_signature: dict[tuple[str, tuple[str, ...]], tuple[Signature, tuple[str, ...], list[int]]] = {}
    signatures: dict[str, tuple[str, Signature]] = {}
    for position, (member, _) in enumerate(wanted):
        if member.key not in signatures:
            signature = signature_of(member.point, settled.table, settled.plugins)
            signatures[member.key] = signature.key, signature
        key, signature = signatures[member.key]
        own = member.point.numbers()
        listed = tuple(name for name, value in own.items() if isinstance(value, list))  # [A, D], others [A]
        entry = by_signature.setdefault((key, listed), (signature, tuple(own), []))
        entry[2].append(first_agent + position)
    widths = {job.signature.key: job.agents_per_device for each in earlier for job in each.jobs}
    of_agent: dict[int, int] = {}
    for signature, numbers, agents in by_signature.values():
        agent = _agent_bytes(signature, settled.table, spec, numbers)
        _require_room(settled, signature, agent)
        largest = _largest(settled, signature, phases, agent)
        width = widths.get(signature.key) or _width(settled, signature, len(agents), largest, agent)
        multiple = width * settled.machine.devices  # that are trained at once
        if largest < multiple and spec.devices.agents_per_job != "auto":
            multiple = 1
        if settled.machine.processes > 1 and spec.devices.agents_per_job == "auto":  # a job for each, if they suffice
            largest = min(largest, -(-len(agents) // (settled.machine.processes * multiple)) * multiple)
        for rows in batched(agents, even_sizes(len(agents), max(multiple, largest - largest % multiple), multiple)):
            job = Job(
                number=first_job + len(jobs), kind="train", signature=signature, rows=tuple(rows), numbers=numbers,
                agents_per_device=width, purpose=purpose, phases=phases,
                evaluate_at=(0, *times(settled, signature, phases[-1].until)), families=(),
                start=Start("policy", settled.start) if settled.start else Start(),
                keep_states=settled.keep_states and purpose == TRAINING, **common,
            )  # fmt: skip
            jobs.append(job)
            of_agent |= dict.fromkeys(rows, job.number)
    return Round(number, kind, why, _table_of(wanted, first_agent, of_agent), jobs)


def _table_of(wanted: list[tuple[Member, int]], first_agent: int, of_agent: Mapping[int, int]) -> pd.DataFrame:
    """plan.parquet: one row per agent, with every hyperparameter and what the spec says of the rest."""
    rows: dict[str, dict[str, Any]] = {}
    for member, _ in wanted:
        if member.key not in rows:
            rows[member.key] = _row(member)
    keys = list(rows)
    position = {key: number for number, key in enumerate(keys)}
    each = pd.DataFrame(list(rows.values())).apply(_of_one_kind)
    table = each.iloc[[position[member.key] for member, _ in wanted]].reset_index(drop=True)
    agents = np.arange(first_agent, first_agent + len(wanted))
    table["agent"], table["seed"] = agents, [seed for _, seed in wanted]
    table["job"] = [of_agent[agent] for agent in agents.tolist()]
    return table[[*KEYS, *(name for name in table if name not in KEYS)]]


def _row(member: Member) -> dict[str, Any]:
    point = member.point
    make_hypers = registered_algorithm(point.algorithm).Hypers
    hypers = make_hypers()._asdict() | point.hypers
    row: dict[str, Any] = {"configuration": member.configuration, "environment": member.environment}
    row |= {"algorithm": point.algorithm, "scenario": point.scenario}
    known = about(make_hypers)
    row |= {name: bool(value) if known[name].boolean else float(value) for name, value in hypers.items()}
    return row | {name: cell(value) for name, value in {**point.config, **point.params, **point.settings}.items()}


def cell(value: Any) -> Any:
    """A value as it stands in a table: lists as `64,64`, how a number is drawn as in the spec, others as they are."""
    if isinstance(value, Mapping):
        return shown(value)
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


def _of_one_kind(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column, as texts where some of its values are."""
    texts = column.map(lambda value: isinstance(value, str))
    return column.where(column.isna() | texts, column.map(str)) if texts.any() else column


def _require_room(settled: Settled, signature: Signature, agent: int) -> None:
    """Refuse agents of which a device cannot train so many at once as the spec says, or a single one."""
    wanted, machine = settled.spec.devices.agents_per_device, settled.machine
    at_once = 1 if wanted == "auto" else wanted
    needed = sizes.training_bytes(signature.algorithm, at_once, at_once, agent)
    if needed > machine.memory_gib * 2**30:
        what = "one agent" if at_once == 1 else f"devices.agents_per_device = {at_once:,}"
        raise InputError(
            f"{signature}: {what} takes {size(needed)} of memory in training, and a device has "
            f"{machine.memory_gib:g} GiB; give fewer, or a smaller config (hidden, num_envs, replay_capacity)"
        )


def _width(settled: Settled, signature: Signature, agents: int, largest: int, agent: int) -> int:
    """Agents that one device trains at once, of so many agents of so many bytes in jobs of this size at most."""
    wanted, machine = settled.spec.devices.agents_per_device, settled.machine
    if wanted != "auto":
        return wanted
    jobs = max(-(-agents // largest), machine.processes)
    return sizes.agents_per_device(
        signature.algorithm, machine.platform, machine.devices, machine.memory_gib, -(-agents // jobs), agent
    )


def _largest(settled: Settled, signature: Signature, phases: tuple[Phase, ...], agent: int) -> int:
    """Agents of so many bytes in a job, at most."""
    wanted, machine = settled.spec.devices.agents_per_job, settled.machine
    if wanted != "auto":
        return wanted
    return sizes.agents_per_job(
        signature.algorithm, machine.platform, machine.devices, machine.memory_gib, phases[-1].until, agent
    )


def _agent_bytes(signature: Signature, table: ExpertTable, spec: Spec, numbers: tuple[str, ...]) -> int:
    prepared = prepare(signature, table, spec.requests, keeping_of(spec))
    return sizes.bytes_per_agent(prepared.program, prepared.module.Hypers, numbers)


def agent_bytes(job: Job, table: ExpertTable, spec: Spec) -> int:
    """Memory of one agent's state of a job."""
    return _agent_bytes(job.signature, table, spec, job.numbers)


def times(settled: Settled, signature: Signature, env_steps: int) -> list[int]:
    """When agents are evaluated, in env steps."""
    prepared = prepare(signature, settled.table, settled.spec.requests, keeping_of(settled.spec))
    ends = evaluation_times(prepared.iterations(env_steps), settled.spec.evaluations)
    return [end * prepared.algorithm.env_steps for end in ends]


def next_job(earlier: list[Round]) -> int:
    """The number of the first job that is not planned yet."""
    return 1 + max((job.number for each in earlier for job in each.jobs), default=-1)


def column(rounds: Iterable[Round], name: str) -> list[Any]:
    """A column of the plans of all rounds."""
    return list(itertools.chain.from_iterable(each.agents[name].tolist() for each in rounds))


def _order(spec: Spec, member: Member) -> tuple[int, int, int, int]:
    point = member.point
    return (
        spec.algorithm.index(point.algorithm),
        spec.scenario.index(point.scenario),
        member.environment,
        member.configuration,
    )


def _configuration(point: Point) -> tuple[Any, ...]:
    return point.hypers, point.config


def _environment(point: Point) -> tuple[Any, ...]:
    return point.scenario, point.settings, point.params


def _key(what: Any) -> str:
    return json.dumps(what, sort_keys=True)
