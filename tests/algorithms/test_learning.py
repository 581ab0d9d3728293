"""Each algorithm on environments whose values are known, and what every algorithm must keep to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, learn, numbers
from probe_envs import Contextual, Delayed, Ending, Endless, Forbidden, OneStep, ProbeParams, TwoSteps

from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.categorical import ILLEGAL
from jaxmoe.algorithms.networks import MLP

pytestmark = [
    pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys()),
    pytest.mark.usefixtures("quick_compilation"),
]


def clock(iteration, iterations=10):
    return Clock(jnp.int32(iteration), jnp.int32(iterations))


def plain(state):
    """All leaves of an agent, its key as numbers."""
    return jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))


def test_one_step_is_worth_its_reward(case):
    _, values, _ = learn(case, OneStep)
    np.testing.assert_allclose(values, [1.0], atol=0.02)


def test_terminating_steps_are_worth_one_reward_each(case):
    _, values, _ = learn(case, Ending)
    np.testing.assert_allclose(values, [1.0], atol=0.02)


@pytest.mark.parametrize("discount", [0.9, 0.5])
def test_the_first_of_two_steps_is_worth_the_discounted_second(case, discount):
    _, values, _ = learn(case, TwoSteps, hypers=case.hypers._replace(discount=discount))
    np.testing.assert_allclose(values, [discount, 1.0], atol=0.03)


@pytest.mark.parametrize("time_limit", [1, 5])
def test_a_time_limit_does_not_lower_the_value_of_an_endless_task(case, time_limit):
    hypers = case.hypers._replace(discount=0.5)
    _, values, _ = learn(case, Endless, hypers=hypers, max_steps_in_episode=time_limit)
    np.testing.assert_allclose(values, [2.0], atol=0.05)


def test_the_action_follows_the_observation(case):
    _, values, actions = learn(case, Contextual)
    assert actions.tolist() == [0, 1]
    np.testing.assert_allclose(values, [1.0, 1.0], atol=0.1)


@pytest.mark.parametrize(("discount", "right"), [(0.9, 1), (0.2, 0)])
def test_a_delayed_reward_is_worth_waiting_for_only_if_the_discount_says_so(case, discount, right):
    _, _, actions = learn(case, Delayed, hypers=case.hypers._replace(discount=discount))
    assert actions[0] == right


def test_an_illegal_action_is_never_taken_and_its_value_never_believed(case):
    algorithm = case.module.make(Forbidden(), case.config, ProbeParams())
    hypers = numbers(case.hypers._replace(discount=0.9))
    step = jax.jit(algorithm.step)
    state, rewards = algorithm.init(jax.random.key(0), hypers, ProbeParams()), []
    for iteration in range(150):
        state, metrics = step(state, hypers, ProbeParams(), clock(iteration, 150))
        rewards.append(float(metrics["reward"]))
    assert max(rewards) <= 3.0  # never a share of 10
    observations = jnp.eye(2)
    preferences = np.asarray(algorithm.preferences(state.policy, observations))
    assert preferences.argmax(axis=1).tolist() == [1, 0]
    assert preferences[1, 1] == ILLEGAL
    keys = jax.random.split(jax.random.key(1), 1000)
    assert not np.any(jax.vmap(lambda key: algorithm.act(state.policy, observations[1], key))(keys))
    if case is CASES["ppo"]:
        np.testing.assert_allclose(case.values(algorithm, state, observations), [3.0, 1.0], atol=0.1)
        return
    q = preferences if case is CASES["dqn"] else critics_of(algorithm, state, observations)
    np.testing.assert_allclose([q[0, 1], q[1, 0]], [3.0, 1.0], atol=0.1)
    np.testing.assert_allclose(q[0, 0], 0.9, atol=0.15)  # 2.7, if the best action of position 1 were thought to be 1


def critics_of(algorithm, state, observations):
    critic = MLP(algorithm.actor.network)
    return np.min(jax.vmap(critic.apply, (0, None))(state.learner.critics, observations), axis=0)


def test_the_same_key_gives_the_same_agent_and_another_key_another_one(case):
    first, second, other = (plain(learn(case, Contextual, 5, seed=seed)[0]) for seed in (0, 0, 1))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))


def test_an_agent_stored_on_the_host_goes_on_bit_by_bit(case):
    algorithm, hypers = case.make(), numbers(case.hypers)

    def run(state, iterations):
        for iteration in iterations:
            state, _ = algorithm.step(state, hypers, Contextual.numbers(), clock(iteration, 6))
        return state

    start = algorithm.init(jax.random.key(3), hypers, Contextual.numbers())
    half = run(start, range(3))
    stored = jax.tree.map(np.asarray, half._replace(key=jax.random.key_data(half.key)))
    restored = jax.tree.map(jnp.asarray, stored)
    restored = restored._replace(key=jax.random.wrap_key_data(restored.key))
    whole, resumed = run(start, range(6)), run(restored, range(3, 6))
    for expected, found in zip(plain(whole), plain(resumed), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_no_tracer_stays_behind_in_an_agent(case):
    algorithm, hypers = case.make(), numbers(case.hypers)
    arguments = jax.random.key(0), hypers, Contextual.numbers()
    state = algorithm.init(*arguments)
    with jax.checking_leaks():
        jax.jit(algorithm.init.__wrapped__).trace(*arguments)
        jax.jit(algorithm.step.__wrapped__).trace(state, *arguments[1:], clock(case.waiting))


def test_rates_fall_with_the_clock_that_all_agents_share(case):
    algorithm = case.make()
    hypers = numbers(case.hypers._replace(final_rate=0.0))
    start = algorithm.init(jax.random.key(0), hypers, Contextual.numbers())
    at_the_end, _ = algorithm.step(start, hypers, Contextual.numbers(), clock(10))
    before_it, _ = algorithm.step(start, hypers, Contextual.numbers(), clock(9))
    policies = [jax.tree.leaves(state.policy) for state in (start, at_the_end, before_it)]
    assert all(np.array_equal(*pair) for pair in zip(policies[0], policies[1], strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(policies[0], policies[2], strict=True))


def test_a_diverged_agent_is_flagged_and_acts_by_its_last_finite_policy(case):
    algorithm, hypers = case.make(), numbers(case.hypers)
    start = algorithm.init(jax.random.key(0), hypers, OneStep.numbers())
    state, _ = algorithm.step(start, hypers, OneStep.numbers(reward_scale=float("nan")), clock(case.waiting))
    again, _ = algorithm.step(state, hypers, OneStep.numbers(), clock(case.waiting + 1))
    assert bool(state.diverged)
    assert bool(again.diverged)
    jax.tree.map(np.testing.assert_array_equal, again.policy, start.policy)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(again.learner))


def test_an_enormous_rate_leaves_a_finite_policy(case):
    algorithm = case.make()
    rates = {name: 3e38 for name in case.hypers._fields if name in ("learning_rate", "actor_rate", "critic_rate")}
    hypers = numbers(case.hypers._replace(**rates))
    state = algorithm.init(jax.random.key(0), hypers, OneStep.numbers())
    for iteration in range(3):
        state, _ = algorithm.step(state, hypers, OneStep.numbers(), clock(case.waiting + iteration))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.policy, state.learner)))


def test_keys_are_threefry_so_that_no_agent_depends_on_its_neighbours(case):
    state = case.make().init(jax.random.key(0), numbers(case.hypers), Contextual.numbers())
    assert str(jax.random.key_impl(state.key)) == "threefry2x32"


def test_the_acting_policy_explores_around_the_greedy_action(case):
    algorithm = case.make()
    policy = algorithm.init(jax.random.key(0), numbers(case.hypers), Contextual.numbers()).policy
    keys = jax.random.split(jax.random.key(1), 200)
    actions = jax.vmap(algorithm.act, in_axes=(None, None, 0))(policy, jnp.array([1.0, 0.0]), keys)
    assert set(actions.tolist()) == {0, 1}


def test_an_iteration_tells_the_reward_and_what_it_has_learned_from(case):
    algorithm, hypers = case.make(), numbers(case.hypers)
    state = algorithm.init(jax.random.key(0), hypers, OneStep.numbers())
    for iteration in (0, case.waiting):
        state, metrics = algorithm.step(state, hypers, OneStep.numbers(), clock(iteration))
        assert float(metrics["reward"]) == 1.0
        measured = [bool(np.isfinite(value)) for name, value in metrics.items() if name != "reward"]
        assert measured == [iteration >= case.waiting] * len(measured)  # missing until learning begins
