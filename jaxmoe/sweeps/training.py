"""`train`: one configuration, many seeds, side by side in one compiled program."""

import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from jaxmoe.agents.algorithm import Clock
from jaxmoe.env.evaluation import Tallies, best_reference
from jaxmoe.files import claim_folder
from jaxmoe.intervals import Tally
from jaxmoe.progress import SILENT, Progress, Reporter
from jaxmoe.sweeps.comparison import normalised_score
from jaxmoe.sweeps.engine import Agents, Engine, make_engine
from jaxmoe.sweeps.evaluating import add, comparison, evaluate_agents, tally_references
from jaxmoe.sweeps.inputs import (
    algorithm_module,
    checked_config,
    checked_hypers,
    environments,
    require_positive,
    seed_list,
)
from jaxmoe.sweeps.run import Run, Training
from jaxmoe.table import ExpertTable, load_table


def train(
    algorithm: str = "ppo",
    scenario: str = "oneshot",
    *,
    seeds: int | Iterable[int] = 8,
    env_steps: int = 500_000,
    hypers: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | None = None,
    params: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | None = None,
    evaluations: int = 20,
    root_seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    report: Reporter = SILENT,
) -> Training:
    """Train one agent per seed, side by side, and compare them with every reference.

    Args:
        algorithm: "ppo".
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
        out: an empty or new folder for the result files.
        report: told how the run goes.

    Raises:
        InputError: an unknown name, a value that is not allowed, or an output folder that holds something.
    """
    table = load_table() if table is None else table
    module = algorithm_module(algorithm)
    chosen_hypers = checked_hypers(module.Hypers, hypers or {})
    chosen_config = checked_config(module.Config, config or {})
    env, splits = environments(scenario, table, settings or {}, params or {})
    chosen_seeds = seed_list(seeds)
    require_positive("env_steps", env_steps)
    require_positive("evaluations", evaluations)
    if out is not None:
        claim_folder(out)

    tallies = tally_references(env, splits, report)
    bound = module.make(env, chosen_config, splits["train"])
    iterations = -(-env_steps // bound.env_steps)
    agents = Agents(
        jnp.array(chosen_seeds, jnp.int32),
        jax.tree.map(lambda value: jnp.full(len(chosen_seeds), value, jnp.float32), chosen_hypers),
        {},
    )
    report.stage(f"compiling {algorithm} for {len(chosen_seeds)} agents")
    engine = make_engine(bound, splits["train"], agents, root_seed)
    judge = evaluate_agents(bound, env, splits, engine.agents)
    best = best_reference(env)
    progress = _Watch(engine, iterations * engine.env_steps)
    curves = []
    for state, metrics in _segments(engine, evaluation_times(iterations, evaluations), progress):
        found = judge(state.policy)
        curves.append(_curve_rows(chosen_seeds, progress.env_steps, metrics, found, tallies, best))
        diverged = np.asarray(state.diverged)[: engine.agents]
        if metrics:
            report.progress(progress.report(curves[-1]["train_qos"].to_numpy(), diverged))

    run = Run(
        algorithm=algorithm,
        scenario=scenario,
        settings=dict(settings or {}),
        params=dict(params or {}),
        hypers={name: float(value) for name, value in chosen_hypers._asdict().items()},
        config=dataclasses.asdict(chosen_config),
        seeds=chosen_seeds,
        root_seed=root_seed,
        env_steps=progress.env_steps,
        table_digest=table.meta.digest,
    )
    add(tallies, run.agents_name, found)
    training = Training(
        run=run,
        results=_results(run, curves[-1], diverged),
        curves=pd.concat(curves, ignore_index=True),
        comparison=comparison(tallies, env, table),
        policies=jax.tree.map(lambda leaf: np.asarray(leaf)[: engine.agents], state.policy),
        tallies=tallies,
        interrupted=progress.env_steps < progress.env_steps_total,
        env_steps_per_s=progress.median_speed(),
    )
    if out is not None:
        training.save(out)
    return training


def evaluation_times(iterations: int, evaluations: int) -> list[int]:
    """Iterations after which agents are evaluated: so often at equal distances, and before the first after 1, 2, 4, ...

    What is simple is learned at once; equal distances alone would not show how.

    >>> evaluation_times(100, 5)
    [1, 2, 4, 8, 16, 20, 40, 60, 80, 100]
    """
    even = {-(-iterations * part // evaluations) for part in range(1, evaluations + 1)}
    doubling = {2**power for power in range(iterations.bit_length()) if 2**power < min(even)}
    return sorted(even | doubling)


class _Watch:
    """The clock on the wall: how far the run is and how fast it goes."""

    def __init__(self, engine: Engine, env_steps_total: int) -> None:
        self.env_steps = 0  # of one agent
        self.env_steps_total = env_steps_total
        self._engine = engine
        self._began = self._segment_began = time.monotonic()
        self._speeds: list[float] = []

    def begin_segment(self) -> None:
        self._segment_began = time.monotonic()

    def end_segment(self, iterations: int) -> None:
        env_steps = iterations * self._engine.env_steps
        self.env_steps += env_steps
        self._speeds.append(env_steps * self._engine.agents / (time.monotonic() - self._segment_began))

    def report(self, train_qos: np.ndarray, diverged: np.ndarray) -> Progress:
        return Progress(
            env_steps=self.env_steps,
            env_steps_total=self.env_steps_total,
            agents=self._engine.agents,
            seconds=time.monotonic() - self._began,
            env_steps_per_s=self._speeds[-1],
            train_qos=float(np.mean(train_qos)),
            diverged=int(diverged.sum()),
        )

    def median_speed(self) -> float:
        """Without the first segment, which contains the compilation, if there are more."""
        return float(np.median(self._speeds[1:] or self._speeds))


def _segments(engine: Engine, ends: list[int], watch: _Watch) -> Iterator[tuple[Any, dict[str, Array]]]:
    """The untrained agents, without metrics, and those of each segment; Ctrl-C makes the current segment the last."""
    state = engine.init()
    yield state, {}
    with _interruptible() as stop_requested:
        for begin, end in itertools.pairwise([0, *ends]):
            watch.begin_segment()
            state, metrics = engine.segment(state, Clock(jnp.int32(begin), jnp.int32(ends[-1])), end - begin)
            jax.block_until_ready(metrics)
            watch.end_segment(end - begin)
            yield state, metrics
            if stop_requested():
                return


def _curve_rows(
    seeds: list[int],
    env_steps: int,
    metrics: Mapping[str, Array],
    agents: Mapping[str, Tally],
    references: Tallies,
    best: str,
) -> pd.DataFrame:
    """One row per agent: training metrics of the segment, QoS and normalised score of the greedy policy per split."""
    columns: dict[str, Any] = {"agent": np.arange(len(seeds)), "seed": seeds, "env_steps": env_steps}
    columns |= {name: np.asarray(values)[: len(seeds)] for name, values in metrics.items()}
    for split, tally in agents.items():
        means = tally.sums.sum(axis=1) / tally.counts.sum(axis=1)[:, None]
        columns[f"{split}_qos"] = means[:, 0]
        levels = (references[split][name].mean() for name in ("random", best))
        columns[f"{split}_normalised"] = normalised_score(means, *levels)[:, 0]
    return pd.DataFrame(columns)


def _results(run: Run, last: pd.DataFrame, diverged: np.ndarray) -> pd.DataFrame:
    results = last.assign(algorithm=run.algorithm, scenario=run.scenario, diverged=diverged, **run.hypers)
    first = ["agent", "seed", "algorithm", "scenario", "env_steps", "diverged", *run.hypers]
    return results[first + [name for name in results.columns if name not in first]]


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C end the run after the segment that is being computed; a second one ends it at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def on_interrupt(number: int, frame: Any) -> None:
        del number, frame
        requested.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield requested.is_set
    finally:
        signal.signal(signal.SIGINT, before)
