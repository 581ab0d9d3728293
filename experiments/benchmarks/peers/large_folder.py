"""A large experiment that nobody has trained: planned by the product, its jobs made up in the shapes of the product's.

    python -m peers.large_folder SPEC FOLDER

It says how many agents and jobs there are.
"""

import json
import secrets
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe import load_table
from jaxmoe.analysis.intervals import UnitSums
from jaxmoe.experiment.creating import create
from jaxmoe.experiment.spec import load_spec
from jaxmoe.experiment.tables import read_contents
from jaxmoe.table import ExpertTable
from jaxmoe.training.arrays import pieces
from jaxmoe.training.evaluation import EPISODE_UNITS, Brought, evaluation_rows, metric_names, results_of
from jaxmoe.training.job import Job
from jaxmoe.training.prepared import prepare
from jaxmoe.training.program import Agents
from jaxmoe.training.provenance import device, versions
from jaxmoe.training.running import run_job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import finite, is_done, parquet, plan_rows, write_noted

TRAIN = 0.75  # share of the prompts


def main() -> None:
    spec, folder = map(Path, sys.argv[1:])
    table = load_table()
    storage = create(load_spec(spec), table, folder)
    generator = np.random.default_rng(0)
    jobs = read_contents(storage).jobs
    for job in jobs:
        if job.kind == "baselines":
            run_job(job, storage)
        elif not is_done(storage, job):
            make_up(job, storage, table, generator)
    print(json.dumps({"agents": sum(len(job.rows) for job in jobs if job.kind == "train"), "jobs": len(jobs)}))


def make_up(job: Job, storage: Storage, table: ExpertTable, generator: np.random.Generator) -> None:
    """What a training job leaves behind, with numbers that depend a little on its hyperparameters."""
    prepared = prepare(job.signature, table, job.requests)
    rows = plan_rows(storage, job)
    width = jax.local_device_count()
    ones = jnp.ones(width)
    hypers, actor = prepared.module.Hypers, prepared.algorithm.actor
    shape = prepared.program.shape(Agents(jnp.zeros(width, jnp.int32), hypers(*(ones for _ in hypers._fields)), {}))
    skill = 0.55 - 0.05 * np.log10(rows["learning_rate"].to_numpy() / 5e-3) ** 2
    skill = skill + generator.normal(0, 0.005, len(rows))
    prompts = table.num_prompts
    last = int(TRAIN * prompts)
    found = {
        "train": brought(skill, range(last), prompts, job.requests, table.experts, generator),
        "test": brought(skill - 0.02, range(last, prompts), prompts, job.requests, table.experts, generator),
    }
    curves = pd.concat(
        [
            pd.DataFrame(
                {
                    "agent": np.asarray(job.rows, np.int64),
                    "env_steps": env_steps,
                    "diverged": False,
                    **({name: generator.random(len(rows), np.float32) for name in shape.totals} if env_steps else {}),
                    "train_qos": skill * (env_steps / job.env_steps) ** 0.1,
                    "test_qos": skill * (env_steps / job.env_steps) ** 0.1 - 0.02,
                }
            )
            for env_steps in job.evaluate_at
        ],
        ignore_index=True,
    )
    policies = {
        name: generator.standard_normal((len(rows), *leaf.shape[1:]), np.float32)
        for name, leaf in actor.tensors(shape.state.policy).items()
    }
    files = {
        "results.parquet": parquet(results_of(curves, found, table.experts)),
        "curves.parquet": parquet(curves),
        "evaluation.parquet": parquet(evaluation_rows({"agent": job.rows}, found, table.experts)),
        "policies.safetensors": pieces(policies, {"network": json.dumps(actor.network._asdict())}),
    }
    attempt = secrets.token_hex(4)
    done = {
        "attempt": attempt,
        "files": {name: write_noted(storage, f"{job.folder}/{attempt}/{name}", of) for name, of in files.items()},
        "state": None,
        "agents_per_device": job.agents_per_device,
        "seconds": 0.0,
        "versions": versions(),
        "device": device(),
        "agents": len(rows),
        "env_steps": job.env_steps,
        "diverged": 0,
        "env_steps_per_s": 500_000,
        "network": actor.network._asdict(),
        "preferences": prepared.module.preferences,
        "hypers": hypers._fields,
    }
    storage.create(f"{job.folder}/done.json", json.dumps(finite(done), indent=1).encode())


def brought(
    qos: np.ndarray,
    met: range,
    prompts: int,
    requests: int,
    experts: tuple[str, ...],
    generator: np.random.Generator,
) -> Brought:
    """An evaluation of agents with these mean QoS, by the prompts that they met and by episodes."""
    metrics = len(metric_names(experts))

    def sums(units: int, used: range) -> UnitSums:
        counts = np.zeros((len(qos), units))
        counts[:, list(used)] = requests // len(used)
        means = generator.uniform(0.4, 0.6, (len(qos), units, metrics))
        means[..., 0] = qos[:, None] + generator.normal(0, 0.05, units)
        return UnitSums(means * counts[..., None], counts)

    return Brought(sums(prompts, met), sums(EPISODE_UNITS, range(EPISODE_UNITS)))


if __name__ == "__main__":
    main()
