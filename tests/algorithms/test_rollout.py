"""Experience at the end of an episode: what was seen last is not what the next episode begins with."""

import jax
import jax.numpy as jnp
import numpy as np
from probe_envs import ProbeParams, TwoSteps

from jaxmoe.algorithms.algorithm import begin_environments
from jaxmoe.algorithms.rollout import collect


def walk(env, params, length=4):
    observation, state = begin_environments(jax.random.key(0), env, params, 3)

    def choose(observations, uniforms):
        return jnp.zeros(len(observations), jnp.int32), uniforms

    return collect(jax.random.key(1), choose, env, state, observation, params, length)


def test_the_final_observation_comes_before_the_reset():
    _, last, found = walk(TwoSteps(), ProbeParams())
    assert np.argmax(found.observation[:, 0], axis=1).tolist() == [0, 1, 0, 1]
    assert np.argmax(found.final_observation[:, 0], axis=1).tolist() == [1, 1, 1, 1]
    assert found.terminated[:, 0].tolist() == [False, True, False, True]
    assert np.argmax(last, axis=1).tolist() == [0, 0, 0]


def test_a_truncated_step_is_done_but_not_terminated():
    _, _, found = walk(TwoSteps(), ProbeParams(max_steps_in_episode=1))
    assert found.done.all()
    assert not found.terminated.any()
    assert np.argmax(found.final_observation[:, 0], axis=1).tolist() == [1, 1, 1, 1]


def test_every_decision_has_a_uniform_of_its_own():
    _, _, found = walk(TwoSteps(), ProbeParams())
    assert len(np.unique(found.memo)) == found.memo.size
