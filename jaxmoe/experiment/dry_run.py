"""What an experiment will take, before it is begun."""

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.algorithms.algorithm import about
from jaxmoe.algorithms.registry import registered_algorithm, speed
from jaxmoe.experiment import plan
from jaxmoe.experiment.engines import engine_named, parse_shard
from jaxmoe.experiment.going_on import with_policy
from jaxmoe.experiment.rounds import Settled
from jaxmoe.experiment.search import Axis, open_axes
from jaxmoe.experiment.spec import Spec, load_spec, with_plugins
from jaxmoe.progress import duration, size
from jaxmoe.table import load_table
from jaxmoe.training import sizes


def describe_plan(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    shard: str = "0/1",
    plugins: Iterable[str] = (),
    engine: str = "local",
    address: str | None = None,
) -> list[str]:
    """Lines that say how many agents, programs and jobs an experiment has, and how much memory and disk they take.

    Nothing is compiled or trained.
    """
    (checked, taken), part = with_policy(with_plugins(load_spec(spec, overrides), plugins)), parse_shard(shard)
    runner = engine_named(engine, address, checked.ray, part)
    try:
        machine = runner.machine(checked)
    finally:
        runner.close()
    table = load_table(checked.table, relevance=checked.relevance)
    members = plan.members(checked, table)
    plan.check_spec(checked, members, table)
    keep = checked.keep_states if isinstance(checked.keep_states, bool) else plan.states_fit(checked, members, table)
    first = plan.first_round(Settled(checked, table, machine, keep), members)
    own = [job for job in first.jobs if job.number % part.count == part.index]
    train = [job for job in own if job.kind == "train"]
    by_signature: dict[str, list[Any]] = {}
    for job in train:
        by_signature.setdefault(job.signature.key, []).append(job)
    agents = sum(len(job.rows) for job in train)
    configurations = len(first.agents[["algorithm", "scenario", "configuration", "environment"]].drop_duplicates())
    baselines = sum(job.kind == "baselines" for job in own)
    each_of = f" in each of {machine.processes} processes" if machine.processes > 1 else ""
    lines = [
        f"{_counted(agents, 'agent')}, from {_counted(configurations, 'configuration')} and "
        f"{_counted(first.agents['seed'].nunique(), 'seed')}"
        + (f"; shard {part} of {len(first.agents):,}" if part.count > 1 else ""),
        f"{_counted(len(by_signature), 'compilation')} of a training program, for {machine.devices} x "
        f"{machine.platform}{each_of}; baselines in {_counted(baselines, 'environment')}",
    ]
    steps, largest, states, seconds = 0.0, 0.0, 0.0, 0.0
    for jobs in by_signature.values():
        each = plan.agent_bytes(jobs[0], table, checked)
        count = sum(len(job.rows) for job in jobs)
        most = max(len(job.rows) for job in jobs)
        algorithm, width = jobs[0].signature.algorithm, jobs[0].agents_per_device
        memory = sizes.training_bytes(algorithm, most, width * machine.devices, each)
        steps, states, largest = steps + jobs[0].env_steps * count, states + each * count, max(largest, memory)
        at_once = machine.devices * (machine.processes if part.count == 1 else 1)  # of what these jobs are done by
        rate = speed(algorithm, machine.platform) * at_once
        seconds += jobs[0].env_steps * count / rate
        lines.append(
            f"{jobs[0].signature}: {_counted(count, 'agent')} of {jobs[0].env_steps:,} env steps and {size(each)} "
            f"each, in {_counted(len(jobs), 'job')} of up to {most:,}, {width:,} at once on a device and {size(memory)}"
        )
    lines += axis_lines(checked) + ([taken] if taken else [])
    kept = f"their final states, {size(states)}, are kept" if keep else "their final states are not kept"
    lines.append(
        f"in all {steps:,.0f} env steps, about {duration(seconds)} of training; it takes {size(largest)} of memory, "
        f"and {kept}"
    )
    return lines


def axis_lines(spec: Spec) -> list[str]:
    """The axes of a spec, each with its values or its range, and the algorithm or scenario if not all have it."""
    owners: dict[str, list[str]] = {}
    pairs = list(itertools.product(spec.algorithm, spec.scenario))
    for algorithm, scenario in pairs:
        for axis in open_axes(spec, algorithm, scenario):
            owner = algorithm if axis.section in ("hypers", "config") else scenario
            found = owners.setdefault(f"axis {_as_said(axis, algorithm)}", [])
            if owner not in found:
                found.append(owner)
    every = (spec.algorithm, spec.scenario)
    return [line + ("" if found in every else f" ({', '.join(found)})") for line, found in owners.items()]


def _as_said(axis: Axis, algorithm: str) -> Axis:
    """The axis with true and false where its numbers stand for them."""
    known = about(registered_algorithm(algorithm).Hypers) if axis.section == "hypers" else {}
    boolean = axis.name in known and known[axis.name].boolean and axis.range is None
    return axis._replace(values=tuple(map(bool, axis.values))) if boolean else axis


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
