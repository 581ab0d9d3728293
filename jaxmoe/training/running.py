"""`run_job`: trains and evaluates the agents of a job, or evaluates baselines, and stores what it finds.

It needs the job and the folder of the experiment, and nothing else: whoever runs it, in whatever process, gets the same
results, bit for bit. It goes on from the job's checkpoint if there is one. A job counts once its `done.json` is there.
"""

import contextlib
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.analysis.intervals import Brought
from jaxmoe.devices import start_devices
from jaxmoe.env.scenarios import settings_of
from jaxmoe.errors import InputError
from jaxmoe.training import baseline_cache, checkpoints
from jaxmoe.training.arrays import pieces, read_arrays
from jaxmoe.training.baselines import BaselineEvaluation, facts
from jaxmoe.training.evaluation import evaluation_rows, results_of
from jaxmoe.training.events import (
    SILENT,
    Advanced,
    Callback,
    CheckpointSaved,
    Compiled,
    Evaluated,
    JobFinished,
    JobStarted,
    Noted,
    guarded,
)
from jaxmoe.training.inputs import environments
from jaxmoe.training.job import Job
from jaxmoe.training.keys import purpose_key
from jaxmoe.training.prepared import experiment_table, kept, prepare, started
from jaxmoe.training.program import Agents, bind
from jaxmoe.training.provenance import device, versions
from jaxmoe.training.storage import Content, Storage
from jaxmoe.training.stored import finite, is_done, parquet, plan_rows, state_rows, write_noted
from jaxmoe.training.trainer import Leg, Trainer

CHECKPOINT_S = 300.0  # s, between two checkpoints of a job
CHECKPOINT_SHARE = 0.1  # of the time, at most, goes into checkpoints
PROGRESS_S = 5.0  # s, between two notes of where a job stands

Stop = Callable[[], bool]


class Finished(NamedTuple):
    """What is stored of a job."""

    job: int
    complete: bool  # or stopped on the way, with a checkpoint
    seconds: float


class _StoppedError(Exception):
    """Somebody wants the end."""


def run_job(
    job: Job,
    storage: Storage,
    callback: Callback = SILENT,
    checkpoint_every_s: float = CHECKPOINT_S,
    stop: Stop = lambda: False,
) -> Finished:
    """Train, evaluate and store a job, from its checkpoint on if there is one.

    Args:
        job: what to do.
        storage: of the experiment.
        callback: told how it goes.
        checkpoint_every_s: seconds between two checkpoints; at most a tenth of the time goes into them.
        stop: asked between segments whether to save and stop.

    Raises:
        InputError: the job is for another kind of device, or a file cannot be written.
        OSError: a file cannot be read now.
    """
    start_devices()  # what else a variable could change is pinned below
    if is_done(storage, job):
        return Finished(job.number, True, 0.0)
    if job.platform != jax.default_backend():
        raise InputError(
            f"job {job.number} of {storage.where} is planned for {job.platform}, and this process has "
            f"{jax.default_backend()}; results would differ"
        )
    began, tell = time.monotonic(), guarded((callback,))
    runner = _TrainingRun if job.kind == "train" else _BaselineRun
    width = job.agents_per_device
    with _pinned(job):
        while True:
            try:
                with contextlib.suppress(_StoppedError):
                    runner(job, storage, tell, checkpoint_every_s, stop, width).run()
                    return Finished(job.number, True, time.monotonic() - began)
                return Finished(job.number, False, time.monotonic() - began)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or width == 1:
                    raise
                width //= 2
                tell(Noted(f"job {job.number} does not fit the memory: training {width} agents per device at once"))


class _Attempt:
    """One process at work on a job."""

    def __init__(
        self, job: Job, storage: Storage, tell: Callback, checkpoint_every_s: float, stop: Stop, width: int
    ) -> None:
        self.job, self.storage, self.tell, self.stop, self.width = job, storage, tell, stop, width
        self.checkpoint_every_s = checkpoint_every_s
        self.name = secrets.token_hex(4)
        self.table = experiment_table(storage, job.signature.table)
        self.rows = plan_rows(storage, job)
        self.began = time.monotonic()
        self._noted = float("-inf")

    def check(self) -> None:
        """End here if somebody wants the end."""
        if self.stop():
            raise _StoppedError

    def advanced(self, event: Advanced) -> None:
        """Tell where the job stands, and leave a note for whoever looks into the folder."""
        self.tell(event)
        if time.monotonic() - self._noted > PROGRESS_S:
            self._noted = time.monotonic()
            about = {**event._asdict(), "time": time.time()}
            self.storage.write(f"{self.job.folder}/progress.json", json.dumps(finite(about)).encode())

    def store(self, files: Mapping[str, Content], about: Mapping[str, Any], state: Content | None = None) -> None:
        """Store the results; the first attempt of a job that comes so far is the one that counts."""
        folder = f"{self.job.folder}/{self.name}"
        written = {name: write_noted(self.storage, f"{folder}/{name}", content) for name, content in files.items()}
        kept = None if state is None else write_noted(self.storage, f"{folder}/state.safetensors", state)
        done = {
            "attempt": self.name,
            "files": written,
            "state": kept,
            "agents_per_device": self.width,
            "seconds": round(time.monotonic() - self.began, 3),
            "versions": versions(),
            "device": device(),
            **about,
        }
        self.storage.create(f"{self.job.folder}/done.json", json.dumps(finite(done), indent=1).encode())


class _TrainingRun(_Attempt):
    """Trains the agents of a job, and evaluates them."""

    def run(self) -> None:
        """Train to the end; raises `_StoppedError` after a checkpoint."""
        job, signature = self.job, self.job.signature
        self.prepared = prepare(signature, self.table, job.requests)
        if job.start.kind == "policy":
            self.prepared = started(self.prepared, read_arrays(self.storage, job.start.policy))
        self.saver = checkpoints.Saver(self.storage, job, self.name)
        trainer = Trainer(self._legs())
        self._saved_at, self._saving_s = time.monotonic(), 0.0
        curves = self._begin(trainer)
        ends = sorted(set(map(self.prepared.iterations, job.evaluate_at)))
        found: dict[str, Brought] | None = None
        try:
            if not curves and ends[0] == trainer.reached:
                found = self._evaluate(trainer, curves, whole=trainer.reached == ends[-1])
            for end in (end for end in ends if end > trainer.measured):
                for _ in trainer.advance_to(end):
                    self._look(trainer, curves)
                found = self._evaluate(trainer, curves, whole=end == ends[-1])
            assert found is not None
        except _StoppedError:
            if curves:
                self._save(trainer, curves)
            raise
        self._finish(trainer, curves, found)

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
        self.tell(JobStarted(job.number, str(job.signature), len(job.rows), trainer.env_steps, served))
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
            {name: jnp.array(self.rows[name].tolist(), jnp.float32) for name in self.job.numbers},
        )

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

    def _evaluate(self, trainer: Trainer, curves: list[pd.DataFrame], whole: bool) -> dict[str, Brought]:
        """Evaluate the agents, and add a row of each to the curves; on the way one group of requests is enough."""
        engine = trainer.engine
        policies = [batch.state.policy for batch in trainer.batches]
        groups = None if whole else 1
        found = self.prepared.evaluate(policies, engine.overrides, engine.agents, groups, self.check)
        metrics = trainer.take_metrics() if trainer.reached > trainer.measured else {}
        rows = pd.DataFrame(
            {
                "agent": np.asarray(self.job.rows, np.int64),
                "env_steps": trainer.env_steps,
                "diverged": engine.diverged(trainer.batches),
                "requests": self.prepared.evaluate.requests(groups),
                **metrics,
                **{f"{split}_qos": brought.mean()[:, 0] for split, brought in found.items()},
            }
        )
        curves.append(rows)
        qos = rows["train_qos"]
        served = self.prepared.evaluate.requests(groups), self.prepared.evaluate.requests()
        self.tell(Evaluated(self.job.number, trainer.env_steps, float(qos.mean()), float(qos.max()), *served))
        return found

    def _finish(self, trainer: Trainer, curves: list[pd.DataFrame], found: dict[str, Brought]) -> None:
        job, engine = self.job, trainer.engine
        actor = self.prepared.algorithm.actor
        tensors, network = actor.tensors(engine.policies(trainer.batches)), actor.network._asdict()
        about: dict[str, Any] = {"network": network, "preferences": self.prepared.module.preferences}
        about["hypers"] = self.prepared.module.Hypers._fields
        diverged = int(engine.diverged(trainer.batches).sum())
        speed = round(trainer.pace.median())
        rows = pd.concat(curves, ignore_index=True)
        if job.start.kind == "states":  # where the earlier job ended is in its own curves
            rows = rows[rows["env_steps"] > self.prepared.iterations(job.begins_at) * engine.env_steps]
        self.store(
            {
                "results.parquet": parquet(results_of(rows, found, self.table.experts)),
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


class _BaselineRun(_Attempt):
    """Evaluates baselines in the environments of a job."""

    def run(self) -> None:
        """Evaluate all; raises `_StoppedError` on the way."""
        job, signature = self.job, self.job.signature
        self.tell(JobStarted(job.number, str(signature), len(job.rows), 0))
        frames = []
        for row, environment in enumerate(job.rows):
            own = {name: float(self.rows[name].iloc[row]) for name in job.numbers}
            found = baseline_cache.read(job, own)
            if found is None:
                found = self._evaluate(own)
                baseline_cache.write(job, own, found)
            frames.append(found.assign(environment=environment))
            self.advanced(Advanced(job.number, 0, row + 1, len(job.rows), 0.0, float("nan"), 0))
        table = pd.concat(frames, ignore_index=True)
        about = facts(settings_of(signature.scenario, signature.settings), job.families)
        self.store({"evaluation.parquet": parquet(table)}, {"environments": len(job.rows), "baselines": about})
        self.tell(JobFinished(job.number, 0, 0, time.monotonic() - self.began, 0.0))

    def _say(self, family: str) -> None:
        self.tell(Noted(f"job {self.job.number}: evaluating {family}", progress=True))

    def _evaluate(self, numbers: Mapping[str, float]) -> pd.DataFrame:
        """What each baseline brings in an environment of the signature, on each split."""
        signature, job = self.job.signature, self.job
        env, splits = environments(
            signature.scenario, self.table, signature.settings, {**signature.static_numbers, **numbers}
        )
        evaluate = kept(
            _BASELINES,
            (signature.key, self.table.meta.digest, job.requests, job.families, jax.local_device_count()),
            lambda: BaselineEvaluation(env, splits["train"], job.requests, job.families),
        )
        frames = [
            evaluation_rows({"policy": [name]}, {split: brought}, self.table.experts)
            for split, policies in evaluate(splits, self.check, self._say).items()
            for name, brought in policies.items()
        ]
        return pd.concat([frame.astype({"split": str, "by": str}) for frame in frames], ignore_index=True)


_BASELINES: dict[Any, BaselineEvaluation] = {}  # by all that shapes them


@contextlib.contextmanager
def _pinned(job: Job) -> Iterator[None]:
    """What an environment variable could change, as the job has it."""
    precision = None if job.matmul_precision == "default" else job.matmul_precision
    with (
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.enable_x64(False),
        jax.default_matmul_precision(precision),
    ):
        yield
