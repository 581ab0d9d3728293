"""What users call: `train`, `sweep`, `load`, `compare`, `report`, `evaluate` and `export`.

The way of a spec: `load_spec` -> `plan.first_round` (by `create`) -> `Experiment.run` -> an engine -> `run_job` ->
`finish` -> `report`.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import pandas as pd

from jaxmoe.analysis.comparing import Compared, compare_tables
from jaxmoe.analysis.report import Report
from jaxmoe.env.params import ABOUT_NUMBERS
from jaxmoe.errors import InputError
from jaxmoe.experiment import locations
from jaxmoe.experiment.creating import create
from jaxmoe.experiment.engines import Engine, engine_named, parse_shard
from jaxmoe.experiment.evaluating import evaluate_agents, evaluate_policies
from jaxmoe.experiment.experiment import Experiment, Seeds, named_policies
from jaxmoe.experiment.exporting import export_again, export_stack
from jaxmoe.experiment.going_on import algorithm_of, with_policy
from jaxmoe.experiment.spec import Spec, load_spec, with_plugins
from jaxmoe.experiment.trained import TrainedAgent, agents_among
from jaxmoe.files import with_home
from jaxmoe.names import short
from jaxmoe.plugins import load_plugins
from jaxmoe.policy.bundle import file_format, is_policy_file
from jaxmoe.policy.contract import Contract
from jaxmoe.table import ExpertTable, given_table, load_table
from jaxmoe.training.evaluation import EVALUATION_SEED
from jaxmoe.training.events import SILENT, Callback, Noted, guarded
from jaxmoe.training.inputs import list_keys, plain_seeds, require_times
from jaxmoe.training.remote import is_address, path_of
from jaxmoe.training.running import CHECKPOINT_S
from jaxmoe.values import MOST_EVALUATIONS, MOST_REQUESTS, count, mapping, plain
from jaxmoe.values import seed as checked_seed

REQUESTS = 8192  # of each policy and split


def train(
    algorithm: str | None = None,
    scenario: str | None = None,
    *,
    seeds: Seeds = 16,
    env_steps: int = 500_000,
    hypers: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | str | os.PathLike[str] | None = None,
    evaluations: int = 20,
    requests: int = REQUESTS,
    baselines: str | Iterable[str] = "all",
    root_seed: int = 0,
    init_from: str | os.PathLike[str] | None = None,
    plugins: Iterable[str | os.PathLike[str]] = (),
    overrides: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    engine: str = "local",
    address: str | None = None,
    time_budget_s: float | None = None,
    checkpoint_every_s: float = CHECKPOINT_S,
    compilation_cache: bool = True,
    callback: Callback = SILENT,
) -> Experiment:
    """Train one configuration: one agent per seed, side by side, and compare them with the baselines.

    The same call goes on where an earlier one ended, if it has a folder.

    Args:
        algorithm: "ppo" (if absent), "dqn", "sac" or one that is registered; or that of the policy.
        scenario: "oneshot" (if absent), "fading", "queueing" or one that is registered; or that of the policy.
        seeds: how many agents, from seed 0; or their seeds.
        env_steps: environment steps of each agent, rounded up to whole iterations.
        hypers: hyperparameters that differ from the algorithm's `Hypers`.
        config: static configuration that differs from the algorithm's `Config`.
        params: numbers of the scenario to change, such as `{"latency_weight": 0.05}`.
        settings: static settings of the scenario to change, such as `{"num_replicas": 2}`.
        table: what the experts write, or its path; the shipped table if absent.
        evaluations: how often the greedy policies are evaluated at equal distances; at the start more often.
        requests: that each agent, and each baseline, serves in the end.
        baselines: which of them are evaluated: "all", "none", or names.
        root_seed: all agents' keys are derived from it and from their seeds.
        init_from: a policy exported as safetensors, that all agents go on from. Its scenario, params, settings, hypers
            and config are taken unless you say others, and `callback` is told which. Critics, moments and replay are
            fresh; while critics learn, for a tenth of the run at most, the policy is held.
        plugins: files (`my_algorithms.py`) or modules to import, that register what is used.
        overrides: other keys of a spec, dotted, such as `{"objective.metric": "qos"}`.
        out: folder or address of the experiment; without it, it is in memory until `save`.
        engine: who runs the jobs: "local", all devices of this process; or "ray", the workers of a Ray cluster.
        address: of a Ray cluster that is there; if absent one is started on this machine.
        time_budget_s: end early after so many seconds, with everything saved.
        checkpoint_every_s: seconds between two checkpoints of a job.
        compilation_cache: keep compiled programs in the user's cache folder.
        callback: told how it goes.

    Raises:
        InputError: an unknown name, a value that is not allowed, or a folder that holds something else.
    """
    require_times(time_budget_s, checkpoint_every_s)
    start = None if init_from is None else str(path_of(init_from))
    if algorithm is None:
        algorithm = "ppo" if start is None else algorithm_of(start)
    source: dict[str, Any] = {
        "algorithm": algorithm,
        "seeds": plain_seeds(seeds),
        "env_steps": count(env_steps, "env_steps"),
        "evaluations": count(evaluations, "evaluations", MOST_EVALUATIONS),
        "requests": count(requests, "requests", MOST_REQUESTS),
        "baselines": plain(baselines, "baselines"),
        "root_seed": checked_seed(root_seed, "root_seed"),
    }
    if source["baselines"] not in ("all", "none") and isinstance(source["baselines"], str):
        source["baselines"] = [source["baselines"]]
    source |= {name: told for name, told in (("scenario", scenario), ("init_from", start)) if told is not None}
    source["plugins"] = [each.source for each in load_plugins([os.fspath(each) for each in plugins])]
    listed = list_keys(algorithm) | {name for name, number in ABOUT_NUMBERS.items() if number.by_device}
    for section, given in (("hypers", hypers), ("config", config), ("params", params), ("settings", settings)):
        values = mapping(given, section)
        source[section] = {name: _single(section, name, value, listed) for name, value in values.items()}
    spec = _told(with_plugins(load_spec(source, overrides or {})), callback)
    return _done(
        spec, given_table(table), out, engine_named(engine, address, spec.ray), time_budget_s=time_budget_s,
        checkpoint_every_s=checkpoint_every_s, compilation_cache=compilation_cache, callback=callback,
    )  # fmt: skip


def sweep(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    out: str | os.PathLike[str] | None = None,
    *,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    table: ExpertTable | str | os.PathLike[str] | None = None,
    shard: str = "0/1",
    engine: str = "local",
    address: str | None = None,
    plugins: Iterable[str | os.PathLike[str]] = (),
    time_budget_s: float | None = None,
    checkpoint_every_s: float = CHECKPOINT_S,
    compilation_cache: bool = True,
    callback: Callback = SILENT,
) -> Experiment:
    """Train all agents of a spec, and compare them with the baselines; or go on where an earlier call ended.

    Args:
        spec: path of a TOML file, or what it would hold; see `jaxmoe.experiment.spec`.
        out: folder or address of the experiment: new, empty, or with an unfinished experiment of the same spec.
        overrides: `key=value` texts, or a mapping of dotted keys, that change the spec.
        table: what the experts write, or its path, in place of the spec's table.
        shard: "i/n" runs every n-th job only, from the i-th on; several processes share a folder.
        engine: who runs the jobs: "local", all devices of this process; or "ray", the workers of a Ray cluster.
        address: of a Ray cluster that is there; if absent one is started on this machine.
        plugins: files or modules to import, beside those of the spec.
        time_budget_s: end early after so many seconds, with everything saved.
        checkpoint_every_s: seconds between two checkpoints of a job.
        compilation_cache: keep compiled programs in the user's cache folder.
        callback: told how it goes.

    Raises:
        InputError: a key or a value of the spec is not allowed, or the folder holds something else, is in use, or
            cannot be written.
    """
    part = parse_shard(shard)
    require_times(time_budget_s, checkpoint_every_s)
    checked = _told(with_plugins(load_spec(spec, overrides), plugins), callback)
    own = load_table(checked.table, relevance=checked.relevance) if table is None else given_table(table)
    return _done(
        checked, own, out, engine_named(engine, address, checked.ray, part), time_budget_s=time_budget_s,
        checkpoint_every_s=checkpoint_every_s, compilation_cache=compilation_cache, callback=callback,
    )  # fmt: skip


def load(
    source: str | os.PathLike[str], *, plugins: Iterable[str | os.PathLike[str]] = (), trust_plugins: bool = False
) -> Experiment:
    """The experiment of a folder, finished or not.

    Args:
        source: the folder, or the address of one in an object store.
        plugins: files or modules to import, which `extend`, `confirm` and `evaluate` need where the experiment was
            planned with them; nothing else does.
        trust_plugins: import those that the folder names, from where they were.

    Raises:
        InputError: there is no experiment, or a plugin cannot be imported.
    """
    load_plugins([os.fspath(each) for each in plugins])
    return Experiment(locations.location_of(source), trust_plugins)


def compare(experiments: Iterable[Experiment | str | os.PathLike[str]]) -> Compared:
    """Set the best configurations of algorithms, scenarios or experiments against each other.

    Args:
        experiments: or their folders.
    """
    return compare_tables([_opened(each).tables for each in experiments])


def report(source: str | os.PathLike[str] | Experiment) -> Report:
    """Write the report of an experiment into its folder; see `Experiment.report`.

    Args:
        source: the experiment or its folder.

    Raises:
        InputError: it is in memory, or a file of the report is not as jaxmoe made it.
    """
    return _opened(source).report()


def evaluate(
    policy: Any = None,
    scenario: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    table: ExpertTable | str | os.PathLike[str] | None = None,
    policies: Mapping[str, Any] | None = None,
    requests: int = REQUESTS,
    seed: int = EVALUATION_SEED,
    baselines: str | Iterable[str] = "all",
    callback: Callback = SILENT,
) -> pd.DataFrame:
    """Compare a policy with the baselines, on the same requests.

    A policy is one of

    - a function `(key, observation, state, params) -> action` of one environment, that JAX can trace;
    - any function of observations alone, `[B, O]` in float32, as trained agents see them, that gives B actions: in
      NumPy, or a Stable-Baselines3 model's `predict`, of whose pair the first is taken;
    - an exported policy's file, of any format, or a policy from `load_policy` or `Experiment.policy`, which is
      evaluated on any table that has its experts;
    - a trained agent, or several of them (see `Experiment.agents`);
    - an experiment or its folder, whose best configuration's agents are evaluated where they were trained unless
      something else is said (see `Experiment.evaluate`).

    Args:
        policy: or nothing, for the baselines alone.
        scenario: "oneshot", "fading" or "queueing"; if absent the one that a policy was trained in, and "oneshot" for
            functions.
        params: numbers of the scenario to change.
        settings: static settings of the scenario to change.
        table: what the experts write, or its path; the shipped table, or the experiment's own, if absent.
        policies: more policies by name, of any of these kinds.
        requests: per policy and split.
        seed: of the random numbers, which are the same for every policy.
        baselines: "all", "none", or their names.
        callback: told how the evaluation goes.

    Returns:
        One row per split, policy and metric: `mean`, `low` and `high` of its 95 % interval over what there are several
        of (seeds, prompts, episodes), `requests`, whether a baseline is `deployable`, how many `seeds` agents have, and
        which share of the interval comes `from_seeds`. `ahead` is how much more QoS the first policy that is no
        baseline brings, on the same requests. `normalised` is missing where its 0 and 1 are not told apart.

    Raises:
        InputError: an unknown name, a value that is not allowed, or a policy that does not suit the environment.
    """
    given: dict[str, Any] = {"params": params, "settings": settings, "policies": named_policies(policies)}
    given |= {"table": table, "requests": requests, "seed": seed, "baselines": baselines, "callback": callback}
    is_path = isinstance(policy, str | os.PathLike)
    if isinstance(policy, Experiment) or (is_path and (is_address(policy) or not is_policy_file(policy))):
        return _opened(policy).evaluate(scenario, **given)
    if agents := agents_among(policy):
        return evaluate_agents(agents, scenario=scenario, **given | {"table": _table_of(agents, table)})
    return evaluate_policies(policy, scenario, **given)


def export(
    source: Any,
    out: str | os.PathLike[str],
    *,
    agent: int | Literal["best", "all"] = "best",
    scenario: str | None = None,
) -> Contract | list[Contract]:
    """Write a trained policy, and its contract beside it.

    Args:
        source: an experiment or its folder; or a policy that was exported as safetensors, to have it in another
            format, or to take one agent out of a stack.
        out: file to write; its suffix says the format: `.safetensors`, `.stablehlo` or `.onnx`.
        agent: a number; "best", the best one of the best configuration; or "all", in one stack.
        scenario: whose best agent; needed where there are several.

    Returns:
        The contract, or those of all agents of a stack.

    Raises:
        InputError: there is no such agent, or `out` exists or has an unknown suffix.
    """
    path = with_home(out)
    form = file_format(path)
    agent = plain(agent, "agent")
    if agent == "all" and form != "safetensors":
        raise InputError(f"{path}: a stack of all agents is written as safetensors only")
    if not isinstance(source, Experiment) and not is_address(source) and with_home(source).is_file():
        return export_again(with_home(source), path, form, agent)
    experiment = _opened(source)
    if agent == "all":
        if not experiment.complete:
            raise InputError(
                f"{experiment.storage.where} is not finished: {experiment.status()}; export agents by number"
            )
        return export_stack(experiment.agents(), experiment.table, path)
    policy = experiment.policy(agent, scenario)
    policy.save(path)
    return policy.contract


def _opened(source: Experiment | str | os.PathLike[str]) -> Experiment:
    """The experiment itself, or that of a folder."""
    return source if isinstance(source, Experiment) else load(source)


def _table_of(agents: list[TrainedAgent], table: Any) -> ExpertTable:
    """The table that is given, or the shipped one, where agents were trained on it."""
    own = given_table(table)
    for agent in agents if table is None else []:
        if agent.job.signature.table != own.meta.digest:
            raise InputError(
                f"agent {agent.number} was trained on another table than the shipped one; give it as table="
            )
    return own


def _done(
    spec: Spec, table: ExpertTable, out: str | os.PathLike[str] | None, engine: Engine, **running: Any
) -> Experiment:
    """The experiment of a spec, planned for an engine, and done by it."""
    try:
        return Experiment(create(spec, table, out, engine.machine(spec))).run(engine, **running)
    finally:
        engine.close()


def _told(spec: Spec, callback: Callback) -> Spec:
    """The spec with what the policy brings that agents go on from; it is told what."""
    spec, taken = with_policy(spec)
    if taken:
        guarded((callback,))(Noted(taken))
    return spec


def _single(section: str, name: str, value: Any, listed: Collection[str]) -> Any:
    """A value of one configuration, as a spec has it: a list, where a key takes one."""
    if isinstance(value, dict) and section == "params" and "each_episode" in value:
        return value
    several = isinstance(value, list) and (name not in listed or any(isinstance(entry, list) for entry in value))
    if isinstance(value, dict) or several:
        raise InputError(f"{section}.{name} = {short(value)} is an axis; train has one configuration, sweep has many")
    return value
