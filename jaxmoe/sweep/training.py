"""`train`: one configuration, many seeds; and `evaluate`: what policies bring, beside every reference."""

import dataclasses
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from safetensors.numpy import load_file, save_file

import jaxmoe
from jaxmoe.agents import ppo
from jaxmoe.agents.algorithm import Algorithm, Clock
from jaxmoe.env import evaluation
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.evaluation import Sums, Tallies
from jaxmoe.env.references import Policy
from jaxmoe.env.rules import EnvParams
from jaxmoe.env.scenarios import make, with_numbers
from jaxmoe.errors import InputError
from jaxmoe.files import claim_folder, write_whole
from jaxmoe.intervals import Tally
from jaxmoe.study.figures import learning_curve
from jaxmoe.sweep.comparison import compare
from jaxmoe.sweep.engine import Agents, make_engine
from jaxmoe.sweep.lanes import LANES, for_each_agent, pad, padded_count
from jaxmoe.table import ExpertTable, load_table

ALGORITHMS: dict[str, Any] = {"ppo": ppo}
SPLITS = ("train", "test")
EVALUATION_SEED = 0
EVALUATION_SLOTS = 8192


class Progress(NamedTuple):
    """Where a training run stands."""

    env_steps: int  # of one agent
    env_steps_total: int  # of one agent
    agents: int
    seconds: float  # since training began, compilation included
    env_steps_per_s: float  # of all agents, in the last segment
    train_qos: float  # mean over agents
    diverged: int  # agents

    @property
    def seconds_left(self) -> float:
        """Expected from the speed of the last segment."""
        return (self.env_steps_total - self.env_steps) * self.agents / self.env_steps_per_s


class Reporter(NamedTuple):
    """Who is told how a long run goes."""

    stage: Callable[[str], None]  # what is being done now
    progress: Callable[[Progress], None]


SILENT = Reporter(stage=lambda _: None, progress=lambda _: None)


@dataclass(frozen=True)
class Run:
    """What was trained; enough to rebuild the environment and the policies."""

    algorithm: str
    scenario: str
    settings: dict[str, Any]  # static settings of the scenario that differ
    params: dict[str, float]  # numbers of the scenario that differ
    hypers: dict[str, float]
    config: dict[str, Any]
    seeds: list[int]
    root_seed: int
    env_steps: int  # of each agent, as trained
    table_digest: str


@dataclass(frozen=True)
class Training:
    """A finished training: tidy tables and the policies."""

    run: Run
    results: pd.DataFrame  # one row per agent
    curves: pd.DataFrame  # one row per agent and evaluation
    comparison: pd.DataFrame  # one row per split, policy and metric, with intervals
    policies: Any  # parameters of the acting networks, agents along the leading axis
    interrupted: bool
    env_steps_per_s: float  # of all agents, median over segments after the first

    @property
    def name(self) -> str:
        """The trained agents' name in the comparison."""
        return agent_name(self.run)

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write tables, policies, figures and, when all is there, the manifest into an empty folder."""
        folder = claim_folder(out)
        for name in ("results", "curves", "comparison"):
            _write(folder / f"{name}.parquet", getattr(self, name).to_parquet)
        flat = {name: np.asarray(leaf) for name, leaf in _named_leaves(self.policies)}
        _write(folder / "policies.safetensors", lambda path: save_file(flat, path))
        figure = learning_curve(self.curves, self.comparison, self.name)
        for kind in ("png", "pdf"):
            _write(folder / f"learning_curve.{kind}", lambda path, kind=kind: figure.savefig(path, format=kind, dpi=150))
        manifest = {"run": dataclasses.asdict(self.run), "interrupted": self.interrupted, **_provenance()}
        manifest |= {"env_steps_per_s": self.env_steps_per_s}
        _write(folder / "manifest.json", lambda path: path.write_text(json.dumps(manifest, indent=2) + "\n"))


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
    evaluations: int = 10,
    root_seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    report: Reporter = SILENT,
) -> Training:
    """Train one agent per seed, side by side, and compare them with every reference.

    Args:
        algorithm: "ppo".
        scenario: "oneshot", "fading" or "queueing".
        seeds: how many agents, from seed 0; or their seeds.
        env_steps: environment steps of each agent, rounded up to whole segments.
        hypers: hyperparameters that differ from the algorithm's `Hypers`.
        config: static configuration that differs from the algorithm's `Config`.
        params: numbers of the scenario to change, such as `{"latency_weight": 0.05}`.
        settings: static settings of the scenario to change, such as `{"num_replicas": 2}`.
        table: what the experts write; the shipped table if absent.
        evaluations: how often the greedy policies are evaluated; the run has as many segments.
        root_seed: all agents' keys are derived from it and from their seeds.
        out: an empty or new folder for the result files.
        report: told how the run goes.

    Raises:
        InputError: an unknown name, a value that is not allowed, or an output folder that holds something.
    """
    if out is not None:
        claim_folder(out)
    table = load_table() if table is None else table
    module = _algorithm_module(algorithm)
    chosen_hypers = module.Hypers(**_checked("hyperparameter", hypers or {}, module.Hypers().__class__._fields))
    chosen_config = _checked_config(module.Config, config or {})
    env, splits = _environments(scenario, table, settings or {}, params or {})
    bound = module.make(env, chosen_config, splits["train"])
    seed_list = _seed_list(seeds)
    _require_positive("env_steps", env_steps)
    _require_positive("evaluations", evaluations)

    report.stage("evaluating the references")
    tallies = evaluation.tally_references(
        env, splits, EVALUATION_SEED, EVALUATION_SLOTS, lambda name: report.stage(f"evaluating the references: {name}")
    )
    iterations = -(-env_steps // bound.env_steps)
    per_segment = -(-iterations // min(evaluations, iterations))
    segments = -(-iterations // per_segment)
    agents = Agents(
        jnp.array(seed_list, jnp.int32),
        jax.tree.map(lambda value: jnp.full(len(seed_list), value, jnp.float32), chosen_hypers),
        {},
    )
    report.stage(f"compiling {algorithm} for {len(seed_list)} agents")
    engine = make_engine(bound, splits["train"], agents, per_segment, root_seed)
    evaluate_agents = _agents_evaluator(bound, env, splits, len(seed_list))
    total = jnp.int32(segments * per_segment)
    state, began = engine.init(), time.monotonic()
    curves, speeds, interrupted, trained = [], [], False, 0
    with _interruptible() as stop_requested:
        for segment in range(segments):
            start = time.monotonic()
            state, metrics = engine.segment(state, Clock(jnp.int32(segment * per_segment), total))
            jax.block_until_ready(metrics)
            speeds.append(engine.env_steps * engine.agents / (time.monotonic() - start))
            trained += engine.env_steps
            agent_tallies = evaluate_agents(state.policy)
            diverged = np.asarray(state.diverged)[: engine.agents]
            curves.append(_curve_rows(seed_list, trained, metrics, agent_tallies, tallies, evaluation.best_reference(env)))
            qos = float(np.mean(curves[-1]["train_qos"]))
            seconds = time.monotonic() - began
            report.progress(
                Progress(
                    trained, engine.env_steps * segments, engine.agents, seconds, speeds[-1], qos, int(diverged.sum())
                )
            )
            interrupted = stop_requested() and segment + 1 < segments
            if interrupted:
                break

    run = Run(
        algorithm=algorithm,
        scenario=scenario,
        settings=dict(settings or {}),
        params=dict(params or {}),
        hypers={name: float(value) for name, value in chosen_hypers._asdict().items()},
        config=dataclasses.asdict(chosen_config),
        seeds=seed_list,
        root_seed=root_seed,
        env_steps=trained,
        table_digest=table.meta.digest,
    )
    for split in splits:
        tallies[split][agent_name(run)] = agent_tallies[split]
    training = Training(
        run=run,
        results=_results(run, curves[-1], diverged),
        curves=pd.concat(curves, ignore_index=True),
        comparison=_compare(tallies, env, table),
        policies=jax.tree.map(lambda leaf: np.asarray(leaf)[: engine.agents], state.policy),
        interrupted=interrupted,
        env_steps_per_s=float(np.median(speeds[1:] or speeds)),
    )
    if out is not None:
        training.save(out)
    return training


def evaluate(
    policy: Policy | str | os.PathLike[str] | None = None,
    scenario: str = "oneshot",
    *,
    params: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | None = None,
    slots: int = EVALUATION_SLOTS,
    seed: int = EVALUATION_SEED,
    report: Reporter = SILENT,
) -> pd.DataFrame:
    """Compare a policy, or the agents of a training run, with every reference, on the same requests.

    Args:
        policy: a function `(key, observation, state, params) -> action` of one environment; or the folder of a training
            run, which then says the scenario itself; or nothing, for the references alone.
        scenario: "oneshot", "fading" or "queueing".
        params: numbers of the scenario to change.
        settings: static settings of the scenario to change.
        table: what the experts write; the shipped table if absent.
        slots: requests per policy and split.
        seed: of the random numbers, which are the same for every policy.
        report: told how the evaluation goes.

    Returns:
        One row per split, policy and metric: `mean`, and `low` and `high` of the 95 % interval over prompts and seeds.
    """
    table = load_table() if table is None else table
    _require_positive("slots", slots)
    run = None
    if isinstance(policy, str | os.PathLike):
        run = load_run(policy)
        if run.table_digest != table.meta.digest:
            raise InputError(f"{policy} was trained on another expert table; give the table it was trained on")
        scenario, params, settings = run.scenario, run.params, run.settings
    env, splits = _environments(scenario, table, settings or {}, params or {})
    tallies = evaluation.tally_references(
        env, splits, seed, slots, lambda name: report.stage(f"evaluating the references: {name}")
    )
    if run is not None and isinstance(policy, str | os.PathLike):
        report.stage("evaluating the agents")
        bound = _bind(run, env, splits["train"])
        stacked = load_policies(policy, bound, splits["train"])
        padded = pad(stacked, padded_count(len(run.seeds), jax.local_device_count(), LANES))
        found = _agents_evaluator(bound, env, splits, len(run.seeds), seed, slots)(padded)
        for split in splits:
            tallies[split][agent_name(run)] = found[split]
    elif callable(policy):
        report.stage("evaluating the policy")
        for split in splits:
            tallies[split]["policy"] = evaluation.tally(policy, env, splits[split], seed, slots)
    return _compare(tallies, env, table)


def agent_name(run: Run) -> str:
    """Name of a run's agents in comparisons."""
    return f"{run.algorithm} ({len(run.seeds)} agent{'s' if len(run.seeds) > 1 else ''})"


def load_run(folder: str | os.PathLike[str]) -> Run:
    """What was trained in a folder, from its manifest."""
    manifest = Path(folder) / "manifest.json"
    if not manifest.is_file():
        raise InputError(f"{folder} holds no finished training run: there is no {manifest.name} in it")
    try:
        return Run(**json.loads(manifest.read_text())["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} is not the manifest of a training run ({error})") from None


def load_policies(folder: str | os.PathLike[str], bound: Algorithm, env_params: EnvParams) -> Any:
    """The acting networks' parameters of all agents of a run, agents along the leading axis."""
    path = Path(folder) / "policies.safetensors"
    try:
        flat = load_file(path)
    except Exception as error:  # safetensors has its own exceptions beside the operating system's
        raise InputError(f"{path} cannot be read ({error})") from None
    hypers = ALGORITHMS[bound.name].Hypers()
    shapes = jax.eval_shape(bound.init, jax.random.key(0), hypers, env_params).policy
    names = [name for name, _ in _named_leaves(shapes)]
    if sorted(names) != sorted(flat):
        raise InputError(f"{path} does not hold the networks that its manifest describes")
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(flat[name]) for name in names])


def _environments(
    scenario: str, table: ExpertTable, settings: Mapping[str, Any], params: Mapping[str, float]
) -> tuple[EdgeExperts, dict[str, EnvParams]]:
    env, _ = make(scenario, table, **settings)
    present = [split for split in SPLITS if split in table.meta.splits]
    return env, {split: with_numbers(make(scenario, table, split, **settings)[1], params) for split in present}


def _bind(run: Run, env: EdgeExperts, env_params: EnvParams) -> Algorithm:
    module = _algorithm_module(run.algorithm)
    return module.make(env, _checked_config(module.Config, run.config), env_params)


def _agents_evaluator(
    bound: Algorithm,
    env: EdgeExperts,
    splits: dict[str, EnvParams],
    agents: int,
    seed: int = EVALUATION_SEED,
    slots: int = EVALUATION_SLOTS,
) -> Callable[[Any], dict[str, Tally]]:
    """A function from all agents' padded policies to what their greedy actions bring, one row per agent."""
    length = evaluation.episode_slots(env, splits["train"])
    episodes = evaluation.episodes_for(slots, length)

    def evaluate_agent(nothing: None, policy: Any, shared: tuple[EnvParams, Array]) -> Sums:
        del nothing
        params, key = shared

        def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
            del key, state, params
            return jnp.argmax(bound.preferences(policy, observation))

        by_block = evaluation.sums(act, env, params, key, episodes, length)
        return Sums(jnp.sum(by_block.metrics, axis=0), jnp.sum(by_block.slots, axis=0))

    run = for_each_agent(evaluate_agent)

    def evaluate_all(policies: Any) -> dict[str, Tally]:
        found = {split: run(None, policies, (params, jax.random.key(seed))) for split, params in splits.items()}
        return {
            split: Tally(*(np.asarray(leaf, np.float64)[:agents] for leaf in totals)) for split, totals in found.items()
        }

    return evaluate_all


def _curve_rows(
    seeds: list[int], env_steps: int, metrics: Mapping[str, Array], agents: dict[str, Tally], references: Tallies, best: str
) -> pd.DataFrame:
    """One row per agent: training metrics of the segment, QoS and normalised score of the greedy policy per split."""
    columns: dict[str, Any] = {"agent": np.arange(len(seeds)), "seed": seeds, "env_steps": env_steps}
    columns |= {name: np.asarray(values)[: len(seeds)] for name, values in metrics.items()}
    for split, tally in agents.items():
        qos = tally.sums[:, :, 0].sum(axis=1) / tally.counts.sum(axis=1)
        low, high = (references[split][name].mean()[0] for name in ("random", best))
        columns |= {f"{split}_qos": qos, f"{split}_normalised": (qos - low) / (high - low)}
    return pd.DataFrame(columns)


def _results(run: Run, last: pd.DataFrame, diverged: np.ndarray) -> pd.DataFrame:
    results = last.assign(algorithm=run.algorithm, scenario=run.scenario, diverged=diverged, **run.hypers)
    first = ["agent", "seed", "algorithm", "scenario", "env_steps", "diverged", *run.hypers]
    return results[first + [name for name in results.columns if name not in first]]


def _compare(tallies: Tallies, env: EdgeExperts, table: ExpertTable) -> pd.DataFrame:
    return compare(tallies, evaluation.metric_names(table.experts), evaluation.best_reference(env))


def _algorithm_module(algorithm: str) -> Any:
    if algorithm not in ALGORITHMS:
        raise InputError(f"unknown algorithm {algorithm!r}; choose one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[algorithm]


def _checked(kind: str, values: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    for name, value in values.items():
        if name not in allowed:
            raise InputError(f"unknown {kind} {name!r}; choose among {', '.join(allowed)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{kind} {name} = {value!r} is not a finite number")
    return dict(values)


def _checked_config(make_config: type, values: Mapping[str, Any]) -> Any:
    allowed = [field.name for field in dataclasses.fields(make_config)]
    for name in values:
        if name not in allowed:
            raise InputError(f"unknown configuration {name!r}; choose among {', '.join(allowed)}")
    return make_config(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _seed_list(seeds: int | Iterable[int]) -> list[int]:
    if isinstance(seeds, int):
        _require_positive("seeds", seeds)
        return list(range(seeds))
    listed = list(seeds)
    if not listed or len(set(listed)) < len(listed) or any(seed < 0 for seed in listed):
        raise InputError(f"seeds = {listed} must be different numbers from 0 on, at least one")
    return listed


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name} = {value} must be at least 1")


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with names such as `params/Dense_0/kernel`."""
    return [
        ("/".join(str(getattr(key, "key", key)) for key in path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def _provenance() -> dict[str, Any]:
    """Where the numbers come from: versions, device, and the width on which their last bits depend."""
    device = jax.devices()[0]
    return {
        "versions": {"jaxmoe": jaxmoe.__version__, "jax": jax.__version__, "python": platform.python_version()},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.local_device_count()},
        "lanes": LANES,
    }


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    write_whole(path, write, overwrite=False)


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
