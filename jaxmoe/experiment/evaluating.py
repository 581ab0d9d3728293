"""What policies bring, beside every baseline, on the same requests: agents, exported files and functions alike."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from jaxmoe.analysis.comparison import agents_name, compared
from jaxmoe.analysis.intervals import Estimate, UnitSums
from jaxmoe.devices import start_jax
from jaxmoe.env.baselines import Policy
from jaxmoe.env.exported import policy_function, training_place
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.experiment.trained import TrainedAgent, policies_of
from jaxmoe.policy.bundle import read_bundle
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.training import evaluation
from jaxmoe.training.baselines import BaselineEvaluation, chosen_baselines
from jaxmoe.training.batches import batches
from jaxmoe.training.evaluation import AgentEvaluation, Brought, evaluate_policy
from jaxmoe.training.events import Callback, Noted
from jaxmoe.training.inputs import algorithm_module, checked_config, environments, require_positive
from jaxmoe.training.sizes import agents_per_device

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

TRIED = 3  # observations that a policy of the host is tried on before it is believed


class Where(NamedTuple):
    """Where policies are evaluated."""

    env: "EdgeExperts"
    splits: dict[str, EnvParams]
    table: ExpertTable
    requests: int
    seed: int
    families: tuple[str, ...]
    callback: Callback


def evaluate_policies(
    policy: Any,
    scenario: str | None,
    *,
    params: Mapping[str, float],
    settings: Mapping[str, Any],
    table: ExpertTable | None,
    policies: Mapping[str, Any],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> pd.DataFrame:
    """Compare a function, an exported policy's file, or nothing, with other policies and the baselines."""
    start_jax()
    require_positive("requests", requests)
    own = load_table() if table is None else table
    named: dict[str, Any] = dict(policies)
    if isinstance(policy, str | os.PathLike):
        bundle = read_bundle(policy)
        named = {bundle.path.name: policy, **named}
        if own.experts != bundle.contract.experts:
            own = own.select_experts(bundle.contract.experts)
        trained = training_place(bundle.contract)
        if scenario is None:
            scenario = trained.scenario
            settings, params = {**trained.settings, **settings}, {**trained.params, **params}
        interface = ("num_replicas", "observe_words")
        settings = {**{name: trained.settings[name] for name in interface if name in trained.settings}, **settings}
    elif policy is not None:
        named = {"policy": policy, **named}
    where = _where(scenario or "oneshot", own, settings, params, requests, seed, baselines, callback)
    return _rows(where, {}, named)


def evaluate_agents(
    agents: list[TrainedAgent],
    table: ExpertTable,
    *,
    scenario: str | None,
    params: Mapping[str, float],
    settings: Mapping[str, Any],
    policies: Mapping[str, Any],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> pd.DataFrame:
    """The same for trained agents: where nothing else is said, in the environment that they were trained in."""
    start_jax()
    require_positive("requests", requests)
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
        signature = agent.job.signature
        inputs = len(agent.tensors["layer0/kernel"])
        if inputs != where.env.settings.observation_size:
            raise InputError(
                f"agent {agent.number} observes {inputs} numbers, and the environment has "
                f"{where.env.settings.observation_size}: it has other experts or replicas"
            )
        groups.setdefault((signature.algorithm, repr(signature.config)), []).append(agent)
    found: dict[str, dict[str, Brought]] = {}
    for (algorithm, _), members in groups.items():
        callback(Noted(f"evaluating {len(members)} {algorithm.upper()} agents"))
        name = agents_name(algorithm, len(members))
        found[name if name not in found else f"{name}, {len(found)}"] = _agents(members, where)
    return _rows(where, found, policies)


def _where(
    scenario: str,
    table: ExpertTable,
    settings: Mapping[str, Any],
    params: Mapping[str, float],
    requests: int,
    seed: int,
    baselines: str | Iterable[str],
    callback: Callback,
) -> Where:
    env, splits = environments(scenario, table, settings, params)
    families = chosen_baselines(baselines, env.settings.one_slot)
    return Where(env, splits, table, requests, seed, families, callback)


def _rows(where: Where, agents: Mapping[str, dict[str, Brought]], policies: Mapping[str, Any]) -> pd.DataFrame:
    """Everything that is to be compared, as a tidy table."""
    found: dict[str, dict[str, Brought]] = dict(agents)
    for name, policy in policies.items():
        where.callback(Noted(f"evaluating {name}"))
        found[name] = _policy(name, policy, where)
    if where.families:
        evaluate_all = BaselineEvaluation(where.env, where.splits["train"], where.requests, where.families, where.seed)
        for split, named in evaluate_all(
            where.splits, tell=lambda family: where.callback(Noted(f"evaluating the baselines: {family}"))
        ).items():
            for name, brought in named.items():
                found.setdefault(name, {})[split] = brought
    metrics = evaluation.metric_names(where.table.experts)
    rows: list[tuple[object, ...]] = []
    for split in where.splits:
        evaluations: dict[str, list[UnitSums]] = {name: [brought[split].prompts] for name, brought in found.items()}
        rows += compared(split, evaluations, None, metrics)
    return pd.DataFrame(rows, columns=["split", "policy", "metric", *Estimate._fields, "requests"])


def _agents(members: list[TrainedAgent], where: Where) -> dict[str, Brought]:
    signature = members[0].job.signature
    module = algorithm_module(signature.algorithm)
    algorithm = module.make(where.env, checked_config(module.Config, signature.config), where.splits["train"])
    run = AgentEvaluation(algorithm, where.env, where.splits, where.requests, where.seed)
    parts = batches(policies_of(members), agents_per_device(jax.default_backend()))
    return run(parts, [{}] * len(parts), len(members))


def _policy(name: str, policy: Any, where: Where) -> dict[str, Brought]:
    """What one policy brings: a file, a function of JAX, or one of the host."""
    one_device = False
    if isinstance(policy, str | os.PathLike):
        bundle = read_bundle(policy)
        function: Policy = policy_function(bundle, where.env, where.splits["train"])
        one_device = bundle.format == "onnx"
    elif not callable(policy):
        raise InputError(
            f"policy {name!r} is {type(policy).__name__}, neither a function nor an exported policy's file"
        )
    elif _takes_environment(policy):
        function = policy
    else:
        function, one_device = _of_host(name, policy, where.env), True
    return evaluate_policy(function, where.env, where.splits, where.requests, where.seed, one_device=one_device)


def _takes_environment(policy: Callable[..., Any]) -> bool:
    """Whether a function takes key, observation, state and params, as JAX policies do, or whatever it is given."""
    try:
        parameters = list(inspect.signature(policy).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters if each.kind in positional and each.default is inspect.Parameter.empty]
    return len(needed) == 4 or [each.kind for each in parameters] == [inspect.Parameter.VAR_POSITIONAL]


def _of_host(name: str, policy: Callable[[np.ndarray], Any], env: "EdgeExperts") -> Policy:
    """A function of observations on the host, as a policy that JAX calls back."""

    def decide(observations: Any) -> np.ndarray:
        rows = np.asarray(observations, np.float32)
        flat = rows.reshape(-1, rows.shape[-1])
        found = policy(flat)
        actions = np.asarray(found[0] if isinstance(found, tuple) else found)
        whole = actions.shape == (len(flat),) and actions.dtype.kind in "iuf" and np.all(np.mod(actions, 1) == 0)
        if not whole or np.any((actions < 0) | (actions >= env.num_actions)):
            raise InputError(
                f"policy {name!r} must give {len(flat)} actions from 0 to {env.num_actions - 1} for {len(flat)} "
                f"observations, and gave {_shown(actions)}"
            )
        return actions.reshape(rows.shape[:-1]).astype(np.int32)

    decide(np.zeros((TRIED, env.settings.observation_size), np.float32))  # before JAX hides what goes wrong
    shape = jax.ShapeDtypeStruct((), jnp.int32)

    def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
        del key, state, params
        return jax.pure_callback(decide, shape, observation, vmap_method="broadcast_all")

    return act


def _shown(actions: np.ndarray) -> str:
    return f"{actions.dtype} of shape {actions.shape}" if actions.size > 8 else np.array2string(actions)


def _home(agent: TrainedAgent) -> str:
    signature = agent.job.signature
    return repr((signature.scenario, signature.settings, dict(agent.params)))
