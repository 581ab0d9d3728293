"""Targets of value learning against sums written out, and what may not flow across the end of an episode."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxmoe.algorithms.returns import generalised_advantages, n_step_return, td_targets

# Each length is a program of its own.
rewards = st.sampled_from([1, 4, 12]).flatmap(lambda n: st.lists(st.floats(-5, 5, width=32), min_size=n, max_size=n))


def advantages(r_t, v_tm1, v_t, terminated, done, discount, gae_lambda):
    arrays = (jnp.array(values, jnp.float32) for values in (v_tm1, r_t, v_t))
    flags = (jnp.array(values) for values in (terminated, done))
    return np.asarray(generalised_advantages(*arrays, *flags, jnp.float32(discount), jnp.float32(gae_lambda)))


def test_a_terminated_step_has_no_future_and_another_one_has():
    found = td_targets(jnp.array([1.0, 2.0]), jnp.array([10.0, 10.0]), jnp.array([True, False]), 0.5)
    np.testing.assert_allclose(found, [1.0, 7.0])


@given(rewards, st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.integers(0, 2**31))
def test_advantages_are_the_discounted_sum_of_temporal_differences(r_t, discount, gae_lambda, seed):
    generator = np.random.default_rng(seed)
    length = len(r_t)
    v_tm1, v_t = generator.normal(size=(2, length)).astype(np.float32)
    terminated = generator.random(length) < 0.2
    done = terminated | (generator.random(length) < 0.2)
    delta = np.array(r_t) + discount * np.where(terminated, 0, v_t) - v_tm1
    expected = np.zeros(length)
    for start in range(length):
        weight = 1.0
        for step in range(start, length):
            expected[start] += weight * delta[step]
            if done[step]:
                break
            weight *= discount * gae_lambda
    found = advantages(r_t, v_tm1, v_t, terminated, done, discount, gae_lambda)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_truncated_step_bootstraps_but_passes_no_advantage_back():
    found = advantages([1, 100], [0, 0], [4, 0], [False, True], [True, True], 0.5, 1.0)
    np.testing.assert_allclose(found, [3.0, 100.0])


def test_with_lambda_one_and_no_values_it_is_the_discounted_return():
    found = advantages([1, 1, 1], [0, 0, 0], [0, 0, 0], [False, False, True], [False, False, True], 0.5, 1.0)
    np.testing.assert_allclose(found, [1.75, 1.5, 1.0])


def test_rewards_of_a_window_end_with_the_episode():
    r_t, done_t = jnp.array([1.0, 2.0, 4.0]), jnp.array([False, True, False])
    total, weight, last = n_step_return(r_t, done_t, jnp.float32(0.5))
    assert (float(total), float(weight), int(last)) == (2.0, 0.25, 1)  # 1 + 0.5 * 2, then 0.5^2
    total, weight, last = n_step_return(r_t, jnp.zeros(3, bool), jnp.float32(0.5))
    assert (float(total), float(weight), int(last)) == (3.0, 0.125, 2)


def test_without_discount_only_the_first_reward_of_a_window_counts():
    total, weight, _ = n_step_return(jnp.array([1.0, 2.0]), jnp.array([False, False]), jnp.float32(0.0))
    assert (float(total), float(weight)) == (1.0, 0.0)


@given(rewards, st.floats(0, 1, width=32), st.integers(0, 2**31))
def test_n_step_returns_are_the_sums_written_out(r_t, discount, seed):
    done = np.random.default_rng(seed).random(len(r_t)) < 0.3
    count = int(np.argmax(done)) + 1 if done.any() else len(r_t)
    total, weight, last = n_step_return(jnp.array(r_t, jnp.float32), jnp.array(done), jnp.float32(discount))
    expected = sum(float(discount) ** k * r_t[k] for k in range(count))
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(weight, float(discount) ** count, rtol=1e-4, atol=1e-6)
    assert int(last) == count - 1
