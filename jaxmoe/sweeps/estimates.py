"""What a sweep will take, before it is begun."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.progress import SILENT, Reporter, size
from jaxmoe.sweeps.chunks import GroupTrainer
from jaxmoe.sweeps.lanes import block_width, padded_count
from jaxmoe.sweeps.plan import make_plan, parse_shard
from jaxmoe.sweeps.spec import SweepSpec, load_spec
from jaxmoe.sweeps.sweeping import CHUNK_S, memory_width, spec_table


def describe_plan(
    spec: str | os.PathLike[str] | Mapping[str, Any] | SweepSpec,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    shard: str = "0/1",
    report: Reporter = SILENT,
) -> list[str]:
    """Lines that say how many agents, programs and chunks a sweep has, and how much memory they take.

    Nothing is compiled or trained. Where the chunk width is automatic, its upper limit is told: the memory's; the
    measurement at the start of the sweep may choose less.
    """
    checked, part = load_spec(spec, overrides), parse_shard(shard)
    report.stage("planning")
    table = spec_table(checked)
    plan = make_plan(checked, table)
    agents = [part.of(group.agents) for group in plan.groups]
    places = len(part.of(range(len(plan.places)))) if checked.references else 0
    lines = [
        f"{_counted(sum(map(len, agents)), 'agent')}, from {_counted(len(plan.configurations), 'configuration')} and "
        f"{_counted(len(set(plan.seed_of)), 'seed')}"
        + (f"; shard {part} of {plan.num_agents:,}" if part.count > 1 else ""),
        f"{_counted(len(plan.groups), 'compilation')} of a training program, for {block_width()} agents at once; "
        f"references in {_counted(places, 'environment')}",
    ]
    steps, largest, automatic = 0, 0, checked.chunk_width == "auto"
    for group, own in zip(plan.groups, agents, strict=True):
        if own:
            trainer = GroupTrainer(plan, group, table)
            limit, bytes_each = memory_width(trainer, len(own)), trainer.bytes_per_agent()
            width = limit if checked.chunk_width == "auto" else checked.chunk_width
            chunk_bytes = padded_count(min(width, len(own))) * bytes_each
            steps, largest = steps + trainer.env_steps * len(own), max(largest, chunk_bytes)
            chunks = f"{'at least ' if automatic else ''}{_counted(-(-len(own) // width), 'chunk')}"
            each = f"{_counted(len(own), 'agent')} of {trainer.env_steps:,} env steps and {size(bytes_each)} each"
            lines.append(
                f"{group}: {each}, in {chunks} of {'up to ' if automatic else ''}{width} agents and {size(chunk_bytes)}"
            )
    lines.append(f"in all {steps:,} env steps; training takes {size(largest)} beside what JAX itself takes")
    if automatic:
        lines.append(f"a measurement at the start cuts chunks so that each trains about {CHUNK_S:.0f} s")
    return lines


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
