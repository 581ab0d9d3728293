"""A worker that only sleeps and writes: it stores what a job would, without training anybody.

All that it stores is a function of the job and of its agents, so that whoever did a job, and how often it was begun,
makes no difference. It goes on from its checkpoint, stops when it is told to, ends when its driver does, and dies where
it is told to, as a machine would: by SIGKILL.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.training.arrays import pieces
from jaxmoe.training.attempt import Attempt
from jaxmoe.training.evaluation import metric_names
from jaxmoe.training.events import SILENT, Advanced, JobStarted
from jaxmoe.training.job import Job, find_job
from jaxmoe.training.provenance import versions
from jaxmoe.training.remote import storage_at
from jaxmoe.training.storage import Content, Storage
from jaxmoe.training.stored import is_done, write_noted

PARTS = 4  # of the sleep of a job; a checkpoint is written after half of them
WRITES = 8  # of a job: progress, checkpoint and its state.json, four files of results, done.json
ASLEEP = 0  # where a worker may die, beside in its writes, which count from one
versions()  # it asks git, once for all workers: they are forked when this module is there, and JAX has not started
NETWORK = {"inputs": 4, "hidden": [4], "activation": "tanh", "heads": [["logits", 4, 0.01]]}


class Order(NamedTuple):
    """What a driver has a worker do."""

    job: int
    seconds: float  # a job sleeps so long on average
    dies: int | None = None  # ASLEEP, or in which of its writes


def seconds_of(job: int, mean: float) -> float:
    """How long a job sleeps in all."""
    return mean * random.Random(job).uniform(0.5, 1.5)


def work(connection: Connection, where: str) -> None:
    """Do one job after the other until the driver is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the driver says when to stop
    storage = storage_at(where)
    with contextlib.suppress(EOFError, OSError):
        while (order := connection.recv()) is not None:
            try:
                kind, said = _do(order, storage, connection)
            except (EOFError, OSError):
                raise
            except Exception as error:
                kind, said = "failed", f"{type(error).__name__}: {error}"
            connection.send((order.job, kind, said))


def _do(order: Order, storage: Storage, connection: Connection) -> tuple[str, str]:
    """Sleep, write a checkpoint, sleep, and store."""
    job = find_job(storage, order.job)
    if is_done(storage, job):  # by a worker that died before it said so
        return "done", ""
    attempt = Attempt(job, _Mortal(storage, order.dies), SILENT, float("inf"), lambda: False, job.agents_per_device)
    agents, part_s = len(job.rows), seconds_of(job.number, order.seconds) / PARTS
    begun, own = _reached(storage, job), ""
    attempt.started(JobStarted(job.number, str(job.signature), agents, begun * job.env_steps // PARTS), job.env_steps)
    for part in range(begun, PARTS):
        if order.dies == ASLEEP and part == PARTS - 1:
            connection.poll(0.5 * part_s)
            os.kill(os.getpid(), signal.SIGKILL)
        if connection.poll(part_s) and connection.recv() is None:
            return "stopped", ""
        steps = (part + 1) * job.env_steps // PARTS
        attempt.advanced(Advanced(job.number, agents, steps, job.env_steps, float("nan"), float("nan"), 0))
        if part + 1 == PARTS // 2:
            own = _save(attempt, part + 1)
    attempt.store(_files(attempt), _about(attempt))
    if own:
        storage.delete(own)
    return "done", ""


def _save(attempt: Attempt, reached: int) -> str:
    """A checkpoint as the product names them; the name of its file."""
    folder = f"{attempt.job.folder}/checkpoint"
    name = f"{attempt.name}-{reached}.safetensors"
    state = pieces({"agents/state": _numbers(attempt.job, (64,))})
    about = {"file": name, **write_noted(attempt.storage, f"{folder}/{name}", state), "reached": reached}
    attempt.storage.write(f"{folder}/state.json", json.dumps(about).encode())
    return f"{folder}/{name}"


def _reached(storage: Storage, job: Job) -> int:
    """The part after which the checkpoint was written that is there and whole; 0 if none is."""
    try:
        about = json.loads(storage.read(f"{job.folder}/checkpoint/state.json"))
        content = storage.read(f"{job.folder}/checkpoint/{about['file']}")
    except FileNotFoundError:
        return 0
    assert hashlib.sha256(content).hexdigest() == about["sha256"], "a checkpoint is not what was written"
    return int(about["reached"])


def _files(attempt: Attempt) -> dict[str, Content]:
    """What a training job stores; tables are made without pandas, which is slow where they are many and small."""
    job, table = attempt.job, attempt.table
    names, agents = metric_names(table.experts), np.asarray(job.rows, np.int64)
    results: dict[str, Any] = {"agent": agents, "env_steps": np.full(len(agents), job.env_steps)}
    results["diverged"] = np.zeros(len(agents), bool)
    parts, at = [], np.asarray(job.evaluate_at)
    curves: dict[str, Any] = {"agent": np.repeat(agents, len(at)), "env_steps": np.tile(at, len(agents))}
    curves["diverged"] = np.zeros(curves["agent"].size, bool)
    for split in sorted(set(table.meta.splits)):
        met = len(table.prompt_indices(split))
        requests = max(1, job.requests // met)
        sums = requests * _numbers(job, (met, len(names)))
        means = sums.sum(axis=1, dtype=np.float64) / (met * requests)
        results |= {f"{split}_{name}": means[:, number] for number, name in enumerate(names)}
        curves[f"{split}_qos"] = np.outer(means[:, 0], (1 + at) / (1 + job.env_steps)).ravel()
        rows = {"agent": np.repeat(agents, met), "split": [split] * sums[..., 0].size}
        rows |= {"by": ["prompts"] * sums[..., 0].size, "unit": np.tile(np.arange(met, dtype=np.int32), len(agents))}
        rows["requests"] = np.full(sums[..., 0].size, requests, np.int32)
        parts.append(pa.table(rows | {name: sums[..., number].ravel() for number, name in enumerate(names)}))
    return {
        "results.parquet": _parquet(pa.table(results)),
        "curves.parquet": _parquet(pa.table(curves)),
        "evaluation.parquet": _parquet(pa.concat_tables(parts)),
        "policies.safetensors": pieces(
            {"logits/layer0/kernel": _numbers(job, (4, 4)), "logits/layer0/bias": _numbers(job, (4,))},
            {"network": json.dumps(NETWORK)},
        ),
    }


def _parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def _about(attempt: Attempt) -> dict[str, Any]:
    module, job = registered_algorithm(attempt.job.signature.algorithm), attempt.job
    about = {"agents": len(job.rows), "env_steps": job.env_steps, "diverged": 0, "env_steps_per_s": 0}
    return about | {"network": NETWORK, "preferences": module.preferences, "hypers": module.Hypers._fields}


def _numbers(job: Job, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of each agent, that depend on who it is."""
    return np.stack([np.random.default_rng([job.number, row]).random(shape, np.float32) for row in job.rows])


class _Mortal:
    """A storage in whose n-th write the process dies, with half of it on the disk."""

    def __init__(self, storage: Storage, dies: int | None) -> None:
        self._storage, self._left = storage, dies or 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write(self, name: str, content: Content) -> None:
        self._storage.write(name, self._counted(content))

    def create(self, name: str, content: Content) -> bool:
        return self._storage.create(name, self._counted(content))

    def _counted(self, content: Content) -> Content:
        self._left -= 1
        return _half(content) if self._left == 0 else content


def _half(content: Content) -> Iterator[bytes]:
    whole = content if isinstance(content, bytes) else b"".join(content)
    yield whole[: len(whole) // 2]
    os.kill(os.getpid(), signal.SIGKILL)
