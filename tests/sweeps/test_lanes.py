"""Groups of agents: the same as a loop over agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.sweeps.lanes import for_each_agent, lanes, pad, padded_count


@pytest.mark.parametrize("agents", [1, 8, 9, 16, 17])
def test_padding_fills_whole_groups_on_every_device(agents):
    count = padded_count(agents)
    whole = lanes() * jax.local_device_count()
    assert count % whole == 0
    assert agents <= count < agents + whole


def test_padding_repeats_the_last_agent():
    assert pad({"a": jnp.array([1, 2])}, 4)["a"].tolist() == [1, 2, 2, 2]


def test_it_is_the_loop_over_agents():
    count = padded_count(20)
    states, settings = jnp.arange(count, dtype=jnp.float32), jnp.linspace(0.0, 1.0, count)
    expected = [np.float32(state) * np.float32(setting) + 3 for state, setting in zip(states, settings, strict=True)]
    run = for_each_agent(lambda state, setting, shared: state * setting + shared)
    np.testing.assert_allclose(run(states, settings, jnp.float32(3)), expected, rtol=1e-6)
