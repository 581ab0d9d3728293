"""Blocks of agents: the same as a loop over agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.sweeps.lanes import block_width, blocks, for_each_agent, joined, lanes, padded_count


@pytest.mark.parametrize("agents", [1, 15, 16, 17, 40])
def test_padding_fills_whole_blocks(agents):
    count = padded_count(agents)
    assert count % block_width() == 0
    assert agents <= count < agents + block_width()


@pytest.mark.parametrize("agents", [1, 16, 20])
def test_blocks_are_cut_padded_with_the_last_agent_and_joined_again(agents):
    batched = {"a": np.arange(agents, dtype=np.float32), "b": np.ones((agents, 3), np.float32)}
    parts = blocks(batched)
    assert len(parts) * block_width() == padded_count(agents)
    assert {leaf.shape[0] for part in parts for leaf in jax.tree.leaves(part)} == {block_width()}
    assert parts[-1]["a"].tolist()[-1] == agents - 1
    again = joined(parts, agents)
    for name in batched:
        np.testing.assert_array_equal(again[name], batched[name])


def test_a_block_is_spread_over_all_devices():
    [part] = blocks(jnp.arange(3))
    assert {shard.device for shard in part.addressable_shards} == set(jax.local_devices())
    assert {shard.data.shape[0] for shard in part.addressable_shards} == {lanes()}


def test_it_is_the_loop_over_agents():
    states, settings = np.arange(20, dtype=np.float32), np.linspace(0.0, 1.0, 20, dtype=np.float32)
    run = for_each_agent(lambda state, setting, shared: state * setting + shared)
    each = [run(*part, jnp.float32(3)) for part in zip(blocks(states), blocks(settings), strict=True)]
    np.testing.assert_allclose(joined(each, 20), states * settings + 3, rtol=1e-6)
