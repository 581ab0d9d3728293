"""Baselines: policies that do not learn, to compare learned ones with; each says what it knows.

A policy is `(key, observation, state, params) -> action` for one environment. Those that read only the observation
could be deployed as a trained policy is; those that read the state know what no user can know, and bound what is
possible.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from jaxmoe.env import rules
from jaxmoe.env.actions import device_choices, encode_action, subsets
from jaxmoe.env.observation import quantities, told_params
from jaxmoe.env.params import EnvParams, Settings, by_episode
from jaxmoe.env.rules import EnvState, Slot
from jaxmoe.errors import InputError, require_name
from jaxmoe.names import short

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

Policy = Callable[[Array, Float[Array, " O"], EnvState, EnvParams], Int[Array, ""]]

RIDGE_PENALTY = 1.0
DRIFT_WEIGHT = 0.006  # QoS per second squared, found by simulation in `queueing`
TRIED = 8  # first actions that `lookahead` tries, at most
AFTERWARDS = 128  # actions that it chooses among in each slot of a future, at most
ROLLOUTS, HORIZON = 16, 8  # futures of each first action, and slots of a future
DEVICE_S = 1e-8  # of two CPU cores, for one device in one action of one slot: measured with 4 to 14 devices


class Baseline(NamedTuple):
    """A policy with its name."""

    name: str
    act: Policy


class Registered(NamedTuple):
    """What is known of a baseline before it is bound to an environment."""

    make: Callable[..., Policy]  # (env, train), or (env, train, member) where there are members
    knows: Callable[[Settings], str]
    deployable: bool
    applies: Callable[[Settings], bool]
    members: Callable[[Settings], Sequence[int]] | None
    label: Callable[[int], str]
    level: Callable[[Settings], float | None]
    seconds: Callable[[Settings], float]

    def policy(self, env: "EdgeExperts", train: EnvParams, member: int | Array) -> Policy:
        """The policy of a member, of which there may be but one."""
        return self.make(env, train) if self.members is None else self.make(env, train, member)

    def numbers(self, settings: Settings) -> list[int]:
        """The members to choose from."""
        return [0] if self.members is None else [int(number) for number in self.members(settings)]


BASELINES: dict[str, Registered] = {}


def register_baseline(
    name: str,
    make: Callable[..., Policy],
    *,
    knows: str | Callable[[Settings], str],
    deployable: bool,
    applies: Callable[[Settings], bool] = lambda _settings: True,
    members: Callable[[Settings], Sequence[int]] | None = None,
    label: Callable[[int], str] = str,
    level: Callable[[Settings], float | None] = lambda _settings: None,
    seconds: Callable[[Settings], float] = lambda _settings: 0.0,
) -> None:
    """Let a policy that does not learn be evaluated beside agents, on the same requests.

    Args:
        name: as specs and commands say it: a letter, then letters, digits or `_`.
        make: `make(env, train)` gives a policy `(key, observation, state, params) -> action` of one environment, which
            JAX can trace; `train` are the parameters with the train prompts, from which it may learn beforehand.
        knows: what it may read, in a few words, for reports; or a function of a scenario's settings that says it.
        deployable: whether it reads only what an agent may observe, so that a user could have it.
        applies: whether it suits a scenario's settings.
        members: of a family of policies their numbers, traced when `make(env, train, member)` is called; the one that
            is best on train prompts is kept.
        label: a member in words, as in `fixed_subset(6)`.
        level: the normalised score that it stands for in a scenario, 0 or 1; none of most.
        seconds: of a baseline that thinks long, about how many a request takes on two CPU cores, in a scenario with
            these settings; it then serves as many of the first requests as can be waited for.

    Raises:
        InputError: the name is taken, or is no name.
    """
    require_name(name, "a baseline", BASELINES)
    if name in BASELINES:
        raise InputError(f"a baseline named {short(name)} is registered already")
    told = (lambda _settings: knows) if isinstance(knows, str) else knows
    BASELINES[name] = Registered(make, told, deployable, applies, members, label, level, seconds)


def suited_baselines(settings: Settings) -> tuple[str, ...]:
    """Names of the baselines that suit a scenario's settings."""
    return tuple(name for name, each in BASELINES.items() if each.applies(settings))


def levels(settings: Settings) -> dict[str, float]:
    """Normalised scores that baselines stand for in a scenario: the one of 0, and the one of 1."""
    found = {name: BASELINES[name].level(settings) for name in suited_baselines(settings)}
    return {name: level for name, level in found.items() if level is not None}


def random(env: "EdgeExperts") -> Baseline:
    """Every assignment with the same probability."""

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del observation, state, params
        return jax.random.randint(key, (), 0, env.num_actions)

    return Baseline("random", act)


def fixed_subset(env: "EdgeExperts", subset: int | Array) -> Baseline:
    """Always the same experts, each on its available replica with the best observed SNR."""
    settings = env.settings
    members = (subset >> jnp.arange(settings.num_experts) & 1).astype(bool)

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation, params
        return _on_best_replicas(members, state, settings)

    return Baseline(f"fixed_subset({subset})", act)


def greedy_snr(env: "EdgeExperts", k: int | Array) -> Baseline:
    """The k experts with the best observed SNR."""
    settings = env.settings

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation, params
        return _on_best_replicas(_top(jnp.max(_observed_snr_db(state, settings), axis=1), k), state, settings)

    return Baseline(f"greedy_snr(k={k})", act)


def top_k_relevance(env: "EdgeExperts", k: int | Array) -> Baseline:
    """The k experts that the gate calls most relevant, each on its available replica with the best observed SNR."""
    settings = env.settings

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return _on_best_replicas(_top(quantities(state, params, settings)["relevance"], k), state, settings)

    return Baseline(f"top_k_relevance(k={k})", act)


def predict_then_optimise(env: "EdgeExperts", train: EnvParams) -> Baseline:
    """What a careful engineer does without learning by trial: predict the scores, then minimise costs.

    Ridge regression from relevance to the score of every subset, fitted on the prompts of `train`; then the action
    with the largest QoS of this slot, under the predicted scores, the expected words and the observed channel. Costs
    are exact, but for numbers that episodes draw and the observation does not say: of these it takes the mean.
    """
    predicted = predicted_values(env, train)

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(predicted(state, params))

    return Baseline("predict_then_optimise", act)


def one_slot_optimum(env: "EdgeExperts") -> Baseline:
    """The action of the largest expected QoS of this slot, with true scores, words and channel; exact in `oneshot`."""

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(slot_values(rules.true_slot(state, params), by_episode(params, state.drawn), env.settings))

    return Baseline("one_slot_optimum", act)


def drift_plus_penalty(env: "EdgeExperts", weight: float = DRIFT_WEIGHT) -> Baseline:
    """One-slot optimum of `QoS - weight * sum(compute_s * backlog_s)`.

    Lyapunov drift-plus-penalty (Neely 2010, Stochastic Network Optimization, section 4.2): work is kept away from
    devices where it would wait.
    """

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del key, observation
        return jnp.argmax(_drift_values(state, params, env.settings, weight, jnp.arange(env.num_actions)))

    return Baseline("drift_plus_penalty", act)


def lookahead(
    env: "EdgeExperts", rollouts: int = ROLLOUTS, horizon: int = HORIZON, weight: float = DRIFT_WEIGHT
) -> Baseline:
    """Rollout planner (Bertsekas 2019, Reinforcement Learning and Optimal Control, section 2.4) on the true model.

    Each first action is tried in `rollouts` futures of `horizon` slots, the same for all first actions, in which
    drift-plus-penalty acts afterwards; the action with the best mean sum of QoS is taken. It knows the true model and
    this slot, not the future's draws.

    Of more than `TRIED` first actions it tries those that drift-plus-penalty values most, so that what that policy
    would do is among them: a rollout is no worse than its base policy whichever other actions it tries (simplified
    rollout, same section). The one-slot optimum alone may be none of them, where a long queue makes it a bad choice.
    Of more than `AFTERWARDS` actions the base policy knows those that ask the fewest devices.
    """
    settings = env.settings
    afterwards = jnp.asarray(_of_fewest_devices(settings, AFTERWARDS))

    def act(key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
        del observation
        expected = params.replace(judge_noise=0.0)
        keys = jax.random.split(key, (rollouts, horizon))

        def slot(state: EnvState, key: Array) -> tuple[EnvState, Array]:
            values = _drift_values(state, expected, settings, weight, afterwards)
            action = afterwards[jnp.argmax(values)]
            state, outcome = rules.transition(state, action, rules.draw(key, settings), expected, settings)
            return state, outcome.qos

        def future_qos(action: Array, keys: Array) -> Array:
            draws = rules.draw(keys[0], settings)
            following, outcome = rules.transition(state, action, draws, expected, settings)
            return outcome.qos + jnp.sum(jax.lax.scan(slot, following, keys[1:])[1])

        values = _drift_values(state, expected, settings, weight, jnp.arange(settings.num_actions, dtype=jnp.int32))
        values = jnp.where(rules.action_mask(state, settings), values, -jnp.inf)  # others do the same as one of these
        actions = jnp.sort(jax.lax.top_k(values, min(TRIED, settings.num_actions))[1])
        totals = jax.vmap(jax.vmap(future_qos, in_axes=(None, 0)), in_axes=(0, None))(actions, keys)
        return actions[jnp.argmax(jnp.mean(totals, axis=1))]

    return Baseline("lookahead", act)


def predicted_values(env: "EdgeExperts", train: EnvParams) -> Callable[[EnvState, EnvParams], Float[Array, " A"]]:
    """What `predict_then_optimise` believes: the QoS of every action in this slot."""
    table, prompts = train.table, np.asarray(train.prompts)[: int(train.num_prompts)]
    relevance, scores = np.asarray(table.relevance)[prompts], np.asarray(table.score_mean)[prompts]
    askable = subsets(env.settings)  # the scores of others may be absent, and none of them is looked up
    fitted = np.zeros((relevance.shape[1] + 1, scores.shape[1]))
    fitted[:, askable] = ridge(relevance, np.ascontiguousarray(scores[:, askable]), RIDGE_PENALTY)
    weights = jnp.asarray(fitted, jnp.float32)
    local_words = jnp.mean(table.fused_words[prompts, 0])

    def values(state: EnvState, params: EnvParams) -> Float[Array, " A"]:
        features = jnp.append(quantities(state, params, env.settings)["relevance"], 1.0)
        believed = rules.true_slot(state, params)._replace(
            words=params.words_hat,
            local_words=local_words,
            score_mean=jnp.matmul(features, weights, precision=jax.lax.Precision.HIGHEST),
            snr_db=state.observed_snr_db,
        )
        return slot_values(believed, told_params(state, params, env.settings), env.settings)

    return values


def slot_values(slot: Slot, params: EnvParams, settings: Settings) -> Float[Array, " A"]:
    """Expected QoS of every action in a slot, by enumeration; the judge's noise has mean 0 and drops out."""

    def value(chosen: Array) -> Array:
        return rules.serve(slot, chosen, jnp.float32(0.0), params, settings).qos

    return jax.vmap(value)(jnp.asarray(device_choices(settings)))


def ridge(
    features: Float[np.ndarray, "N F"], targets: Float[np.ndarray, "N S"], penalty: float
) -> Float64[np.ndarray, "F1 S"]:
    """Weights of ridge regression (Hoerl and Kennard 1970), the last row the intercept, which is not penalised.

    In float64 on the host: on a GPU or a TPU a product in default precision would lose most digits.

    >>> ridge(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]]), 0.0).round(3).tolist()
    [[2.0], [1.0]]
    """
    features, targets = features.astype(np.float64), targets.astype(np.float64)
    mean_features, mean_targets = features.mean(axis=0), targets.mean(axis=0)
    centred = features - mean_features
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    slopes = np.linalg.solve(gram, centred.T @ (targets - mean_targets))
    return np.concatenate([slopes, (mean_targets - mean_features @ slopes)[None, :]])


def _drift_values(
    state: EnvState, params: EnvParams, settings: Settings, weight: float, actions: Int[Array, " A"]
) -> Float[Array, " A"]:
    slot, params = rules.true_slot(state, params), by_episode(params, state.drawn)

    def value(chosen: Array) -> Array:
        outcome = rules.serve(slot, chosen, jnp.float32(0.0), params, settings)
        return outcome.qos - weight * jnp.sum(outcome.compute_s * state.backlog_s)

    return jax.vmap(value)(jnp.asarray(device_choices(settings))[actions])


def _of_fewest_devices(settings: Settings, most: int) -> Int[np.ndarray, " A"]:
    """At most so many actions, in their order: all that ask no more than some number of devices, one at least."""
    devices = device_choices(settings).sum(axis=1)
    within = next((limit for limit in range(devices.max(), 1, -1) if (devices <= limit).sum() <= most), 1)
    return np.flatnonzero(devices <= within).astype(np.int32)


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


def _lookahead_seconds(settings: Settings) -> float:
    """Of `lookahead` for a request: its futures, in each slot of which it tries actions."""
    futures = min(TRIED, settings.num_actions) * ROLLOUTS
    return DEVICE_S * futures * HORIZON * len(_of_fewest_devices(settings, AFTERWARDS)) * settings.num_devices


def _several_slots(settings: Settings) -> bool:
    return not settings.one_slot


def _costs(settings: Settings) -> str:
    """What is known of the numbers that costs depend on."""
    hidden = [each.name for each in settings.drawn if not each.observed]
    return f"costs, of {', '.join(hidden)} the mean" if hidden else "exact costs"


def _counts(settings: Settings) -> Sequence[int]:
    return range(1, min(settings.num_experts, settings.max_experts or settings.num_experts) + 1)


def _alone(make: Callable[["EdgeExperts"], Baseline]) -> Callable[..., Policy]:
    return lambda env, _train: make(env).act


def _member(make: Callable[["EdgeExperts", int | Array], Baseline]) -> Callable[..., Policy]:
    return lambda env, _train, member: make(env, member).act


def _at_one(settings: Settings) -> float | None:
    """The optimum of a slot has the normalised score 1 where one slot is all there is."""
    return 1.0 if settings.one_slot else None


register_baseline("random", _alone(random), knows="nothing", deployable=True, level=lambda _settings: 0.0)
register_baseline(
    "fixed_subset", _member(fixed_subset), knows="the best subset on train prompts", deployable=True,
    members=subsets,
)  # fmt: skip
register_baseline(
    "greedy_snr", _member(greedy_snr), knows="channels", deployable=True, members=_counts, label="k={}".format
)
register_baseline(
    "top_k_relevance", _member(top_k_relevance), knows="relevance", deployable=True, members=_counts,
    label="k={}".format,
)  # fmt: skip
register_baseline(
    "predict_then_optimise", lambda env, train: predict_then_optimise(env, train).act,
    knows=lambda settings: f"{_costs(settings)}; predicts scores", deployable=True,
)  # fmt: skip
register_baseline(
    "one_slot_optimum", _alone(one_slot_optimum), knows="true scores and channels", deployable=False, level=_at_one
)
register_baseline(
    "drift_plus_penalty", _alone(drift_plus_penalty), knows="true scores and channels", deployable=False,
    applies=_several_slots,
)  # fmt: skip
register_baseline(
    "lookahead", _alone(lookahead), knows="true scores and channels; plans ahead", deployable=False,
    applies=_several_slots, level=lambda _settings: 1.0, seconds=_lookahead_seconds,
)  # fmt: skip
