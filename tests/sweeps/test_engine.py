"""Many agents at once: none depends on which others there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.agents import ppo
from jaxmoe.agents.algorithm import Clock
from jaxmoe.env.scenarios import make
from jaxmoe.sweeps.engine import Agents, make_engine
from jaxmoe.sweeps.lanes import lanes, padded_count

CONFIG = ppo.Config(num_envs=4, rollout_length=4, epochs=1, minibatches=2, hidden=(8,))
ENV, PARAMS = make("oneshot")
ALGORITHM = ppo.make(ENV, CONFIG, PARAMS)


def agents(seeds, overrides=None, **hypers):
    """One agent per seed; a hyperparameter is one number for all, or a list."""
    columns = {
        name: jnp.asarray(np.broadcast_to(hypers.get(name, default), len(seeds)), jnp.float32)
        for name, default in ppo.Hypers()._asdict().items()
    }
    return Agents(jnp.array(seeds, jnp.int32), ppo.Hypers(**columns), overrides or {})


def trained(group, segments=2, params=PARAMS):
    """Final states and the last segment's metrics of the agents, without padding."""
    engine = make_engine(ALGORITHM, params, group)
    state = engine.init()
    for segment in range(segments):
        state, metrics = engine.segment(state, Clock(jnp.int32(2 * segment), jnp.int32(2 * segments)), 2)
    return jax.tree.map(lambda leaf: leaf[: engine.agents], (state, metrics))


def policies(group, **options):
    """One flat vector of policy parameters per agent."""
    state, _ = trained(group, **options)
    leaves = jax.tree.leaves(state.policy)
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)


@pytest.fixture(scope="module")
def three():
    return policies(agents([5, 6, 7]))


def test_the_same_run_twice_is_the_same_bit_by_bit(three):
    np.testing.assert_array_equal(policies(agents([5, 6, 7])), three)


def test_more_agents_than_fit_one_group_change_no_other_agent(three):
    seeds = [5, 6, 7, *range(20, 20 + 2 * lanes() * jax.local_device_count())]
    np.testing.assert_array_equal(policies(agents(seeds))[:3], three)


def test_the_order_of_agents_does_not_matter(three):
    np.testing.assert_array_equal(policies(agents([7, 5, 6])), three[[2, 0, 1]])


def test_swapping_the_hypers_of_two_agents_swaps_their_results():
    one = policies(agents([5, 5], learning_rate=[1e-3, 1e-2], clip=[0.1, 0.3]))
    other = policies(agents([5, 5], learning_rate=[1e-2, 1e-3], clip=[0.3, 0.1]))
    np.testing.assert_array_equal(one, other[::-1])
    assert not np.array_equal(one[0], one[1])


def test_a_diverging_agent_is_flagged_and_leaves_its_neighbours_alone(three):
    group = agents([5, 6, 7], learning_rate=[5e-3, np.inf, 5e-3])
    state, _ = trained(group)
    assert state.diverged.tolist() == [False, True, False]
    found = policies(group)
    np.testing.assert_array_equal(found[[0, 2]], three[[0, 2]])
    assert np.isfinite(found[1]).all()


def test_numbers_of_the_scenario_may_differ_from_agent_to_agent(three):
    default = PARAMS.compute_coefficient
    found = policies(agents([5, 6, 7], overrides={"compute_coefficient": jnp.array([default, 5e-3, default])}))
    np.testing.assert_array_equal(found[[0, 2]], three[[0, 2]])
    everywhere = policies(agents([5, 6, 7]), params=PARAMS.replace(compute_coefficient=5e-3))
    np.testing.assert_allclose(found[1], everywhere[1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[1], three[1], atol=1e-4)


def test_where_a_run_is_cut_into_segments_does_not_matter(three):
    engine = make_engine(ALGORITHM, PARAMS, agents([5, 6, 7]))
    state, _ = engine.segment(engine.init(), Clock(jnp.int32(0), jnp.int32(4)), 1)
    state, _ = engine.segment(state, Clock(jnp.int32(1), jnp.int32(4)), 3)
    flat = [np.asarray(leaf)[:3].reshape(3, -1) for leaf in jax.tree.leaves(state.policy)]
    np.testing.assert_array_equal(np.concatenate(flat, axis=1), three)


def test_metrics_are_one_number_per_agent():
    _, metrics = trained(agents([5, 6, 7]))
    assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {(3,)}
    assert {"reward", "entropy", "kl", "value_loss"} <= set(metrics)


def test_a_segment_is_compiled_once_and_takes_the_states_memory_over():
    traces = []

    def step(state, hypers, env_params, clock):
        traces.append(1)
        return ALGORITHM.step(state, hypers, env_params, clock)

    engine = make_engine(ALGORITHM._replace(step=step), PARAMS, agents([0, 1]))
    first = engine.init()
    state, _ = engine.segment(first, Clock(jnp.int32(0), jnp.int32(6)), 2)
    after_one = len(traces)
    for begin, iterations in ((2, 3), (5, 1)):
        state, _ = engine.segment(state, Clock(jnp.int32(begin), jnp.int32(6)), iterations)
    assert len(traces) == after_one
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.policy))


def test_agents_are_spread_over_all_devices():
    engine = make_engine(ALGORITHM, PARAMS, agents([0, 1, 2]))
    leaf = jax.tree.leaves(engine.init().policy)[0]
    assert leaf.shape[0] == padded_count(3) == lanes() * jax.local_device_count()
    assert {shard.device for shard in leaf.addressable_shards} == set(jax.local_devices())
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {lanes()}


def test_the_table_is_not_copied_per_agent():
    def state_bytes(count):
        engine = make_engine(ALGORITHM, PARAMS, agents(list(range(count))))
        return sum(
            leaf.nbytes
            for leaf in jax.tree.leaves(engine.init())
            if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        )

    width = padded_count(1)
    per_agent = (state_bytes(2 * width) - state_bytes(width)) / width
    table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(PARAMS.table))
    leaves = [leaf.shape for leaf in jax.tree.leaves(make_engine(ALGORITHM, PARAMS, agents([0])).init())]
    assert per_agent < table_bytes
    assert not any(leaf.shape == shape[1:] for leaf in jax.tree.leaves(PARAMS.table) for shape in leaves)
