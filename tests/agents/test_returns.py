"""Targets of value learning against sums written out, and what may not flow across the end of an episode."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxmoe.agents.returns import generalised_advantages, td_targets

rewards = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12)


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
