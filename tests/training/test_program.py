"""Many agents at once: none depends on which others there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.algorithms import ppo
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.env.scenarios import make
from jaxmoe.training.keys import purpose_key
from jaxmoe.training.program import Agents, bind, make_program

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = ppo.Config(num_envs=4, rollout_length=4, epochs=1, minibatches=2, hidden=(8,))
ENV, PARAMS = make("oneshot")
ALGORITHM = ppo.make(ENV, CONFIG, PARAMS)
PROGRAM = make_program(ALGORITHM, PARAMS)
AGENTS_PER_DEVICE = 2
WIDTH = AGENTS_PER_DEVICE * jax.local_device_count()


def agents(seeds, overrides=None, **hypers):
    """One agent per seed; a hyperparameter is one number for all, or a list."""
    columns = {
        name: jnp.asarray(np.broadcast_to(hypers.get(name, default), len(seeds)), jnp.float32)
        for name, default in ppo.Hypers()._asdict().items()
    }
    return Agents(jnp.array(seeds, jnp.int32), ppo.Hypers(**columns), overrides or {})


def engine_of(group, program=PROGRAM, root_seed=0, purpose=0):
    return bind(program, group, AGENTS_PER_DEVICE, purpose_key(root_seed, purpose))


def clock(iteration, iterations=4):
    return Clock(jnp.int32(iteration), jnp.int32(iterations))


def segment(engine, parts, at, iterations):
    """Train for some iterations; the agents and the means of their metrics."""
    return engine.metrics(engine.advance(parts, at, iterations))


def trained(group, segments=2, **options):
    """The engine, the agents' final batches and the last segment's metrics."""
    engine = engine_of(group, **options)
    state = engine.init()
    for number in range(segments):
        state, metrics = segment(engine, state, clock(2 * number, 2 * segments), 2)
    return engine, state, metrics


def policies(group, **options):
    """One flat vector of policy parameters per agent."""
    engine, state, _ = trained(group, **options)
    return flat(engine, state)


def flat(engine, state):
    leaves = jax.tree.leaves(engine.policies(state))
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


@pytest.fixture(scope="module")
def three():
    return policies(agents([5, 6, 7]))


def test_the_same_run_twice_is_the_same_bit_by_bit(three):
    np.testing.assert_array_equal(policies(agents([5, 6, 7])), three)


def test_more_agents_than_fit_one_batch_change_no_other_agent(three):
    seeds = [5, 6, 7, *range(20, 20 + 2 * WIDTH)]
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
    engine, state, _ = trained(group)
    assert engine.diverged(state).tolist() == [False, True, False]
    found = policies(group)
    np.testing.assert_array_equal(found[[0, 2]], three[[0, 2]])
    assert np.isfinite(found[1]).all()


def test_numbers_of_the_scenario_may_differ_from_agent_to_agent(three):
    default = PARAMS.compute_coefficient
    found = policies(agents([5, 6, 7], overrides={"compute_coefficient": jnp.array([default, 5e-3, default])}))
    np.testing.assert_array_equal(found[[0, 2]], three[[0, 2]])
    everywhere = policies(agents([5, 6, 7]), program=make_program(ALGORITHM, PARAMS.replace(compute_coefficient=5e-3)))
    np.testing.assert_allclose(found[1], everywhere[1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[1], three[1], atol=1e-4)


def test_where_a_run_is_cut_into_segments_does_not_matter(three):
    engine = engine_of(agents([5, 6, 7]))
    state, _ = segment(engine, engine.init(), clock(0), 1)
    state, _ = segment(engine, state, clock(1), 3)
    np.testing.assert_array_equal(flat(engine, state), three)


def test_the_means_of_metrics_do_not_depend_on_where_a_run_is_cut():
    engine = engine_of(agents([5, 6, 7]))
    whole = segment(engine, engine.init(), clock(0), 3)[1]
    state = engine.advance(engine.init(), clock(0), 1)
    state = engine.advance(state, clock(1), 2)
    cut = engine.metrics(state)[1]
    for name, values in whole.items():
        np.testing.assert_array_equal(cut[name], values)


def test_what_is_measured_now_and_then_has_the_mean_of_those_times_and_what_never_is_none():
    def step(state, hypers, env_params, clock):
        state, _ = ALGORITHM.step(state, hypers, env_params, clock)
        at = clock.iteration.astype(jnp.float32)
        return state, {"odd": jnp.where(clock.iteration % 2 == 1, at, jnp.nan), "never": jnp.float32(jnp.nan)}

    engine = engine_of(agents([5, 6]), make_program(ALGORITHM._replace(step=step), PARAMS))
    state, metrics = segment(engine, engine.init(), clock(0, 8), 4)
    np.testing.assert_array_equal(metrics["odd"], [2.0, 2.0])  # of 1 and 3
    assert np.isnan(metrics["never"]).all()
    _, metrics = segment(engine, state, clock(4, 8), 3)
    np.testing.assert_array_equal(metrics["odd"], [5.0, 5.0])


def test_metrics_are_one_number_per_agent():
    _, _, metrics = trained(agents([5, 6, 7]))
    assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {(3,)}
    assert {"reward", "entropy", "kl", "value_loss"} <= set(metrics)


def test_a_segment_is_compiled_once_and_takes_the_states_memory_over():
    traces = []

    def step(state, hypers, env_params, clock):
        traces.append(1)
        return ALGORITHM.step(state, hypers, env_params, clock)

    engine = engine_of(agents([0, 1]), make_program(ALGORITHM._replace(step=step), PARAMS))
    first = engine.init()
    state, _ = segment(engine, first, clock(0, 6), 2)
    after_one = len(traces)
    for begin, iterations in ((2, 3), (5, 1)):
        state, _ = segment(engine, state, clock(begin, 6), iterations)
    assert len(traces) == after_one
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first[0].state.policy))


def test_more_agents_need_no_further_compilation():
    traces = []

    def step(state, hypers, env_params, clock):
        traces.append(1)
        return ALGORITHM.step(state, hypers, env_params, clock)

    program = make_program(ALGORITHM._replace(step=step), PARAMS)
    for count in (1, WIDTH + 1):
        engine = engine_of(agents(list(range(count))), program)
        segment(engine, engine.init(), clock(0, 1), 1)
        if count == 1:
            after_one = len(traces)
    assert len(traces) == after_one


def test_the_table_is_not_copied_per_agent():
    [batch] = engine_of(agents([0])).init()
    leaves = [leaf for leaf in jax.tree.leaves(batch) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    per_agent = sum(leaf.nbytes for leaf in leaves) / WIDTH
    assert per_agent < sum(leaf.nbytes for leaf in jax.tree.leaves(PARAMS.table))
    tables = {leaf.shape for leaf in jax.tree.leaves(PARAMS.table)}
    assert not tables & {leaf.shape[1:] for leaf in leaves}
