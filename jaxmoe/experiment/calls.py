"""`train`, `sweep`, `load`, `compare` and `report`: what users call.

The way of a spec: `load_spec` -> `plan.first_round` (by `create`) -> `Experiment.run` -> an engine -> `run_job` ->
`finish` -> `report`.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.analysis.comparing import Compared, compare_tables
from jaxmoe.analysis.report import Report
from jaxmoe.errors import InputError
from jaxmoe.experiment import folder
from jaxmoe.experiment.creating import create
from jaxmoe.experiment.engines import local, parse_shard
from jaxmoe.experiment.engines import shard as sharded
from jaxmoe.experiment.experiment import Experiment, Seeds, require_times
from jaxmoe.experiment.spec import Spec, load_spec
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.training.events import SILENT, Callback
from jaxmoe.training.inputs import algorithm_module, require_positive, seed_list
from jaxmoe.training.running import CHECKPOINT_S


def train(
    algorithm: str = "ppo",
    scenario: str = "oneshot",
    *,
    seeds: Seeds = 16,
    env_steps: int = 500_000,
    hypers: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | None = None,
    params: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | None = None,
    evaluations: int = 20,
    requests: int = 8192,
    baselines: str | Iterable[str] = "all",
    root_seed: int = 0,
    init_from: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    time_budget_s: float | None = None,
    checkpoint_every_s: float = CHECKPOINT_S,
    compilation_cache: bool = True,
    callback: Callback = SILENT,
) -> Experiment:
    """Train one configuration: one agent per seed, side by side, and compare them with the baselines.

    The same call goes on where an earlier one ended, if it has a folder.

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
        requests: that each agent, and each baseline, serves in the end.
        baselines: which of them are evaluated: "all", "none", or names.
        root_seed: all agents' keys are derived from it and from their seeds.
        init_from: a policy exported as safetensors, that all agents go on from. Critics, moments and replay are fresh.
        out: folder of the experiment; without it, it is in memory until `save`.
        time_budget_s: end early after so many seconds, with everything saved.
        checkpoint_every_s: seconds between two checkpoints of a job.
        compilation_cache: keep compiled programs in the user's cache folder.
        callback: told how it goes.

    Raises:
        InputError: an unknown name, a value that is not allowed, or a folder that holds something else.
    """
    require_positive("env_steps", env_steps)
    require_positive("evaluations", evaluations)
    require_positive("requests", requests)
    require_times(time_budget_s, checkpoint_every_s)
    source: dict[str, Any] = {
        "algorithm": algorithm,
        "scenario": scenario,
        "seeds": seeds if isinstance(seeds, int) and not isinstance(seeds, bool) else seed_list(seeds),
        "env_steps": env_steps,
        "evaluations": evaluations,
        "requests": requests,
        "baselines": baselines if isinstance(baselines, str) else list(baselines),
        "root_seed": root_seed,
    }
    if source["baselines"] not in ("all", "none") and isinstance(source["baselines"], str):
        source["baselines"] = [source["baselines"]]
    if isinstance(source["seeds"], int):
        require_positive("seeds", source["seeds"])
    if init_from is not None:
        source["init_from"] = str(folder.expanded(init_from))
    algorithm_module(algorithm)
    for section, given in (("hypers", hypers), ("config", config), ("params", params), ("settings", settings)):
        source[section] = {name: _single(section, name, value) for name, value in (given or {}).items()}
    spec = load_spec(source)
    experiment = Experiment(create(spec, load_table() if table is None else table, out))
    return experiment.run(
        time_budget_s=time_budget_s, checkpoint_every_s=checkpoint_every_s, compilation_cache=compilation_cache,
        callback=callback,
    )  # fmt: skip


def sweep(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    out: str | os.PathLike[str] | None = None,
    *,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    table: ExpertTable | None = None,
    shard: str = "0/1",
    time_budget_s: float | None = None,
    checkpoint_every_s: float = CHECKPOINT_S,
    compilation_cache: bool = True,
    callback: Callback = SILENT,
) -> Experiment:
    """Train all agents of a spec, and compare them with the baselines; or go on where an earlier call ended.

    Args:
        spec: path of a TOML file, or what it would hold; see `jaxmoe.experiment.spec`.
        out: folder of the experiment: new, empty, or with an unfinished experiment of the same spec.
        overrides: `key=value` texts, or a mapping of dotted keys, that change the spec.
        table: what the experts write, in place of the spec's table.
        shard: "i/n" runs every n-th job only, from the i-th on; several processes share a folder.
        time_budget_s: end early after so many seconds, with everything saved.
        checkpoint_every_s: seconds between two checkpoints of a job.
        compilation_cache: keep compiled programs in the user's cache folder.
        callback: told how it goes.

    Raises:
        InputError: a key or a value of the spec is not allowed, or the folder holds something else, is in use, or
            cannot be written.
    """
    checked, part = load_spec(spec, overrides), parse_shard(shard)
    require_times(time_budget_s, checkpoint_every_s)
    own = load_table(checked.table, relevance=checked.relevance) if table is None else table
    experiment = Experiment(create(checked, own, out))
    return experiment.run(
        local if part.count == 1 else sharded(part), lock=part.count == 1, time_budget_s=time_budget_s,
        checkpoint_every_s=checkpoint_every_s, compilation_cache=compilation_cache, callback=callback,
    )  # fmt: skip


def load(source: str | os.PathLike[str]) -> Experiment:
    """The experiment of a folder, finished or not. Raises `InputError` where there is none."""
    return Experiment(folder.storage_of(source))


def compare(experiments: Iterable[Experiment | str | os.PathLike[str]]) -> Compared:
    """Set the best configurations of algorithms, scenarios or experiments against each other.

    Args:
        experiments: or their folders.
    """
    found = [each if isinstance(each, Experiment) else load(each) for each in experiments]
    return compare_tables([each.tables for each in found])


def report(source: str | os.PathLike[str] | Experiment) -> Report:
    """Write the report of an experiment into its folder; see `Experiment.report`."""
    return (source if isinstance(source, Experiment) else load(source)).report()


def _single(section: str, name: str, value: Any) -> Any:
    """A value of one configuration, as a spec has it: a sequence of numbers is one value."""
    if isinstance(value, Mapping):
        raise InputError(f"{section}.{name} = {dict(value)!r} is an axis; train has one configuration, sweep has many")
    return [list(value)] if isinstance(value, tuple | list) else value
