"""The parts of DQN by hand; how it learns is tested with all algorithms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, numbers
from hypothesis import given
from hypothesis import strategies as st
from probe_envs import Contextual

from jaxmoe.algorithms import dqn
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.returns import td_targets

NUMBERS = st.floats(-5, 5, width=32)


def test_the_target_by_hand_with_and_without_double_q():
    online = jnp.array([[1.0, 2.0], [1.0, 2.0]])
    delayed = jnp.array([[4.0, 3.0], [4.0, 3.0]])
    reward, terminated, discount = jnp.array([1.0, 1.0]), jnp.array([False, True]), jnp.array([0.5, 0.5])
    targets = {
        double_q: td_targets(reward, dqn.next_values(online, delayed, double_q), terminated, discount).tolist()
        for double_q in (1.0, 0.0)
    }
    assert targets == {1.0: [2.5, 1.0], 0.0: [3.0, 1.0]}  # 1 + 0.5 * 3 and 1 + 0.5 * 4; nothing after the end


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_double_q_never_expects_more(pairs):
    online, delayed = (jnp.array([column], jnp.float32) for column in zip(*pairs, strict=True))
    assert dqn.next_values(online, delayed, 1.0) <= dqn.next_values(online, delayed, 0.0)


def test_epsilon_falls_linearly_over_the_exploring_part_of_the_run():
    hypers = dqn.Hypers(epsilon_start=1.0, epsilon_end=0.2, exploration_fraction=0.5)
    found = [float(dqn.epsilon(hypers, Clock(jnp.int32(i), jnp.int32(8)))) for i in (0, 1, 2, 4, 8)]
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2])
    at_once = hypers._replace(exploration_fraction=0.0)
    assert float(dqn.epsilon(at_once, Clock(jnp.int32(1), jnp.int32(8)))) == pytest.approx(0.2)


def test_one_uniform_decides_whether_to_explore_and_where_to():
    values = jnp.array([0.0, 3.0, 1.0, 2.0])
    uniforms = (jnp.arange(10_000, dtype=jnp.float32) + 0.5) / 10_000
    actions = jax.vmap(dqn.epsilon_greedy, in_axes=(None, 0, None))(values, uniforms, jnp.float32(0.4))
    np.testing.assert_allclose(np.bincount(actions) / 10_000, [0.1, 0.7, 0.1, 0.1], atol=1e-3)


def test_without_epsilon_the_best_action_is_taken():
    values = jnp.array([0.0, 3.0])
    assert {int(dqn.epsilon_greedy(values, jnp.float32(u), jnp.float32(0.0))) for u in (0.0, 0.5, 1.0)} == {1}


def test_an_update_moves_the_values_towards_the_target_and_the_target_network_with_them():
    case = CASES["dqn"]
    algorithm, clock = case.make(), Clock(jnp.int32(3), jnp.int32(1000))
    start = algorithm.init(jax.random.key(0), case.hypers, Contextual.numbers())
    networks = {}
    for tau in (0.0, 1.0):
        state, _ = algorithm.step(start, numbers(case.hypers._replace(target_tau=tau)), Contextual.numbers(), clock)
        networks[tau] = state.learner.target, state.policy
    jax.tree.map(np.testing.assert_array_equal, networks[0.0][0], start.learner.target)
    jax.tree.map(np.testing.assert_array_equal, *networks[1.0])
