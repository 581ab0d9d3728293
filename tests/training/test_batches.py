"""Batches of agents: the same as a loop over agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.training.batches import batches, for_each_agent, joined

DEVICES = jax.local_device_count()


@pytest.mark.parametrize("agents_per_device", [1, 3])
@pytest.mark.parametrize("agents", [1, 5, 6, 7, 20])
def test_batches_are_padded_with_the_last_agent_and_joined_again(agents, agents_per_device):
    rows = {"a": np.arange(agents, dtype=np.float32), "b": np.ones((agents, 3), np.float32)}
    parts, width = batches(rows, agents_per_device), agents_per_device * DEVICES
    assert len(parts) == -(-agents // width)
    assert {leaf.shape[0] for part in parts for leaf in jax.tree.leaves(part)} == {width}
    padding = len(parts) * width - agents
    assert parts[-1]["a"].tolist()[width - padding :] == [agents - 1] * padding
    again = joined(parts, agents)
    for name in rows:
        np.testing.assert_array_equal(again[name], rows[name])


def test_a_batch_is_spread_over_all_devices():
    [part] = batches(jnp.arange(3), 4)
    assert {shard.device for shard in part.addressable_shards} == set(jax.local_devices())
    assert {shard.data.shape[0] for shard in part.addressable_shards} == {4}


def test_it_is_the_loop_over_agents():
    states, rows = np.arange(20, dtype=np.float32), np.linspace(0.0, 1.0, 20, dtype=np.float32)
    run = for_each_agent(lambda state, row, shared: state * row + shared)
    each = [run(*part, jnp.float32(3)) for part in zip(batches(states, 3), batches(rows, 3), strict=True)]
    np.testing.assert_allclose(joined(each, 20), states * rows + 3, rtol=1e-6)
