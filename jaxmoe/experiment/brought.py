"""Policies that users bring: functions of JAX or of the host, trained policies, and their files; each is checked.

An action that does not exist is an `InputError` that names the policy and the action, whichever way it comes.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmoe.analysis.intervals import Brought
from jaxmoe.env.exported import policy_function
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.experiment import exporting
from jaxmoe.names import short
from jaxmoe.policy import loading
from jaxmoe.policy.bundle import Bundle, read_bundle
from jaxmoe.table import ExpertTable
from jaxmoe.training.policies import evaluate_policy

if TYPE_CHECKING:
    from jaxmoe.env.baselines import Policy
    from jaxmoe.env.edge_experts import EdgeExperts

TRIED = 3  # observations that a policy of the host is tried on before it is believed
_NOT_OF_JAX = (  # what JAX says of a function that computes with numbers, as NumPy does
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
ALLOWED = "an experiment, a trained agent, a policy or its file, or a function"


def bundle_of(policy: Any) -> Bundle | None:
    """What a policy's file, or a policy that was loaded or taken out of an experiment, holds; nothing of others."""
    if isinstance(policy, str | os.PathLike):
        return read_bundle(policy)
    if isinstance(policy, exporting.Policy | loading.Policy):
        return Bundle(policy.contract, Path("policy"), "safetensors", b"", policy.tensors)
    return None


def evaluate_brought(
    name: str,
    policy: Any,
    env: "EdgeExperts",
    splits: Mapping[str, EnvParams],
    table: ExpertTable,
    requests: int,
    seed: int,
) -> dict[str, Brought]:
    """What a policy brings on each split.

    Raises:
        InputError: it is no policy, does not suit the environment, or gives an action that does not exist.
    """
    bundle = bundle_of(policy)
    on_host = bundle is not None and bundle.format == "onnx"
    if bundle is not None:
        if bundle.contract.experts != table.experts:
            raise InputError(
                f"policy {name!r} chooses among {', '.join(bundle.contract.experts)}, and the table has "
                f"{', '.join(table.experts)}"
            )
        policy = policy_function(bundle, env, splits["train"])
    if not callable(policy):
        raise InputError(f"policy {name!r} is {type(policy).__name__}; a policy is {ALLOWED}")

    def served_by(host: _Watched) -> dict[str, Brought]:
        found = evaluate_policy(host.act, env, splits, requests, seed, one_device=True)
        if host.failures:
            raise host.failures[0] from None
        return found

    if not _takes_environment(policy):
        return served_by(_of_host(name, policy, env))
    traced = _of_jax(name, policy, env)
    try:
        found = evaluate_policy(traced.act, env, splits, requests, seed, one_device=on_host, checked=True)
    except _NOT_OF_JAX:
        return served_by(_of_numpy(name, policy, env))
    if traced.failures:
        raise traced.failures[0]
    if any(np.isnan(brought.prompts.sums).any() for brought in found.values()):
        recorder = _recording(name, policy, env)
        evaluate_policy(recorder.act, env, splits, requests, seed, one_device=True)
        raise recorder.failures[0]
    return found


class _Watched(NamedTuple):
    """A policy, and what went wrong in it: JAX would hide an error behind its own, or add to it."""

    act: "Policy"
    failures: list[Exception]


def _takes_environment(policy: Callable[..., Any]) -> bool:
    """Whether a function takes key, observation, state and params, as JAX policies do, or whatever it is given."""
    try:
        parameters = list(inspect.signature(policy).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters if each.kind in positional and each.default is inspect.Parameter.empty]
    return len(needed) == 4 or [each.kind for each in parameters] == [inspect.Parameter.VAR_POSITIONAL]


def _of_host(name: str, policy: Callable[[np.ndarray], Any], env: "EdgeExperts") -> _Watched:
    """A function of observations on the host, as a policy that JAX calls back."""
    failures: list[Exception] = []

    def decide(observations: Any) -> np.ndarray:
        rows = np.asarray(observations, np.float32)
        flat = rows.reshape(-1, rows.shape[-1])
        found = policy(flat)
        actions = np.asarray(found[0] if isinstance(found, tuple) else found)
        right = actions.shape == (len(flat),) and actions.dtype.kind in "iuf"
        if not right or not np.all(_legal(actions, env)):
            gave = actions[~_legal(actions, env)][:1] if right and len(flat) > 8 else actions
            raise InputError(
                f"policy {name!r} must give {len(flat)} actions from 0 to {env.num_actions - 1} for {len(flat)} "
                f"observations, and gave {_shown(gave)}"
            )
        return actions.reshape(rows.shape[:-1]).astype(np.int32)

    def answer(observations: Any) -> np.ndarray:
        if not failures:
            try:
                return decide(observations)
            except Exception as error:
                failures.append(error)
        return np.zeros(np.shape(observations)[:-1], np.int32)

    decide(np.zeros((TRIED, env.observation_size), np.float32))

    def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
        del key, state, params
        return jax.pure_callback(answer, jax.ShapeDtypeStruct((), jnp.int32), observation, vmap_method="broadcast_all")

    return _Watched(act, failures)


def _of_numpy(name: str, policy: Callable[..., Any], env: "EdgeExperts") -> _Watched:
    """A function of key, observation, state and params in NumPy, called for one request after the other."""
    failures: list[Exception] = []

    def answer(*given: Any) -> np.ndarray:
        if not failures:
            try:
                found = policy(*jax.tree.map(np.asarray, given))
                action = np.asarray(found)
                if action.shape != () or action.dtype.kind not in "iuf" or not _legal(action, env):
                    raise _no_action(name, short(found), env)
                return action.astype(np.int32)
            except Exception as error:
                failures.append(error)
        return np.zeros((), np.int32)

    def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
        seen = (jax.random.key_data(key), observation, state, params)
        return jax.pure_callback(answer, jax.ShapeDtypeStruct((), jnp.int32), *seen, vmap_method="sequential")

    return _Watched(act, failures)


def _of_jax(name: str, policy: Callable[..., Any], env: "EdgeExperts") -> _Watched:
    """A function of JAX, its actions that do not exist as -1."""
    failures: list[Exception] = []

    def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
        found = policy(key, observation, state, params)
        try:
            action = jnp.asarray(found)
        except (TypeError, ValueError):
            failures.append(_no_action(name, short(found), env))
            return jnp.int32(-1)
        if action.shape != () or action.dtype.kind not in "iuf":
            failures.append(_no_action(name, f"{action.dtype} of shape {action.shape}", env))
            return jnp.int32(-1)
        return jnp.where(_legal(action, env), action, -1).astype(jnp.int32)

    return _Watched(act, failures)


def _recording(name: str, policy: Callable[..., Any], env: "EdgeExperts") -> _Watched:
    """A function of JAX, watched on the host: the first action that does not exist."""
    failures: list[Exception] = []

    def record(actions: Any) -> np.ndarray:
        given = np.asarray(actions)
        legal = _legal(given, env)
        if not np.all(legal) and not failures:
            failures.append(_no_action(name, _shown(given[~legal][:1]), env))
        return np.where(legal, given, 0).astype(np.int32)

    def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
        action = jnp.asarray(policy(key, observation, state, params))
        return jax.pure_callback(record, jax.ShapeDtypeStruct((), jnp.int32), action, vmap_method="broadcast_all")

    return _Watched(act, failures)


def _legal(actions: Any, env: "EdgeExperts") -> Any:
    """Which actions exist, of NumPy's or JAX's."""
    return (actions >= 0) & (actions < env.num_actions) & (actions % 1 == 0)


def _no_action(name: str, gave: str, env: "EdgeExperts") -> InputError:
    return InputError(
        f"policy {name!r} must give one action from 0 to {env.num_actions - 1} for an observation, and gave {gave}"
    )


def _shown(actions: np.ndarray) -> str:
    if actions.size > 8:
        return f"{actions.dtype} of shape {actions.shape}"
    return repr(actions.item()) if actions.shape == (1,) else np.array2string(actions)
