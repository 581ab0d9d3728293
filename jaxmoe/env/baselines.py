"""Baselines: policies that do not learn, to compare learned ones with; each says what it knows.

A policy is `(key, observation, state, params) -> action` for one environment. Those that read only the observation
could be deployed as a trained policy is; those that read the state know what no user can know, and bound what is
possible.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmoe.env import rules
from jaxmoe.env.observation import quantities
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.env.rules import EnvState, Slot, encode_action

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

Policy = Callable[[Array, Float[Array, " O"], EnvState, EnvParams], Int[Array, ""]]

RIDGE_PENALTY = 1.0
DRIFT_WEIGHT = 0.006  # QoS per second squared, found by simulation in `queueing`


class Baseline(NamedTuple):
    """A policy with its name, and the information it uses."""

    name: str
    knows: str
    act: Policy


def random(env: "EdgeExperts") -> Baseline:
    """Every assignment with the same probability."""

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del observation, state, params
        return jax.random.randint(key, (), 0, env.num_actions)

    return Baseline("random", "nothing", act)


def fixed_subset(env: "EdgeExperts", subset: int | Array) -> Baseline:
    """Always the same experts, each on its available replica with the best observed SNR."""
    settings = env.settings
    members = (subset >> jnp.arange(settings.num_experts) & 1).astype(bool)

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation, params
        return _on_best_replicas(members, state, settings)

    return Baseline(f"fixed_subset({subset})", "which experts are good on average", act)


def greedy_snr(env: "EdgeExperts", k: int | Array) -> Baseline:
    """The k experts with the best observed SNR."""
    settings = env.settings

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation, params
        return _on_best_replicas(_top(jnp.max(_observed_snr_db(state, settings), axis=1), k), state, settings)

    return Baseline(f"greedy_snr(k={k})", "observed SNR", act)


def top_k_relevance(env: "EdgeExperts", k: int | Array) -> Baseline:
    """The k experts that the gate calls most relevant, each on its available replica with the best observed SNR."""
    settings = env.settings

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return _on_best_replicas(_top(quantities(state, params, settings)["relevance"], k), state, settings)

    return Baseline(f"top_k_relevance(k={k})", "relevance", act)


def predict_then_optimise(env: "EdgeExperts", train: EnvParams) -> Baseline:
    """What a careful engineer does without learning by trial: predict the scores, then minimise exact costs.

    Ridge regression from relevance to the score of every subset, fitted on the prompts of `train`; then the action
    with the largest QoS of this slot, under the predicted scores, the expected words and the observed channel.
    """
    predicted = predicted_values(env, train)

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(predicted(state, params))

    return Baseline("predict_then_optimise", "observation, scores of the train prompts, exact costs", act)


def one_slot_optimum(env: "EdgeExperts") -> Baseline:
    """The action of the largest expected QoS of this slot, with true scores, words and channel; exact in `oneshot`."""

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(slot_values(rules.true_slot(state, params), params, env.settings))

    return Baseline("one_slot_optimum", "true scores, words and channel of this slot", act)


def drift_plus_penalty(env: "EdgeExperts", weight: float = DRIFT_WEIGHT) -> Baseline:
    """One-slot optimum of `QoS - weight * sum(compute_s * backlog_s)`.

    Lyapunov drift-plus-penalty (Neely 2010, Stochastic Network Optimization, section 4.2): work is kept away from
    devices where it would wait.
    """

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(_drift_values(state, params, env.settings, weight))

    return Baseline("drift_plus_penalty", "true scores, words and channel of this slot", act)


def lookahead(env: "EdgeExperts", rollouts: int = 16, horizon: int = 8, weight: float = DRIFT_WEIGHT) -> Baseline:
    """Rollout planner (Bertsekas 2019, Reinforcement Learning and Optimal Control, section 2.4) on the true model.

    Each first action is tried in `rollouts` futures of `horizon` slots, the same for all first actions, in which
    drift-plus-penalty acts afterwards; the action with the best mean sum of QoS is taken. It knows the true model and
    this slot, not the future's draws.
    """
    settings = env.settings

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del observation
        expected = params.replace(judge_noise=0.0)
        keys = jax.random.split(key, (rollouts, horizon))

        def slot(state: EnvState, key: Array) -> tuple[EnvState, Array]:
            action = jnp.argmax(_drift_values(state, expected, settings, weight))
            state, outcome = rules.transition(state, action, rules.draw(key, settings), expected, settings)
            return state, outcome.qos

        def future_qos(action: Array, keys: Array) -> Array:
            draws = rules.draw(keys[0], settings)
            following, outcome = rules.transition(state, action, draws, expected, settings)
            return outcome.qos + jnp.sum(jax.lax.scan(slot, following, keys[1:])[1])

        actions = jnp.arange(settings.num_actions, dtype=jnp.int32)
        totals = jax.vmap(jax.vmap(future_qos, in_axes=(None, 0)), in_axes=(0, None))(actions, keys)
        return jnp.argmax(jnp.mean(totals, axis=1))

    return Baseline("lookahead", "true model and this slot, not the future's draws", act)


def predicted_values(env: "EdgeExperts", train: EnvParams) -> Callable[[EnvState, EnvParams], Float[Array, " A"]]:
    """What `predict_then_optimise` believes: the QoS of every action in this slot."""
    table, prompts = train.table, train.prompts[: int(train.num_prompts)]
    weights = ridge(table.relevance[prompts], table.score_mean[prompts], RIDGE_PENALTY)
    local_words = jnp.mean(table.fused_words[prompts, 0])

    def values(state: EnvState, params: EnvParams) -> Float[Array, " A"]:
        features = jnp.append(quantities(state, params, env.settings)["relevance"], 1.0)
        believed = rules.true_slot(state, params)._replace(
            words=params.words_hat,
            local_words=local_words,
            score_mean=features @ weights,
            snr_db=state.observed_snr_db,
        )
        return slot_values(believed, params, env.settings)

    return values


def slot_values(slot: Slot, params: EnvParams, settings: Settings) -> Float[Array, " A"]:
    """Expected QoS of every action in a slot, by enumeration; the judge's noise has mean 0 and drops out."""

    def value(chosen: Array) -> Array:
        return rules.serve(slot, chosen, jnp.float32(0.0), params, settings).qos

    return jax.vmap(value)(jnp.asarray(rules.device_choices(settings)))


def ridge(
    features: Float[Array, "N F"], targets: Float[Array, "N S"], penalty: float | Float[Array, ""]
) -> Float[Array, "F1 S"]:
    """Weights of ridge regression (Hoerl and Kennard 1970), the last row the intercept, which is not penalised.

    >>> ridge(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [3.0], [5.0]]), 0.0).round(3).tolist()
    [[2.0], [1.0]]
    """
    mean_features, mean_targets = jnp.mean(features, axis=0), jnp.mean(targets, axis=0)
    centred = features - mean_features[None, :]
    gram = centred.T @ centred + penalty * jnp.eye(features.shape[1])
    slopes = jnp.linalg.solve(gram, centred.T @ (targets - mean_targets[None, :]))
    return jnp.concatenate([slopes, (mean_targets - mean_features @ slopes)[None, :]])


def _drift_values(state: EnvState, params: EnvParams, settings: Settings, weight: float) -> Float[Array, " A"]:
    slot = rules.true_slot(state, params)

    def value(chosen: Array) -> Array:
        outcome = rules.serve(slot, chosen, jnp.float32(0.0), params, settings)
        return outcome.qos - weight * jnp.sum(outcome.compute_s * state.backlog_s)

    return jax.vmap(value)(jnp.asarray(rules.device_choices(settings)))


def _observed_snr_db(state: EnvState, settings: Settings) -> Float[Array, "E R"]:
    """Observed SNR of each replica, minus infinity where the device is not available."""
    snr_db = jnp.where(state.available, state.observed_snr_db, -jnp.inf)
    return snr_db.reshape(settings.num_experts, settings.num_replicas)


def _top(values: Float[Array, " E"], k: int | Array) -> Array:
    """Which k values are the largest; the first ones among equals."""
    rank = jnp.argsort(jnp.argsort(-values))
    return rank < k


def _on_best_replicas(members: Array, state: EnvState, settings: Settings) -> Int[Array, ""]:
    """Assignment of a subset: each expert on the available replica with the best observed SNR, if there is one."""
    snr_db = _observed_snr_db(state, settings)
    reachable = jnp.max(snr_db, axis=1) > -jnp.inf
    choices = jnp.where(members & reachable, 1 + jnp.argmax(snr_db, axis=1), 0)
    return encode_action(choices, settings)
