"""`train`: one configuration, many seeds, side by side in one compiled program."""

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.devices import use_compilation_cache
from jaxmoe.env.evaluation import best_reference
from jaxmoe.files import claim_folder
from jaxmoe.intervals import Tally
from jaxmoe.progress import SILENT, Progress, Reporter, size
from jaxmoe.sweeps.engine import Agents, make_engine
from jaxmoe.sweeps.evaluating import Judge, add, comparison, level_table, tally_references, with_normalised
from jaxmoe.sweeps.inputs import (
    algorithm_module,
    checked_config,
    checked_hypers,
    environments,
    require_positive,
    seed_list,
)
from jaxmoe.sweeps.loop import Pace, Trainer, curve_rows, evaluation_times, interruptible
from jaxmoe.sweeps.run import Run, Training
from jaxmoe.sweeps.starting import Start
from jaxmoe.table import ExpertTable, load_table


def train(
    algorithm: str = "ppo",
    scenario: str = "oneshot",
    *,
    seeds: int | Iterable[int] = 16,
    env_steps: int = 500_000,
    hypers: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | None = None,
    params: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | None = None,
    evaluations: int = 20,
    root_seed: int = 0,
    init_from: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    compilation_cache: bool = True,
    report: Reporter = SILENT,
) -> Training:
    """Train one agent per seed, side by side, and compare them with every reference.

    Args:
        algorithm: "ppo", "dqn" or "sac".
        scenario: "oneshot", "fading" or "queueing".
        seeds: how many agents, from seed 0; or their seeds.
        env_steps: environment steps of each agent, rounded up to whole iterations.
        hypers: hyperparameters that differ from the algorithm's `Hypers`.
        config: static configuration that differs from the algorithm's `Config`.
        params: numbers of the scenario to change, such as `{"latency_weight": 0.05}`.
        settings: static settings of the scenario to change, such as `{"num_replicas": 2}`.
        table: what the experts write; the shipped table if absent.
        evaluations: how often the greedy policies are evaluated at equal distances; at the start more often.
        root_seed: all agents' keys are derived from it and from their seeds.
        init_from: a policy exported as safetensors, that all agents go on from. Critics, moments and replay are fresh.
        out: an empty or new folder for the result files.
        compilation_cache: keep compiled programs in the user's cache folder.
        report: told how the run goes.

    Raises:
        InputError: an unknown name, a value that is not allowed, or an output folder that holds something.
    """
    if compilation_cache:
        use_compilation_cache()
    table = load_table() if table is None else table
    module = algorithm_module(algorithm)
    chosen_hypers = checked_hypers(module.Hypers, hypers or {})
    chosen_config = checked_config(module.Config, config or {})
    env, splits = environments(scenario, table, settings or {}, params or {})
    chosen_seeds = seed_list(seeds)
    require_positive("env_steps", env_steps)
    require_positive("evaluations", evaluations)
    bound = module.make(env, chosen_config, splits["train"])
    start = None if init_from is None else Start.read(init_from, bound, chosen_config, env, splits["train"], table)
    if out is not None:
        claim_folder(out)

    tallies = tally_references(env, splits, report)
    agents = Agents(
        jnp.array(chosen_seeds, jnp.int32),
        jax.tree.map(lambda value: jnp.full(len(chosen_seeds), value, jnp.float32), chosen_hypers),
        {},
    )
    engine = make_engine(bound if start is None else start.algorithm, splits["train"], agents, root_seed)
    report.stage(f"compiling {algorithm} for {len(chosen_seeds)} agents of {size(engine.bytes_per_agent())} each")
    trainer = Trainer(engine, -(-env_steps // engine.env_steps), Pace())
    judge, levels = Judge(bound, env, splits), level_table(tallies, best_reference(env))
    who = {"agent": range(engine.agents), "seed": chosen_seeds}
    began, curves = time.monotonic(), []

    def evaluate_now(metrics: Mapping[str, np.ndarray]) -> dict[str, Tally]:
        found = judge(trainer.blocks, engine)
        rows = curve_rows(who, trainer.env_steps, metrics, found)
        curves.append(with_normalised(rows, levels))
        return found

    def say_where_it_stands() -> None:
        report.progress(
            Progress(
                env_steps=trainer.env_steps,
                env_steps_total=trainer.iterations * engine.env_steps,
                agents=engine.agents,
                seconds=time.monotonic() - began,
                env_steps_per_s=trainer.pace.env_steps_per_s,
                train_qos=float(curves[-1]["train_qos"].mean()),
                diverged=int(engine.diverged(trainer.blocks).sum()),
            )
        )

    found = evaluate_now({})
    with interruptible() as stop_requested:
        for end in evaluation_times(trainer.iterations, evaluations):
            for _ in trainer.advance_to(end):
                if stop_requested():
                    break
            found = evaluate_now(trainer.take_metrics())
            say_where_it_stands()
            if stop_requested():
                break

    run = Run(
        algorithm=algorithm,
        scenario=scenario,
        settings=dict(settings or {}),
        params=dict(params or {}),
        hypers={name: float(value) for name, value in chosen_hypers._asdict().items()},
        config=dataclasses.asdict(chosen_config),
        seeds=chosen_seeds,
        root_seed=root_seed,
        env_steps=trainer.env_steps,
        table_digest=table.meta.digest,
        init_from=None if start is None else start.weights_sha256,
    )
    add(tallies, run.agents_name, found)
    training = Training(
        run=run,
        results=_results(run, curves[-1], engine.diverged(trainer.blocks)),
        curves=pd.concat(curves, ignore_index=True),
        comparison=comparison(tallies, env, table),
        policies=engine.policies(trainer.blocks),
        tallies=tallies,
        interrupted=trainer.reached < trainer.iterations,
        env_steps_per_s=trainer.pace.median(),
    )
    if out is not None:
        training.save(out)
    return training


def _results(run: Run, last: pd.DataFrame, diverged: np.ndarray) -> pd.DataFrame:
    results = last.assign(algorithm=run.algorithm, scenario=run.scenario, diverged=diverged, **run.hypers)
    first = ["agent", "seed", "algorithm", "scenario", "env_steps", "diverged", *run.hypers]
    return results[first + [name for name in results.columns if name not in first]]
