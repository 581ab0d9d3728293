"""The replay memory against a plain ring in NumPy: what it holds, which windows it gives, what a write costs."""

from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.algorithms import replay
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.rollout import Transition

LAYOUT = replay.Layout(capacity=24, num_envs=2, rollout_length=3, n_step=1, dtype="float32")
THREE_STEPS = LAYOUT._replace(n_step=3)
AGENTS, SIZE = 3, 5
MOST = 11  # rollouts that a test inserts


def clock(iteration):
    return Clock(jnp.int32(iteration), jnp.int32(1000))


def rollouts(count, layout=LAYOUT):
    """Random rollouts of all agents, [count, agent, time, environment, ...]."""
    generator = np.random.default_rng(0)
    shape = (count, AGENTS, layout.rollout_length, layout.num_envs)
    terminated = generator.random(shape) < 0.15
    return Transition(
        observation=generator.normal(size=(*shape, SIZE)).astype(np.float32),
        action=generator.integers(0, 16, shape).astype(np.int32),
        memo=(),
        reward=generator.normal(size=shape).astype(np.float32),
        final_observation=generator.normal(size=(*shape, SIZE)).astype(np.float32),
        terminated=terminated,
        done=terminated | (generator.random(shape) < 0.15),
    )


def filled(transitions, layout=LAYOUT):
    """All agents' memories after the rollouts, as the engine fills them."""
    count = len(transitions.reward)
    padded = jax.tree.map(lambda leaf: np.resize(leaf, (MOST, *leaf.shape[1:])), transitions)
    return _fill(jax.tree.map(lambda leaf: jnp.asarray(np.moveaxis(leaf, 0, 1)), padded), jnp.int32(count), layout)


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, None, None))
def _fill(transitions, count, layout):
    def insert(iteration, memory):
        rollout = jax.tree.map(lambda leaf: leaf[iteration], transitions)
        return replay.insert(memory, rollout, clock(iteration), layout)

    return jax.lax.fori_loop(0, count, insert, replay.empty(layout, SIZE))


def remembered(transitions, agent, layout=LAYOUT):
    """The steps that a ring holds in the end, oldest first: [time][environment] of each leaf."""
    ring = deque(maxlen=layout.capacity // layout.num_envs)
    for rollout in range(len(transitions.reward)):
        for step in range(layout.rollout_length):
            ring.append(jax.tree.map(lambda leaf: leaf[rollout, agent, step], transitions))  # noqa: B023
    return list(ring)


def read(memory, first, layout):
    """Windows that begin at these rows, of all agents."""
    rows = jnp.tile(jnp.asarray(np.resize(first, layout.capacity)), (AGENTS, 1))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, : len(first)], _read(memory, rows, layout))


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, 0, None))
def _read(memory, first, layout):
    return replay.read(memory, first, jnp.float32(0.5), layout)


@partial(jax.jit, static_argnums=(1, 2))
def _draw(iteration, layout, count):
    return replay.draw(jax.random.key(0), (count,), clock(iteration), layout)


def draw(iteration, layout, count=4000):
    return np.asarray(_draw(jnp.int32(iteration), layout, count))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_it_holds_what_a_plain_ring_holds(count):
    transitions = rollouts(count)
    memory = filled(transitions)
    rows = draw(count - 1, LAYOUT)
    expected_rows = min(count * 6, LAYOUT.capacity)
    assert sorted(set(rows.tolist())) == list(range(expected_rows))
    batch = read(memory, np.arange(expected_rows), LAYOUT)
    for agent in range(AGENTS):
        held = remembered(transitions, agent)
        found = {
            batch.observation[agent, row].tobytes(): jax.tree.map(lambda leaf: leaf[agent, row], batch)  # noqa: B023
            for row in range(expected_rows)
        }
        assert len(held) * LAYOUT.num_envs == len(found)
        for step in held:
            for env in range(LAYOUT.num_envs):
                row = found[step.observation[env].tobytes()]
                assert (row.action, row.terminated) == (step.action[env], step.terminated[env])
                assert (row.reward, row.discount) == (step.reward[env], 0.5)
                np.testing.assert_array_equal(row.next_observation, step.final_observation[env])


@pytest.mark.parametrize("count", [2, 4, 7])
def test_a_window_follows_one_environment_to_the_end_of_its_episode(count):
    transitions = rollouts(count, THREE_STEPS)
    memory = filled(transitions, THREE_STEPS)
    rows = np.unique(draw(count - 1, THREE_STEPS))
    batch = read(memory, rows, THREE_STEPS)
    for agent in range(AGENTS):
        held = remembered(transitions, agent, THREE_STEPS)
        starts = {step.observation[env].tobytes(): (time, env) for time, step in enumerate(held) for env in range(2)}
        assert len(rows) == (len(held) - 2) * 2
        for number in range(len(rows)):
            time, env = starts[batch.observation[agent, number].tobytes()]
            window = held[time : time + 3]
            assert len(window) == 3
            count_steps = next((k + 1 for k, step in enumerate(window) if step.done[env]), 3)
            last = window[count_steps - 1]
            expected = sum(0.5**k * window[k].reward[env] for k in range(count_steps))
            np.testing.assert_allclose(batch.reward[agent, number], expected, rtol=1e-5)
            assert batch.discount[agent, number] == 0.5**count_steps
            assert batch.terminated[agent, number] == last.terminated[env]
            assert batch.action[agent, number] == window[0].action[env]
            np.testing.assert_array_equal(batch.next_observation[agent, number], last.final_observation[env])


@pytest.mark.parametrize("iteration", [1, 9])
def test_every_window_is_drawn_equally_often(iteration):
    rows = draw(iteration, THREE_STEPS, 40_000)
    counts = np.unique(rows, return_counts=True)[1]
    mean = 40_000 / len(counts)
    assert np.all(np.abs(counts - mean) < 5 * np.sqrt(mean))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_observations_may_be_kept_in_half_the_memory(dtype):
    layout = LAYOUT._replace(dtype=dtype)
    transitions = rollouts(1, layout)
    memory = filled(transitions, layout)
    assert memory.observation.nbytes * 2 == filled(transitions).observation.nbytes
    batch = read(memory, np.arange(6), layout)
    expected = jnp.asarray(transitions.observation[0]).reshape(AGENTS, 6, SIZE)
    np.testing.assert_array_equal(batch.observation, expected.astype(dtype).astype(jnp.float32))
    np.testing.assert_array_equal(batch.reward, transitions.reward[0].reshape(AGENTS, 6))


def test_many_iterations_do_not_overflow():
    assert 0 <= draw(2**31 - 2, THREE_STEPS).min() <= draw(2**31 - 2, THREE_STEPS).max() < THREE_STEPS.capacity


@pytest.mark.parametrize("dtype", replay.DTYPES)
def test_no_step_copies_or_reads_the_whole_memory(dtype):
    def program(capacity):
        layout = LAYOUT._replace(capacity=capacity, dtype=dtype)
        memories = jax.tree.map(lambda leaf: jnp.stack([leaf] * AGENTS), replay.empty(layout, SIZE))
        transitions = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), rollouts(1))

        def run(memory, transitions, key):
            def iterate(iteration, carry):
                memory, total = carry
                memory = replay.insert(memory, transitions, clock(iteration), layout)
                rows = replay.draw(jax.random.fold_in(key, iteration), (7,), clock(iteration), layout)
                return memory, total + jnp.sum(replay.read(memory, rows, jnp.float32(0.9), layout).observation)

            return jax.lax.fori_loop(0, 100, iterate, (memory, jnp.float32(0.0)))

        keys = jax.random.split(jax.random.key(0), AGENTS)
        return jax.jit(jax.vmap(run), donate_argnums=0).lower(memories, transitions, keys).compile()

    small, large = program(240), program(24_000)
    assert small.memory_analysis().temp_size_in_bytes == large.memory_analysis().temp_size_in_bytes
    for what in (" copy(", " convert(", " select("):
        assert not [line for line in large.as_text().splitlines() if what in line and f"[{AGENTS},24000" in line]
