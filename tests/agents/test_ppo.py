"""PPO on environments whose values are known, and its parts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probe_envs import Contextual, Delayed, Ending, Endless, OneStep, ProbeParams, TwoSteps

from jaxmoe.agents import ppo
from jaxmoe.agents.algorithm import Clock
from jaxmoe.agents.networks import MLP
from jaxmoe.errors import InputError

CONFIG = ppo.Config(num_envs=8, rollout_length=8, epochs=2, minibatches=2, hidden=(16,))
HYPERS = ppo.Hypers(learning_rate=1e-2, final_rate=0.1, entropy_coef=0.001)


def learn(env, iterations=150, hypers=HYPERS, params=None, seed=0):
    """A trained agent: its state, the critic's values and the preferred action of each position."""
    params = ProbeParams() if params is None else params
    algorithm = ppo.make(env, CONFIG, params)
    hypers = jax.tree.map(jnp.float32, hypers)

    @jax.jit
    def run(key):
        def iterate(state, iteration):
            return algorithm.step(state, hypers, params, Clock(iteration, jnp.int32(iterations)))[0], None

        return jax.lax.scan(iterate, algorithm.init(key, hypers, params), jnp.arange(iterations, dtype=jnp.int32))[0]

    state = run(jax.random.key(seed))
    observations = jnp.eye(env.positions)
    values = MLP(CONFIG.hidden, 1).apply(state.learner.critic, observations)[:, 0]
    return state, np.asarray(values), np.argmax(algorithm.preferences(state.policy, observations), axis=1)


def test_one_step_is_worth_its_reward():
    _, values, _ = learn(OneStep())
    np.testing.assert_allclose(values, [1.0], atol=0.02)


def test_terminating_steps_are_worth_one_reward_each():
    _, values, _ = learn(Ending())
    np.testing.assert_allclose(values, [1.0], atol=0.02)


@pytest.mark.parametrize("discount", [0.9, 0.5])
def test_the_first_of_two_steps_is_worth_the_discounted_second(discount):
    _, values, _ = learn(TwoSteps(), hypers=HYPERS._replace(discount=discount))
    np.testing.assert_allclose(values, [discount, 1.0], atol=0.03)


@pytest.mark.parametrize("time_limit", [1, 5])
def test_a_time_limit_does_not_lower_the_value_of_an_endless_task(time_limit):
    hypers = HYPERS._replace(discount=0.5)
    _, values, _ = learn(Endless(), hypers=hypers, params=ProbeParams(max_steps_in_episode=time_limit))
    np.testing.assert_allclose(values, [2.0], atol=0.05)


def test_the_action_follows_the_observation():
    _, values, actions = learn(Contextual())
    assert actions.tolist() == [0, 1]
    np.testing.assert_allclose(values, [1.0, 1.0], atol=0.1)


@pytest.mark.parametrize(("discount", "right"), [(0.9, 1), (0.2, 0)])
def test_a_delayed_reward_is_worth_waiting_for_only_if_the_discount_says_so(discount, right):
    _, _, actions = learn(Delayed(), hypers=HYPERS._replace(discount=discount))
    assert actions[0] == right


def test_the_same_key_gives_the_same_agent_and_another_key_another_one():
    first, second, other = (jax.tree.leaves(learn(Contextual(), 5, seed=seed)[0].policy) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_agent_stored_on_the_host_goes_on_bit_by_bit():
    env, params = Contextual(), ProbeParams()
    algorithm = ppo.make(env, CONFIG, params)
    hypers = jax.tree.map(jnp.float32, HYPERS)
    step = jax.jit(algorithm.step)

    def run(state, iterations):
        for iteration in iterations:
            state, _ = step(state, hypers, params, Clock(jnp.int32(iteration), jnp.int32(6)))
        return state

    start = algorithm.init(jax.random.key(3), hypers, params)
    half = run(start, range(3))
    key_data = np.asarray(jax.random.key_data(half.key))
    stored = jax.tree.map(np.asarray, half._replace(key=key_data))
    restored = jax.tree.map(jnp.asarray, stored)._replace(key=jax.random.wrap_key_data(jnp.asarray(key_data)))
    whole, resumed = run(start, range(6)), run(restored, range(3, 6))
    for expected, found in zip(jax.tree.leaves(whole.policy), jax.tree.leaves(resumed.policy), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_no_tracer_stays_behind_in_an_agent():
    env, params = Contextual(), ProbeParams()
    algorithm = ppo.make(env, CONFIG, params)
    hypers = jax.tree.map(jnp.float32, HYPERS)
    with jax.checking_leaks():
        state = jax.jit(algorithm.init)(jax.random.key(0), hypers, params)
        jax.jit(algorithm.step)(state, hypers, params, Clock(jnp.int32(0), jnp.int32(1)))


def test_the_learning_rate_falls_with_the_clock_that_all_agents_share():
    env, params = Contextual(), ProbeParams()
    algorithm = ppo.make(env, CONFIG, params)
    hypers = jax.tree.map(jnp.float32, HYPERS._replace(final_rate=0.0))
    start = algorithm.init(jax.random.key(0), hypers, params)
    at_the_end, _ = algorithm.step(start, hypers, params, Clock(jnp.int32(10), jnp.int32(10)))
    before_it, _ = algorithm.step(start, hypers, params, Clock(jnp.int32(9), jnp.int32(10)))
    same = [
        np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (start.policy, at_the_end.policy)), strict=True)
    ]
    moved = [
        np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (start.policy, before_it.policy)), strict=True)
    ]
    assert all(same)
    assert not all(moved)


def test_a_diverged_agent_is_frozen_and_flagged():
    env, params = OneStep(), ProbeParams(reward_scale=float("nan"))
    algorithm = ppo.make(env, CONFIG, params)
    hypers = jax.tree.map(jnp.float32, HYPERS)
    start = algorithm.init(jax.random.key(0), hypers, params)
    state, _ = algorithm.step(start, hypers, params, Clock(jnp.int32(0), jnp.int32(2)))
    again, _ = algorithm.step(state, hypers, ProbeParams(), Clock(jnp.int32(1), jnp.int32(2)))
    assert bool(state.diverged)
    assert bool(again.diverged)
    for before, after in zip(jax.tree.leaves(start.policy), jax.tree.leaves(again.policy), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_surrogate_loss_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.8, 0.2]]))
    batch = ppo.Batch(
        observation=jnp.zeros((2, 1)),
        action=jnp.array([0, 0]),
        log_probability=jnp.log(jnp.array([0.5, 0.4])),  # ratios 1 and 2
        advantage=jnp.array([-1.0, 1.0]),  # already of mean 0 and deviation 1
        target=jnp.array([1.0, 3.0]),
    )
    hypers = ppo.Hypers(clip=0.2, entropy_coef=0.0, value_coef=0.5)
    loss, metrics = ppo.surrogate_loss(logits, jnp.zeros(2), batch, hypers)
    # policy: -mean(min(-1, -1), min(2, 1.2)) = -0.1; value: 0.5 * mean(1, 9) = 2.5
    assert float(metrics["policy_loss"]) == pytest.approx(-0.1, abs=1e-5)
    assert float(metrics["value_loss"]) == pytest.approx(2.5)
    assert float(metrics["clipped"]) == pytest.approx(0.5)
    assert float(loss) == pytest.approx(-0.1 + 0.5 * 2.5, abs=1e-5)
    entropies = np.log(2), -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies))
    more, _ = ppo.surrogate_loss(logits, jnp.zeros(2), batch, hypers._replace(entropy_coef=1.0))
    assert float(loss - more) == pytest.approx(np.mean(entropies), abs=1e-5)


def test_actions_are_drawn_with_their_probabilities():
    logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
    uniforms = (jnp.arange(10_000, dtype=jnp.float32) + 0.5) / 10_000
    actions = jax.vmap(ppo.sample, in_axes=(None, 0))(logits, uniforms)
    np.testing.assert_allclose(np.bincount(actions) / 10_000, [0.1, 0.6, 0.3], atol=1e-3)
    assert int(ppo.sample(logits, jnp.float32(1.0))) == 2


def test_each_pass_visits_every_row_once_in_an_order_of_its_own():
    orders = np.asarray(ppo.shuffles(jax.random.key(0), 50, 24))
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(24), (50, 1)))
    assert len({tuple(order) for order in orders}) == 50


def test_a_row_is_as_often_in_one_place_as_in_another():
    orders = np.asarray(ppo.shuffles(jax.random.key(1), 6000, 6))
    counts = np.array([np.bincount(orders[:, place], minlength=6) for place in range(6)])
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"activation": "sigmoid"}, "'sigmoid' is unknown.*tanh"), ({"minibatches": 7}, "7 does not divide.*512")],
)
def test_a_configuration_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        ppo.Config(**values)
