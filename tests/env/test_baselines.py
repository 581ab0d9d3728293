"""Baselines: by hand, against enumeration with the NumPy twin, and without looking where they must not."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpy_twin as twin
import pytest
from many_experts import small_table
from walks import as_numpy, random_walk, row

import jaxmoe
from jaxmoe.env import baselines
from jaxmoe.env.actions import device_choices
from jaxmoe.env.observation import quantities
from jaxmoe.env.params import Settings
from jaxmoe.training.policies import evaluate_policy

pytestmark = pytest.mark.usefixtures("quick_compilation")

SLOTS = 2000  # as in test_rules, so that both use the same programs
STATES = 60
CASES = {
    "oneshot": ("oneshot", {}),
    "fading": ("fading", {}),
    "queueing": ("queueing", {}),
    "two replicas": ("oneshot", {"num_replicas": 2, "sharing": "shared"}),
}


def states_of(case, **numbers):
    """An environment, its parameters and states of a random walk through it."""
    scenario, settings = CASES[case]
    env, params = jaxmoe.make(scenario, **settings)
    params = params.replace(**numbers)
    return env, params, row(random_walk(env, params, 1, SLOTS).states, slice(STATES))


def actions_of(baseline, env, params, states, keys=None):
    """What a baseline does in each state."""
    keys = jax.random.split(jax.random.key(0), len(states.time)) if keys is None else keys

    def act(key, state, params):
        return baseline.act(key, env.observe(key, state, None, params), state, params)

    return np.asarray(jax.jit(jax.vmap(act, in_axes=(0, 0, None)))(keys, states, params))


def twin_values(env, numbers, states, drift_weight=0.0):
    """Value of every action in each state by the twin, and whether none of them is near a threshold."""
    states = as_numpy(states)
    values, clear = [], []
    for state in (row(states, index) for index in range(len(states.time))):
        outcomes = [twin.serve(state, action, 0.0, numbers, env.settings) for action in range(env.num_actions)]
        waits = [np.sum(outcome.compute_s * state.backlog_s) for outcome in outcomes]
        values.append([outcome.qos - drift_weight * wait for outcome, wait in zip(outcomes, waits, strict=True)])
        clear.append(min(outcome.nearest for outcome in outcomes) > 1e-4)
    return np.array(values), np.array(clear)


def assert_best(actions, values, clear):
    """Every action is worth as much as the best one: two may be equal but for rounding."""
    assert clear.mean() > 0.9
    chosen = np.take_along_axis(values, actions[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen[clear], values.max(axis=1)[clear], atol=1e-5)


# Those that enumerate


@pytest.mark.parametrize("case", CASES)
def test_one_slot_optimum_is_the_best_of_all_actions(case):
    env, params, states = states_of(case)
    actions = actions_of(baselines.one_slot_optimum(env), env, params, states)
    assert_best(actions, *twin_values(env, as_numpy(params), states))
    assert len(set(actions)) > 4


def test_drift_plus_penalty_is_the_best_of_all_actions_under_its_penalty():
    env, params, states = states_of("queueing")
    actions = actions_of(baselines.drift_plus_penalty(env), env, params, states)
    assert_best(actions, *twin_values(env, as_numpy(params), states, drift_weight=0.006))
    assert (actions != actions_of(baselines.one_slot_optimum(env), env, params, states)).any()


def test_drift_plus_penalty_without_backlog_is_the_one_slot_optimum():
    env, params, states = states_of("queueing")
    states = states._replace(backlog_s=jnp.zeros_like(states.backlog_s))
    drift, optimum = (
        actions_of(make(env), env, params, states)
        for make in (baselines.drift_plus_penalty, baselines.one_slot_optimum)
    )
    np.testing.assert_array_equal(drift, optimum)


# Those that follow a rule


def one_state(env, params, observed_snr_db):
    """A state with this observed channel, and a true one that says the opposite."""
    _, state = jax.jit(env.reset_env)(jax.random.key(0), params)
    observed = jnp.array(observed_snr_db)
    return jax.tree.map(lambda leaf: leaf[None], state._replace(observed_snr_db=observed, snr_db=-observed))


@pytest.mark.parametrize(
    ("make_baseline", "expected"),
    [
        (partial(baselines.fixed_subset, subset=0), 0),
        (partial(baselines.fixed_subset, subset=0b1011), 0b1011),
        (partial(baselines.greedy_snr, k=1), 0b0010),
        (partial(baselines.greedy_snr, k=2), 0b1010),
        (partial(baselines.greedy_snr, k=3), 0b1011),
        (partial(baselines.greedy_snr, k=4), 0b1111),
        (partial(baselines.top_k_relevance, k=1), 0b0100),
        (partial(baselines.top_k_relevance, k=2), 0b0101),
        (partial(baselines.top_k_relevance, k=3), 0b0111),
    ],
)
def test_a_rule_by_hand(make_baseline, expected):
    env, params = jaxmoe.make("oneshot")
    relevance = params.table.relevance.at[:].set(jnp.array([0.5, 0.2, 0.9, 0.1]))
    params = params.replace(table=replace(params.table, relevance=relevance))
    state = one_state(env, params, [3.0, 9.0, 1.0, 5.0])
    assert actions_of(make_baseline(env), env, params, state) == [expected]


@pytest.mark.parametrize(
    ("make_baseline", "expected"),
    [
        (partial(baselines.fixed_subset, subset=0b0101), 2 + 1 * 9),  # digits in base 3
        (partial(baselines.fixed_subset, subset=0b1010), 2 * 3 + 2 * 27),
        (partial(baselines.greedy_snr, k=1), 2),
        (partial(baselines.greedy_snr, k=2), 2 + 1 * 9),
        (partial(baselines.greedy_snr, k=3), 2 + 2 * 3 + 1 * 9),
    ],
)
def test_a_rule_takes_the_replica_with_the_best_observed_channel(make_baseline, expected):
    env, params = jaxmoe.make("oneshot", num_replicas=2)
    state = one_state(env, params, [3.0, 9.0, 1.0, 5.0, 7.0, 7.0, 0.0, 2.0])
    assert actions_of(make_baseline(env), env, params, state) == [expected]


def test_a_rule_asks_no_device_that_is_seen_to_be_absent():
    env, params = jaxmoe.make("oneshot", num_replicas=2)
    state = one_state(env, params, [3.0, 9.0, 1.0, 5.0, 7.0, 7.0, 0.0, 2.0])
    present = jnp.array([[True, False, True, True, True, True, False, False]])
    state = state._replace(available=present)
    everyone = actions_of(baselines.fixed_subset(env, 0b1111), env, params, state)
    assert everyone == [1 + 2 * 3 + 1 * 9]  # the first one's other replica, and not the last one
    assert actions_of(baselines.greedy_snr(env, 1), env, params, state) == [1 * 9]


def test_the_first_of_equal_experts_is_taken():
    env, params = jaxmoe.make("oneshot")
    state = one_state(env, params, [4.0, 4.0, 4.0, 4.0])
    assert actions_of(baselines.greedy_snr(env, 2), env, params, state) == [0b0011]


def test_random_takes_every_action_equally_often():
    env, params = jaxmoe.make("oneshot")
    states = jax.tree.map(lambda leaf: jnp.repeat(leaf, 4000, axis=0), one_state(env, params, [0.0] * 4))
    counts = np.bincount(actions_of(baselines.random(env), env, params, states), minlength=16)
    assert counts.shape == (16,)
    assert np.all(np.abs(counts - 250) < 5 * np.sqrt(250))


# What each knows


def believed(numbers):
    """What predict-then-optimise should believe, by the normal equations of ridge regression."""
    table, train, prompts = numbers.table, np.arange(16), len(numbers.table.relevance)
    design = np.column_stack([table.relevance, np.ones(prompts)])
    penalty = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    weights = np.linalg.solve(design[train].T @ design[train] + penalty, design[train].T @ table.score_mean[train])
    return numbers.replace(
        table=SimpleNamespace(
            words=np.tile(numbers.words_hat, (prompts, 1)),
            score_mean=design @ weights,
            score_std=np.zeros((prompts, 16)),
            fused_words=np.full((prompts, 16), table.fused_words[train, 0].mean()),
        )
    )


@pytest.mark.parametrize("case", ["oneshot", "queueing"])
def test_predict_then_optimise_is_the_best_action_under_a_ridge_prediction(case):
    env, params, states = states_of(case)
    test_params = jaxmoe.make(CASES[case][0], split="test")[1]
    states = states._replace(prompt=jnp.arange(STATES, dtype=jnp.int32) % 32)
    actions = actions_of(baselines.predict_then_optimise(env, params), env, test_params, states)
    seen = states._replace(snr_db=states.observed_snr_db)
    assert_best(actions, *twin_values(env, believed(as_numpy(test_params)), seen))
    assert len(set(actions)) > 3


def test_predict_then_optimise_reads_no_score_or_text_of_a_test_prompt():
    env, train, states = states_of("oneshot")
    states = states._replace(prompt=24 + jnp.arange(STATES, dtype=jnp.int32) % 8)
    unread = ("words", "score_mean", "score_std", "fused_words")
    poisoned = {name: getattr(train.table, name).at[24:].set(1e9) for name in unread}
    poisoned_params = train.replace(table=replace(train.table, **poisoned))
    honest = actions_of(baselines.predict_then_optimise(env, train), env, train, states)
    fooled = actions_of(baselines.predict_then_optimise(env, poisoned_params), env, poisoned_params, states)
    np.testing.assert_array_equal(honest, fooled)
    optimum = baselines.one_slot_optimum(env)
    assert (actions_of(optimum, env, train, states) != actions_of(optimum, env, poisoned_params, states)).any()


@pytest.mark.parametrize(
    "make_baseline",
    [
        partial(baselines.fixed_subset, subset=5),
        partial(baselines.greedy_snr, k=2),
        partial(baselines.top_k_relevance, k=2),
        "predict_then_optimise",
    ],
)
def test_a_deployable_baseline_reads_neither_the_true_channel_nor_the_scores(make_baseline):
    env, params, states = states_of("queueing")
    if make_baseline == "predict_then_optimise":
        make_baseline = partial(baselines.predict_then_optimise, train=params)
    other_table = replace(params.table, score_mean=params.table.score_mean[::-1], words=2.0 * params.table.words)
    other_params, other_states = params.replace(table=other_table), states._replace(snr_db=30.0 - states.snr_db)
    known, others_known = (
        jax.vmap(partial(quantities, params=p, settings=env.settings))(s)
        for s, p in ((states, params), (other_states, other_params))
    )
    jax.tree.map(np.testing.assert_array_equal, known, others_known)
    actions = actions_of(make_baseline(env), env, params, states)
    others = actions_of(make_baseline(env), env, other_params, other_states)
    np.testing.assert_array_equal(actions, others)


# Where few experts may be asked


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Twelve experts of whom two are asked at most; of larger subsets the table knows nothing."""
    table = small_table(tmp_path_factory.mktemp("few"))
    env, params = jaxmoe.make("queueing", table, max_experts=2)
    return env, params, row(random_walk(env, params, 1, 200).states, slice(STATES))


def test_no_absent_score_is_ever_met(few):
    env, params, _ = few
    outcomes = random_walk(env, params, 1, 200).outcomes
    assert np.isfinite(outcomes.qos).all()
    assert np.asarray(outcomes.used).sum(axis=1).max() == 2


@pytest.mark.parametrize("name", ["one_slot_optimum", "drift_plus_penalty"])
def test_an_optimum_is_that_of_the_actions_there_are(few, name):
    env, params, states = few
    actions = actions_of(getattr(baselines, name)(env), env, params, states)
    weight = 0.006 if name == "drift_plus_penalty" else 0.0
    assert_best(actions, *twin_values(env, as_numpy(params), states, drift_weight=weight))
    assert len(set(actions)) > 4


def test_the_prediction_is_fitted_on_the_subsets_there_are(few):
    env, params, states = few
    predicted = jax.vmap(baselines.predicted_values(env, params), in_axes=(0, None))(states, params)
    assert predicted.shape == (STATES, 79)
    assert np.isfinite(predicted).all()
    table = params.table
    asked = device_choices(env.settings) @ (1 << np.arange(12))
    train = slice(0, 4)
    weights = baselines.ridge(np.asarray(table.relevance)[train], np.asarray(table.score_mean)[train][:, asked], 1.0)
    believed_scores = np.zeros((8, 4096))
    believed_scores[:, asked] = np.column_stack([table.relevance, np.ones(8)]) @ weights
    numbers = as_numpy(params)
    own = SimpleNamespace(
        words=np.tile(numbers.words_hat, (8, 1)),
        score_mean=believed_scores,
        score_std=np.zeros((8, 4096)),
        fused_words=np.full((8, 4096), numbers.table.fused_words[train, 0].mean()),
    )
    seen = states._replace(snr_db=states.observed_snr_db)
    actions = actions_of(baselines.predict_then_optimise(env, params), env, params, states)
    assert_best(actions, *twin_values(env, numbers.replace(table=own), seen))
    assert len(set(actions)) > 4


def test_a_prediction_with_a_limit_is_the_one_without_for_the_same_actions():
    env, params, states = states_of("queueing")
    limited = jaxmoe.make("queueing", max_experts=2)[0]
    among = [action for action in range(16) if action.bit_count() <= 2]
    every, few = (
        np.asarray(jax.vmap(baselines.predicted_values(each, params), in_axes=(0, None))(states, params))
        for each in (env, limited)
    )
    np.testing.assert_allclose(few, every[:, among], atol=1e-6)


def test_members_are_those_that_can_be_asked(few):
    settings = few[0].settings
    assert baselines.BASELINES["greedy_snr"].numbers(settings) == [1, 2]
    assert baselines.BASELINES["top_k_relevance"].numbers(settings) == [1, 2]
    members = baselines.BASELINES["fixed_subset"].numbers(settings)
    assert members == [subset for subset in range(4096) if subset.bit_count() <= 2]
    assert baselines.BASELINES["greedy_snr"].numbers(replace(settings, max_experts=None)) == list(range(1, 13))


@pytest.mark.parametrize("name", ["fixed_subset", "greedy_snr", "top_k_relevance", "random"])
def test_every_member_asks_whom_it_means(few, name):
    env, params, states = few
    own = baselines.BASELINES[name]
    every = np.array([devices.sum() for devices in device_choices(env.settings)])
    for member in own.numbers(env.settings)[-3:]:
        actions = actions_of(baselines.Baseline(name, own.policy(env, params, member)), env, params, states)
        assert ((actions >= 0) & (actions < 79)).all()
        if name == "fixed_subset":
            masks = device_choices(env.settings)[actions] @ (1 << np.arange(12))
            assert set(masks) == {member}
        elif name != "random":
            np.testing.assert_array_equal(every[actions], member)


def test_the_planner_plans_among_the_actions_there_are(few):
    env, params, states = few
    states = row(states, slice(20))
    planner = baselines.lookahead(env, rollouts=2, horizon=1)
    assert_best(actions_of(planner, env, params, states), *twin_values(env, as_numpy(params), states))


# The planner


def test_the_planner_tries_the_first_actions_that_its_base_policy_values_most(few):
    env, params, states = few
    values, clear = twin_values(env, as_numpy(params), states, drift_weight=0.006)
    actions = actions_of(baselines.lookahead(env, rollouts=1, horizon=1), env, params, states)
    ahead = (values > np.take_along_axis(values, actions[:, None], axis=1) + 1e-5).sum(axis=1)
    assert ahead[clear].max() < baselines.TRIED
    assert ahead.any()


def test_of_many_actions_the_futures_know_those_of_fewest_devices():
    def known(most, **settings):
        return baselines._of_fewest_devices(Settings(num_experts=3, **settings), most).tolist()

    assert known(8) == list(range(8))
    assert known(7) == list(range(7))  # but the one that asks everybody
    assert known(1) == [0, 1, 2, 4]
    assert known(7, num_replicas=2) == [0, 1, 2, 3, 6, 9, 18]


def test_a_request_of_the_planner_takes_seconds_that_many_actions_do_not_multiply():
    seconds = baselines.BASELINES["lookahead"].seconds
    shipped, seven = Settings(num_experts=4), Settings(num_experts=7)
    assert seconds(seven) == pytest.approx(seconds(shipped) * 128 / 16 * 7 / 4)
    assert seconds(replace(seven, num_replicas=2)) < 2 * seconds(seven)
    assert seconds(shipped) == pytest.approx(65_536 * baselines.DEVICE_S)


def test_lookahead_depends_on_its_key_alone():
    env, params, states = states_of("queueing")
    planner = baselines.lookahead(env, rollouts=2, horizon=2)
    states = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:20]] * 3), states)
    keys = jax.random.split(jax.random.key(0), 40)
    keys = jnp.concatenate([keys[:20], keys[:20], keys[20:]])
    once, again, otherwise = actions_of(planner, env, params, states, keys).reshape(3, 20)
    np.testing.assert_array_equal(once, again)
    assert (once != otherwise).any()


def test_lookahead_of_one_slot_is_the_one_slot_optimum():
    env, params, states = states_of("queueing")
    planner = baselines.lookahead(env, rollouts=2, horizon=1)
    assert_best(actions_of(planner, env, params, states), *twin_values(env, as_numpy(params), states))


@pytest.mark.slow
def test_planning_ahead_pays_in_queueing():
    env, params = jaxmoe.make("queueing")
    params = params.replace(max_steps_in_episode=24)
    planner = baselines.lookahead(env, rollouts=3, horizon=4)
    ahead, myopic = (
        evaluate_policy(baseline.act, env, {"train": params}, requests=384, seed=3)["train"].mean()[0, 0]
        for baseline in (planner, baselines.one_slot_optimum(env))
    )
    assert ahead > myopic + 0.02
