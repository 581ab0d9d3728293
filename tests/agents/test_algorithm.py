"""What all algorithms share."""

import jax
import jax.numpy as jnp
import pytest
from probe_envs import Contextual, ProbeParams

from jaxmoe.agents import ppo
from jaxmoe.agents.algorithm import Clock, about


@pytest.mark.parametrize("settings", [ppo.Hypers, ppo.Config])
def test_every_setting_says_what_it_means_and_its_default_is_allowed(settings):
    defaults = settings()
    for name, found in about(settings).items():
        value = getattr(defaults, name)
        assert found.meaning
        for number in value if isinstance(value, tuple) else (value,):
            assert isinstance(number, str) or found.low <= number <= found.high


def test_the_clock_counts_down_what_remains():
    remaining = [float(Clock(jnp.int32(i), jnp.int32(4)).remaining()) for i in (0, 1, 4)]
    assert remaining == [1.0, 0.75, 0.0]


def test_keys_are_threefry_so_that_no_agent_depends_on_its_neighbours():
    algorithm = ppo.make(Contextual(), ppo.Config(num_envs=2, rollout_length=2, minibatches=1), ProbeParams())
    state = algorithm.init(jax.random.key(0), ppo.Hypers(), ProbeParams())
    assert str(jax.random.key_impl(state.key)) == "threefry2x32"


def test_the_acting_policy_explores_around_the_greedy_action():
    algorithm = ppo.make(Contextual(), ppo.Config(num_envs=2, rollout_length=2, minibatches=1), ProbeParams())
    policy = algorithm.init(jax.random.key(0), ppo.Hypers(), ProbeParams()).policy
    keys = jax.random.split(jax.random.key(1), 200)
    actions = jax.vmap(algorithm.act, in_axes=(None, None, 0))(policy, jnp.array([1.0, 0.0]), keys)
    assert set(actions.tolist()) == {0, 1}
