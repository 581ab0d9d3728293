"""What all algorithms share."""

import jax
import jax.numpy as jnp
import pytest

from jaxmoe.algorithms import dqn, off_policy, ppo, sac
from jaxmoe.algorithms.algorithm import AgentState, Clock, about, freeze_if_diverged


@pytest.mark.parametrize("settings", [ppo.Hypers, ppo.Config, dqn.Hypers, dqn.Config, sac.Hypers, off_policy.Config])
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


def test_falling_numbers_go_from_the_start_to_a_fraction_of_it():
    found = [float(Clock(jnp.int32(i), jnp.int32(4)).falling(2.0, 0.5)) for i in (0, 2, 4)]
    assert found == [2.0, 1.5, 1.0]


def test_the_memory_of_a_diverged_agent_is_not_looked_at():
    def agent(policy, memory):
        return AgentState(policy, (), (), jnp.zeros((1, 1)), jax.random.key(0), jnp.array(False), memory)

    before, after = agent(jnp.array(1.0), jnp.array(1.0)), agent(jnp.array(2.0), jnp.array(jnp.nan))
    assert float(freeze_if_diverged(before, after).policy) == 2.0
    frozen = freeze_if_diverged(before, after._replace(policy=jnp.array(jnp.nan), memory=jnp.array(3.0)))
    assert bool(frozen.diverged)
    assert (float(frozen.policy), float(frozen.memory)) == (1.0, 3.0)
