"""What all algorithms share."""

import jax.numpy as jnp
import pytest

from jaxmoe.algorithms import dqn, off_policy, ppo, sac
from jaxmoe.algorithms.algorithm import Clock, about


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
