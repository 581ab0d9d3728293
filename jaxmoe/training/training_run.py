"""The training of a job's agents: from where its checkpoint stands to the tables and policies that it leaves."""

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from jaxmoe.analysis.intervals import Brought
from jaxmoe.table.splits import choosing
from jaxmoe.training import checkpoints
from jaxmoe.training.arrays import pieces, read_arrays
from jaxmoe.training.attempt import Attempt, StoppedError, leaves_host_idle
from jaxmoe.training.evaluation import evaluation_rows, results_of
from jaxmoe.training.events import Advanced, CheckpointSaved, Compiled, Evaluated, JobFinished, JobStarted, Noted
from jaxmoe.training.inputs import checked_config
from jaxmoe.training.keys import purpose_key
from jaxmoe.training.prepared import prepare, started
from jaxmoe.training.program import Agents, bind
from jaxmoe.training.stored import numbers_in, parquet, state_rows
from jaxmoe.training.trainer import Leg, Trainer

CHECKPOINT_SHARE = 0.1  # of the time, at most, goes into checkpoints


class TrainingRun(Attempt):
    """Trains the agents of a job, and evaluates them."""

    def compile(self) -> None:
        """Compile what the job runs, and run nothing; raises `StoppedError` between two programs."""
        job = self.job
        self.prepared = prepare(job.signature, self.table, job.requests, job.keeping)
        if job.start.kind == "policy":
            self.prepared = self.prepared._replace(program=self.prepared.warming_up)
        engine = self._legs()[0].engine
        engine.compile(job.start.kind == "fresh", self.check)
        self.prepared.evaluate.compile(engine.shape()[0].state.policy, engine.overrides[0])

    def run(self) -> None:
        """Train to the end; raises `StoppedError` after a checkpoint."""
        job, signature = self.job, self.job.signature
        self.prepared = prepare(signature, self.table, job.requests, job.keeping)
        if job.start.kind == "policy":
            self.prepared = started(self.prepared, read_arrays(self.storage, job.start.policy))
        self.saver = checkpoints.Saver(self.storage, job, self.name)
        self._warn_if_nothing_is_learned()
        trainer = Trainer(self._legs())
        self._saved_at, self._saving_s = time.monotonic(), 0.0
        self._queued: Callable[[], float] = lambda: 0.0
        curves = self._begin(trainer)
        ends = sorted(set(map(self.prepared.iterations, job.evaluate_at)))
        found: dict[str, Brought] | None = None
        try:
            if not curves and ends[0] == trainer.reached:
                found = self._evaluate(trainer, curves, last=trainer.reached == ends[-1])
            for end in (end for end in ends if end > trainer.measured):
                if trainer.over:
                    break
                for _ in trainer.advance_to(end, self._note_queued):
                    self._look(trainer, curves)
                found = self._evaluate(trainer, curves, last=end == ends[-1])
            if found is None:
                found = self._evaluate_kept(trainer)
        except StoppedError:
            if curves:
                self._save(trainer, curves)
            raise
        self._finish(trainer, curves, found)

    def _warn_if_nothing_is_learned(self) -> None:
        """Say beforehand that a run ends before anything is learned, or that agents have no learning rate."""
        signature, prepared = self.job.signature, self.prepared
        config = checked_config(prepared.module.Config, signature.config)
        waits = getattr(config, "warmup_iterations", 0)
        if prepared.iterations(self.job.env_steps) <= waits:
            steps = waits * prepared.algorithm.env_steps
            self.tell(Noted(f"{signature}: nothing is learned, as the first {steps:,} env steps are the warm-up"))
        still = int((self.rows.get("learning_rate", pd.Series([1.0])) < np.finfo(np.float32).tiny).sum())
        if still:
            self.tell(Noted(f"{signature}: {still:,} of {len(self.rows):,} agents learn nothing: learning_rate is 0"))

    def _begin(self, trainer: Trainer) -> list[pd.DataFrame]:
        """Make the agents, or take them from where they are; the curves so far."""
        job, engine = self.job, trainer.engine
        [shape, *_] = engine.shape()
        restored, said = checkpoints.restore(self.storage, job, shape, self.width)
        if said:
            self.tell(Noted(said))
        if restored is not None:
            trainer.batches, trainer.reached, trainer.measured = restored.batches, restored.reached, restored.measured
        elif job.start.kind == "states":
            trainer.batches = checkpoints.batches_from(shape, len(job.rows), self.width, self._states())
            trainer.reached = trainer.measured = self.prepared.iterations(job.begins_at)
        else:
            trainer.batches = engine.init()
        curves = [] if restored is None else restored.curves
        served = sum(int(each.drop_duplicates("env_steps").get("requests", pd.Series([0])).sum()) for each in curves)
        begun = JobStarted(job.number, str(job.signature), len(job.rows), trainer.env_steps, served)
        self.started(begun, trainer.iterations * engine.env_steps)
        return curves

    def _states(self) -> checkpoints.ReadRows:
        """Rows of the final states of other jobs."""
        readers: dict[int, checkpoints.ReadRows] = {}
        for number in sorted({number for number, _ in self.job.start.rows}):
            readers[number] = state_rows(self.storage, number)

        def read(name: str, rows: Sequence[int]) -> np.ndarray:
            by_job = itertools.groupby((self.job.start.rows[row] for row in rows), key=lambda wanted: wanted[0])
            return np.concatenate([readers[number](name, [row for _, row in wanted]) for number, wanted in by_job])

        return read

    def _legs(self) -> list[Leg]:
        """The phases of the job in iterations."""
        job, iterations = self.job, self.prepared.iterations
        root = purpose_key(job.root_seed, job.purpose)
        return [
            Leg(
                bind(self.prepared.program, self._agents(phase.hypers), self.width, root),
                iterations(phase.until),
                iterations(phase.schedule_begin),
                iterations(phase.schedule_begin + phase.schedule_steps) - iterations(phase.schedule_begin),
            )
            for phase in job.phases
        ]

    def _agents(self, changed: Mapping[str, Sequence[float]]) -> Agents:
        """The rows of the plan, as the program takes them."""
        names = self.prepared.module.Hypers._fields
        hypers = {name: changed.get(name, self.rows[name].tolist()) for name in names}
        return Agents(
            jnp.array(self.rows["seed"].tolist(), jnp.int32),
            self.prepared.module.Hypers(**{name: jnp.array(values, jnp.float32) for name, values in hypers.items()}),
            {name: self._numbers(name) for name in self.job.numbers},
        )

    def _numbers(self, name: str) -> Array:
        """A number of each agent's environment, [A], or one for each device, [A, D]."""
        found = jnp.array(numbers_in(self.rows[name]), jnp.float32)
        devices = self.prepared.env.settings.num_devices
        return found if found.ndim == 1 else jnp.repeat(found, devices // found.shape[1], axis=1)

    def _look(self, trainer: Trainer, curves: list[pd.DataFrame]) -> None:
        """After a segment: tell, save if it is time, stop if somebody wants it."""
        if trainer.pace.segments == 1:  # it has compiled, and says nothing of the speed
            self.tell(Compiled(self.job.number, time.monotonic() - self.began))
        else:
            self.advanced(
                Advanced(
                    self.job.number,
                    len(self.job.rows),
                    trainer.env_steps,
                    trainer.iterations * trainer.engine.env_steps,
                    trainer.pace.env_steps_per_s,
                    float(curves[-1]["train_qos"].tail(len(self.job.rows)).mean()) if curves else float("nan"),
                    int(trainer.engine.diverged(trainer.batches).sum()),
                    int(curves[-1]["requests"].iloc[-1]) if curves and "requests" in curves[-1] else 0,
                    self.prepared.evaluate.requests(),
                )
            )
        self.check()
        since = time.monotonic() - self._saved_at
        if since >= self.checkpoint_every_s and (since >= self._saving_s / CHECKPOINT_SHARE):
            self._save(trainer, curves)

    def _save(self, trainer: Trainer, curves: list[pd.DataFrame]) -> None:
        began = time.monotonic()
        self.saver.save(trainer, curves)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - began
        self.tell(CheckpointSaved(self.job.number, trainer.env_steps))

    def _evaluate(self, trainer: Trainer, curves: list[pd.DataFrame], last: bool) -> dict[str, Brought] | None:
        """Evaluate the agents, and add a row of each that learns to the curves, which are always of the first look.

        What the kept policies bring on all requests is returned, if these are the policies that are evaluated here.
        Where nothing depends on it and the host has nothing else to do, a look is queued only, and noted while the next
        segment runs.
        """
        engine, evaluate = trainer.engine, self.prepared.evaluate
        policies = [batch.state.policy for batch in trainer.batches]
        whole, learned = last and not engine.keeping.looks, ~engine.stopped(trainer.batches)
        agents = policies, engine.overrides, engine.agents
        brought = evaluate(*agents, None, self.check) if whole else None
        fetch = evaluate.look(*agents, self.check) if brought is None else None
        columns = {
            "agent": np.asarray(self.job.rows, np.int64),
            "env_steps": engine.ended_at(trainer.batches, trainer.reached) * engine.env_steps,
            "diverged": engine.diverged(trainer.batches),
            "requests": evaluate.requests(1),
            **(trainer.take_metrics() if trainer.reached > trainer.measured else {}),  # nothing stops the job from here
        }
        env_steps = trainer.env_steps

        def note() -> float:
            found, free = fetch() if fetch else brought or {}, time.monotonic()
            qos = {f"{split}_qos": each.first_look()[:, 0] for split, each in found.items()}
            rows = pd.DataFrame({**columns, **qos})
            if curves or self.job.start.kind != "states":  # else the job before has decided by this evaluation
                chooses = self.job.keeping.split or choosing(found)
                trainer.look(qos[f"{chooses}_qos"], env_steps >= self.job.evaluation_distance)
            curves.append(rows[learned] if curves else rows)
            self._tell_evaluated(env_steps, found, None if whole else 1)
            return free

        self._queued = note
        if last or engine.keeping.looks or not leaves_host_idle(self.job.platform):
            self._note_queued()
        return brought

    def _note_queued(self) -> float:
        """Note the evaluation that is queued, if one is; when the devices were done with it."""
        noted, self._queued = self._queued, lambda: 0.0
        return noted()

    def _evaluate_kept(self, trainer: Trainer) -> dict[str, Brought]:
        """What the kept policies bring on all requests."""
        engine = trainer.engine
        policies = engine.kept_policies(trainer.batches)
        found = self.prepared.evaluate(policies, engine.overrides, engine.agents, None, self.check)
        self._tell_evaluated(trainer.env_steps, found, None)
        return found

    def _tell_evaluated(self, env_steps: int, found: Mapping[str, Brought], groups: int | None) -> None:
        qos = found["train"].mean()[:, 0]
        served = self.prepared.evaluate.requests(groups), self.prepared.evaluate.requests()
        self.tell(Evaluated(self.job.number, env_steps, float(qos.mean()), float(qos.max()), *served, groups is None))

    def _finish(self, trainer: Trainer, curves: list[pd.DataFrame], found: dict[str, Brought]) -> None:
        job, engine = self.job, trainer.engine
        actor = self.prepared.algorithm.actor
        tensors, network = actor.tensors(engine.policies(trainer.batches)), actor.network._asdict()
        about: dict[str, Any] = {"network": network, "preferences": self.prepared.module.preferences}
        about["hypers"] = self.prepared.module.Hypers._fields
        diverged = int(engine.diverged(trainer.batches).sum())
        speed = round(trainer.pace.median())
        rows = pd.concat(curves, ignore_index=True)
        results = results_of(rows, found, self.table.experts)
        if job.keeping.stop.stops:
            planned = self.prepared.iterations(job.env_steps)
            results["stopped"] = engine.ended_at(trainer.batches, trainer.reached) < planned
        if job.keeping.keep == "best":
            results["kept_env_steps"] = engine.kept_at(trainer.batches, trainer.reached) * engine.env_steps
        if job.start.kind == "states":  # where the earlier job ended is in its own curves
            rows = rows[rows["env_steps"] > self.prepared.iterations(job.begins_at) * engine.env_steps]
        self.store(
            {
                "results.parquet": parquet(results),
                "curves.parquet": parquet(rows),
                "evaluation.parquet": parquet(evaluation_rows({"agent": job.rows}, found, self.table.experts)),
                "policies.safetensors": pieces(
                    {name: np.asarray(leaf, np.float32) for name, leaf in tensors.items()},
                    {"network": json.dumps(network)},
                ),
            },
            {
                "agents": len(job.rows),
                "env_steps": trainer.env_steps,
                "diverged": diverged,
                "env_steps_per_s": speed,
                **about,
            },
            pieces(checkpoints.state_arrays(trainer.batches, engine.agents)) if job.keep_states else None,
        )
        self.saver.drop()
        self.tell(JobFinished(job.number, len(job.rows), diverged, time.monotonic() - self.began, speed))
