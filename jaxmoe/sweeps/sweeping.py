"""`sweep`: thousands of agents from one spec, chunk by chunk, in a folder that survives whatever ends the process."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import psutil

from jaxmoe.devices import use_compilation_cache
from jaxmoe.env.evaluation import reference_tallier
from jaxmoe.errors import InputError
from jaxmoe.progress import SILENT, Reporter, SweepProgress, size
from jaxmoe.sweeps import tables
from jaxmoe.sweeps.chunks import GroupTrainer, Trained, Verdict, reference_rows
from jaxmoe.sweeps.evaluating import SEED
from jaxmoe.sweeps.inputs import environments
from jaxmoe.sweeps.lanes import block_width, lanes, padded_count
from jaxmoe.sweeps.loop import Trainer, interruptible
from jaxmoe.sweeps.plan import Group, Plan, Shard, make_plan, parse_shard
from jaxmoe.sweeps.provenance import versions
from jaxmoe.sweeps.spec import SweepSpec, load_spec
from jaxmoe.sweeps.store import Store
from jaxmoe.table import ExpertTable, load_table

CHUNK_S = 60.0  # s, about as long a chunk of automatic width trains
MEMORY_SHARE = 0.5  # of the free memory, which a chunk of automatic width may take
CHECKPOINT_MINUTES = 5.0


@dataclass(frozen=True)
class Sweep:
    """A sweep and what it has found so far."""

    folder: Path
    results: pd.DataFrame  # one row per agent
    curves: pd.DataFrame  # one row per agent and evaluation
    prompts: pd.DataFrame  # one row per agent, split and prompt
    references: pd.DataFrame  # one row per environment, split, policy and prompt
    varied: list[str]  # columns of `results` in which configurations differ
    interrupted: bool  # by Ctrl-C; the same call goes on


def sweep(
    spec: str | os.PathLike[str] | Mapping[str, Any] | SweepSpec,
    out: str | os.PathLike[str],
    *,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    shard: str = "0/1",
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    compilation_cache: bool = True,
    report: Reporter = SILENT,
) -> Sweep:
    """Train all agents of a spec, and compare them with every reference; or go on where an earlier call ended.

    Args:
        spec: path of a TOML file, or what it would hold; see `jaxmoe.sweeps.spec`.
        out: the sweep's folder: new, empty, or with an unfinished sweep of the same spec.
        overrides: `key=value` texts, or a mapping of dotted keys, that change the spec.
        shard: "i/n" trains every n-th agent only, from the i-th on; `merge` puts the shards together.
        checkpoint_minutes: how often the state of an unfinished chunk is saved.
        compilation_cache: keep compiled programs in the user's cache folder.
        report: told how the sweep goes.

    Raises:
        InputError: a key or a value of the spec is not allowed, the folder holds something else, is in use or damaged,
            or cannot be written.
    """
    if compilation_cache:
        use_compilation_cache()
    checked, part = load_spec(spec, overrides), parse_shard(shard)
    if not checkpoint_minutes >= 0:
        raise InputError(f"checkpoint_minutes = {checkpoint_minutes} must be at least 0")
    table = spec_table(checked)
    plan = make_plan(checked, table)
    store = Store(out, checked, {"table_digest": table.meta.digest, "shard": str(part)})
    try:
        tables.write_agents(store, plan)
        with interruptible() as stop_requested:
            run = _Run(plan, table, store, part, checkpoint_minutes * 60, report, stop_requested)
            complete = run.train_all() and run.evaluate_references()
        report.stage("writing the tables")
        found = tables.collect(store, plan, table)
        if complete:
            tables.write(store, found)
    finally:
        store.close()
    return Sweep(Path(out), **found, varied=plan.varied, interrupted=not complete)


def spec_table(spec: SweepSpec) -> ExpertTable:
    """The expert table that a spec names."""
    return load_table(spec.table, relevance=spec.relevance)


class _Run:
    """A sweep at work."""

    def __init__(
        self,
        plan: Plan,
        table: ExpertTable,
        store: Store,
        shard: Shard,
        checkpoint_s: float,
        report: Reporter,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.plan, self.table, self.store, self.shard = plan, table, store, shard
        self.checkpoint_s, self.report, self.stop_requested = checkpoint_s, report, stop_requested
        self.progress = _Tally(plan, shard, store)

    def train_all(self) -> bool:
        """Train what is not trained yet; whether all is done."""
        return all(self._train_group(group) for group in self.plan.groups)

    def evaluate_references(self) -> bool:
        """Evaluate the references in every environment where that is not done yet; whether all is done."""
        if not self.plan.spec.references:
            return True
        talliers: dict[str, Any] = {}
        for number in self.shard.of(range(len(self.plan.places))):
            name = f"references-{number:05d}"
            if name in self.store.done:
                continue
            if self.stop_requested():
                return False
            place = self.plan.places[number]
            env, splits = environments(place.scenario, self.table, place.settings, place.params)
            key = f"{env} {splits['train'].max_steps_in_episode}"
            if key not in talliers:
                talliers[key] = reference_tallier(env, splits["train"], SEED, self.plan.spec.slots)
            self.report.stage(f"evaluating the references, environment {number + 1} of {len(self.plan.places)}")
            rows = reference_rows(number, talliers[key](splits, None), self.table)
            self.store.add(name, {"references.parquet": partial(rows.to_parquet, index=False)})
        return True

    def _train_group(self, group: Group) -> bool:
        agents = self.shard.of(group.agents)
        if all(agent in self.progress.trained for agent in agents):
            return True
        trainer = GroupTrainer(self.plan, group, self.table)
        self.report.stage(f"compiling {group}, {len(agents)} agents of {size(trainer.bytes_per_agent())} each")
        width = self._width(trainer, len(agents))
        begin = 0
        while begin < len(agents):
            chunk, name = agents[begin : begin + width], f"agents-{group.number:03d}-{begin:07d}"
            if name not in self.store.done:
                try:
                    trained = self._train_chunk(trainer, chunk, name)
                except jax.errors.JaxRuntimeError as error:
                    width = self._halved(error, group, width, begin)
                    continue
                if trained is None:
                    return False
                self.store.add(name, trained.writers(), agents=chunk, **_provenance(trainer))
                self.progress.finish(chunk, trained)
                self.report.progress(self.progress.now())
            if self.stop_requested():
                return False
            begin += len(chunk)
        return True

    def _train_chunk(self, trainer: GroupTrainer, agents: list[int], name: str) -> Trained | None:
        saved_at = time.monotonic()

        def on_stretch(training: Trainer, evaluated: pd.DataFrame) -> Verdict:
            nonlocal saved_at
            self.report.progress(self.progress.during(training, evaluated))
            if self.stop_requested():
                self.report.stage("stopping: saving where the unfinished chunk stands")
                return "save and stop"
            if time.monotonic() - saved_at < self.checkpoint_s:
                return "go on"
            saved_at = time.monotonic()
            return "save"

        return trainer.train(agents, self.store.checkpoint(name), on_stretch)

    def _width(self, trainer: GroupTrainer, agents: int) -> int:
        """Agents of a chunk: as the spec says, or as many as fit the memory and train about a minute; then frozen."""
        frozen = self.store.widths.get(str(trainer.group.number))
        if frozen is not None:
            return frozen
        wanted = self.plan.spec.chunk_width
        width = automatic_width(trainer, agents) if wanted == "auto" else wanted
        self.store.set_width(trainer.group.number, width)
        return width

    def _halved(self, error: jax.errors.JaxRuntimeError, group: Group, width: int, done: int) -> int:
        """Half the width after an error that says that the memory is exhausted; any other error is raised again."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        if done or width == 1:
            raise InputError(
                f"the memory does not suffice for {width} agents of {group}, trained together; free some, or choose "
                "fewer with chunk_width in a new folder; what is finished is kept"
            ) from error
        self.report.stage(f"the memory does not suffice for chunks of {width} agents of {group}: halving them")
        self.store.set_width(group.number, width // 2)
        return width // 2


def automatic_width(trainer: GroupTrainer, agents: int) -> int:
    """Whole blocks of agents that fit the memory and, as measured, take about a minute to train."""
    fitting = memory_width(trainer, agents)
    if fitting == block_width():
        return fitting
    return block_width() * max(1, min(fitting // block_width(), int(CHUNK_S / trainer.seconds_per_block())))


def memory_width(trainer: GroupTrainer, agents: int) -> int:
    """As many whole blocks as there are agents for, in at most half of the free memory; at least one."""
    fitting = int(MEMORY_SHARE * free_memory() / (trainer.bytes_per_agent() * block_width()))
    return min(block_width() * max(1, fitting), padded_count(agents))


def free_memory() -> int:
    """Bytes free on all local devices together."""
    statistics = [device.memory_stats() for device in jax.local_devices()]
    if all(statistics):
        return sum(found["bytes_limit"] - found["bytes_in_use"] for found in statistics)
    return psutil.virtual_memory().available


class _Tally:
    """How far a sweep is."""

    def __init__(self, plan: Plan, shard: Shard, store: Store) -> None:
        self.plan = plan
        self.agents = len(shard.of(range(plan.num_agents)))
        self.trained: set[int] = set()
        self.diverged, self.best = 0, (float("-inf"), "")
        self._began, self._env_steps = time.monotonic(), 0  # trained by this process
        for name, about in store.done.items():
            if "agents" in about:
                self._count(about["agents"], pd.read_parquet(store.path(name) / "curves.parquet"))

    def finish(self, agents: list[int], trained: Trained) -> None:
        """A chunk is done."""
        self._count(agents, trained.curves)
        self._env_steps += self.plan.spec.env_steps * len(agents)

    def during(self, training: Trainer, evaluated: pd.DataFrame) -> SweepProgress:
        """Where the sweep stands in the middle of a chunk."""
        share = training.reached / training.iterations * training.engine.agents
        return self._at(share, training.pace.env_steps_per_s, self._better(evaluated))

    def now(self) -> SweepProgress:
        """Where the sweep stands between two chunks."""
        return self._at(0.0, None, self.best)

    def _count(self, agents: list[int], curves: pd.DataFrame) -> None:
        last = curves.groupby("agent").tail(1)
        self.trained |= set(agents)
        self.diverged += int(last["diverged"].sum())
        self.best = self._better(last)

    def _better(self, evaluated: pd.DataFrame) -> tuple[float, str]:
        best = int(evaluated["train_qos"].to_numpy().argmax())
        number = self.plan.configuration_of[int(evaluated["agent"].iloc[best])]
        point = self.plan.configurations[number]
        what = f"{point.algorithm} in {point.scenario}, configuration {number}"
        return max(self.best, (float(evaluated["train_qos"].iloc[best]), what))

    def _at(self, share: float, env_steps_per_s: float | None, best: tuple[float, str]) -> SweepProgress:
        steps = self.plan.spec.env_steps
        done = self._env_steps + share * steps
        average = done / (time.monotonic() - self._began)
        return SweepProgress(
            agents_done=len(self.trained),
            agents=self.agents,
            share_done=(len(self.trained) + share) / self.agents,
            env_steps_per_s=average if env_steps_per_s is None else env_steps_per_s,
            seconds_left=(self.agents - len(self.trained) - share) * steps / max(average, 1e-9),
            best_qos=best[0],
            best=best[1],
            diverged=self.diverged,
        )


def _provenance(trainer: GroupTrainer) -> dict[str, Any]:
    """Where a chunk's numbers come from; their last bits depend on the device and on the lanes."""
    device = jax.devices()[0]
    return {
        "versions": versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.local_device_count()},
        "lanes": lanes(),
        "env_steps_per_s": round(trainer.pace.median()),
    }
