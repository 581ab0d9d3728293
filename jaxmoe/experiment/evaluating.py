"""What policies bring, beside every baseline, on the same requests: agents, exported files and functions alike."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import pandas as pd

from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.analysis.comparison import agents_name, brought_by, compared, comparison_frame
from jaxmoe.analysis.intervals import Brought
from jaxmoe.devices import start_jax, use_caches
from jaxmoe.env.baselines import BASELINES, levels
from jaxmoe.env.exported import training_environment
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.experiment.brought import bundle_of, evaluate_brought
from jaxmoe.experiment.trained import TrainedAgent, stacked
from jaxmoe.table import ExpertTable, given_table
from jaxmoe.training import evaluation
from jaxmoe.training.baseline_cache import Asked, baseline_rows
from jaxmoe.training.baselines import chosen_baselines
from jaxmoe.training.batches import batches
from jaxmoe.training.evaluation import AgentEvaluation, Schedule
from jaxmoe.training.events import Callback, Noted
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.prepared import kept
from jaxmoe.training.sizes import evaluated_per_device
from jaxmoe.values import MOST_REQUESTS, count, mapping, plain
from jaxmoe.values import seed as checked_seed

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


class Where(NamedTuple):
    """Where policies are evaluated."""

    env: "EdgeExperts"
    splits: dict[str, EnvParams]
    table: ExpertTable
    requests: int
    seed: int
    families: tuple[str, ...]
    callback: Callback

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where programs are: their numbers may differ."""
        schedule = Schedule.of(self.env, self.splits["train"], self.requests)
        return self.env.settings, self.table.meta.digest, schedule, self.seed, jax.local_device_count()


_AGENTS: dict[Any, AgentEvaluation] = {}  # by all that shapes them


def evaluate_policies(
    policy: Any,
    scenario: str | None,
    *,
    params: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    table: Any,
    policies: Mapping[str, Any],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> pd.DataFrame:
    """Compare a function, a trained policy or its file, or nothing, with other policies and the baselines."""
    start_jax()
    use_caches()
    params, settings = mapping(params, "params"), mapping(settings, "settings")
    own = given_table(table)
    named: dict[str, Any] = dict(policies)
    bundle = None if policy is None else bundle_of(policy)
    if bundle is not None:
        named = {bundle.path.name: policy, **named}
        if own.experts != bundle.contract.experts:
            own = own.select_experts(bundle.contract.experts)
        trained = training_environment(bundle.contract)
        if scenario is None:
            scenario = trained.scenario
            settings, params = {**trained.settings, **settings}, {**trained.params, **params}
        interface = ("num_replicas", "observe_words", "max_experts")
        settings = {**{name: trained.settings[name] for name in interface if name in trained.settings}, **settings}
    elif policy is not None:
        named = {"policy": policy, **named}
    where = _where(scenario or "oneshot", own, settings, params, requests, seed, baselines, callback)
    return _rows(where, {}, named)


def of_same_experts(own: ExpertTable, table: Any) -> ExpertTable:
    """A table with the experts of another one, in their order, as what agents observe has no names; that if absent."""
    given = own if table is None else given_table(table)
    return given if given.experts == own.experts else given.select_experts(own.experts)


def evaluate_agents(
    agents: list[TrainedAgent],
    table: ExpertTable,
    *,
    scenario: str | None,
    params: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    policies: Mapping[str, Any],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> pd.DataFrame:
    """The same for trained agents: where nothing else is said, in the environment that they were trained in."""
    start_jax()
    use_caches()
    params, settings = mapping(params, "params"), mapping(settings, "settings")
    homes = {_home(agent) for agent in agents}
    if scenario is None and len(homes) > 1:
        raise InputError(
            f"these agents were trained in {len(homes)} environments; say a scenario with its params, or choose agents "
            "of one environment"
        )
    first = agents[0]
    if scenario is None:
        scenario = first.job.signature.scenario
        settings, params = {**first.job.signature.settings, **settings}, {**first.params, **params}
    where = _where(scenario, table, settings, params, requests, seed, baselines, callback)
    groups: dict[tuple[str, str], list[TrainedAgent]] = {}
    for agent in agents:
        _require_suited(agent, where)
        signature = agent.job.signature
        groups.setdefault((signature.algorithm, repr(signature.config)), []).append(agent)
    found: dict[str, dict[str, Brought]] = {}
    for (algorithm, _), members in groups.items():
        callback(Noted(f"evaluating {len(members)} {algorithm.upper()} agents", progress=True))
        name = agents_name(algorithm, len(members))
        found[name if name not in found else f"{name}, {len(found)}"] = _agents(members, where)
    return _rows(where, found, policies)


def _where(
    scenario: str,
    table: ExpertTable,
    settings: Mapping[str, Any],
    params: Mapping[str, Any],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> Where:
    if not isinstance(scenario, str):
        raise InputError(
            f"scenario = {scenario!r} is not the name of a scenario; policies of your own are given by name, as in "
            "policies={'mine': policy}"
        )
    requests, seed = count(requests, "requests", MOST_REQUESTS), checked_seed(seed)
    env, splits = environments(scenario, table, settings, params)
    families = chosen_baselines(plain(baselines, "baselines"), env.settings)
    return Where(env, splits, table, requests, seed, families, callback)


def _require_suited(agent: TrainedAgent, where: Where) -> None:
    inputs = len(agent.tensors["layer0/kernel"])
    if inputs != where.env.observation_size:
        raise InputError(
            f"agent {agent.number} observes {inputs} numbers, and the environment has "
            f"{where.env.observation_size}: it has other experts or replicas, or tells other numbers that episodes draw"
        )
    if agent.network.outputs != where.env.num_actions:
        raise InputError(
            f"agent {agent.number} chooses among {agent.network.outputs} actions, and the environment has "
            f"{where.env.num_actions}: it has another max_experts; say that of the agent, as in settings.max_experts"
        )


def _rows(where: Where, agents: Mapping[str, dict[str, Brought]], policies: Mapping[str, Any]) -> pd.DataFrame:
    """Everything that is to be compared, as a tidy table."""
    found: dict[str, dict[str, Brought]] = dict(agents)
    for name, policy in policies.items():
        where.callback(Noted(f"evaluating {name}", progress=True))
        if isinstance(policy, TrainedAgent):
            _require_suited(policy, where)
            found[name] = _agents([policy], where)
        else:
            found[name] = evaluate_brought(
                name, policy, where.env, where.splits, where.table, where.requests, where.seed
            )
    metrics = evaluation.metric_names(where.table.experts)
    own = next(iter(found), None)  # how far it is ahead of the others is told
    if where.families:
        asked = Asked(where.env, where.splits, where.table, where.requests, where.families, where.seed)
        rows_of = baseline_rows(
            asked, tell=lambda names: where.callback(Noted(f"evaluating the baselines: {names}", progress=True))
        )
        keys: Any
        for keys, part in rows_of.groupby(["policy", "split"], sort=False):
            found.setdefault(str(keys[0]), {})[str(keys[1])] = brought_by(part, "policy", metrics)
    rows: list[tuple[object, ...]] = []
    for split in where.splits:
        evaluations = {name: [brought[split]] for name, brought in found.items()}
        rows += compared(split, evaluations, evaluations[own] if own else None, metrics, levels(where.env.settings))
    return comparison_frame(rows, {name: BASELINES[name].deployable for name in where.families})


def _agents(members: list[TrainedAgent], where: Where) -> dict[str, Brought]:
    signature = members[0].job.signature
    module = registered_algorithm(signature.algorithm)
    algorithm = module.make(where.env, checked_config(module.Config, signature.config), where.splits["train"])
    run = kept(
        _AGENTS,
        (signature.algorithm, signature.plugins, repr(signature.config), *where.key),
        lambda: AgentEvaluation(algorithm, where.env, where.splits, where.requests, where.seed),
    ).with_numbers(where.splits)
    width = evaluated_per_device(jax.default_backend(), jax.local_device_count(), len(members))
    parts = batches(algorithm.actor.parameters(stacked(members)), width)
    return run(parts, [{}] * len(parts), len(members))


def _home(agent: TrainedAgent) -> str:
    signature = agent.job.signature
    return repr((signature.scenario, signature.settings, dict(agent.params)))
