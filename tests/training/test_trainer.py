"""The loop around the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.algorithms import ppo
from jaxmoe.env.scenarios import make
from jaxmoe.training.keys import purpose_key
from jaxmoe.training.program import Agents, bind, make_program
from jaxmoe.training.trainer import Leg, Pace, Trainer, evaluation_times

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = ppo.Config(num_envs=4, rollout_length=4, epochs=1, minibatches=2, hidden=(8,))
ENV, PARAMS = make("oneshot")
PROGRAM = make_program(ppo.make(ENV, CONFIG, PARAMS), PARAMS)


def engine(**changed):
    hypers = ppo.Hypers(final_rate=0.0)._replace(**changed)
    columns = jax.tree.map(lambda value: jnp.full(2, value, jnp.float32), hypers)
    return bind(PROGRAM, Agents(jnp.arange(2), columns, {}), 2, purpose_key(0, 0))  # compiled already, in test_program


def begun(legs):
    training = Trainer(legs)
    training.batches = training.engine.init()
    return training


def trainer(iterations):
    return begun([Leg(engine(), iterations, 0, iterations)])


def policies(training):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(training.engine.policies(training.batches))]


def assert_equal(one, other):
    for leaf, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_a_trainer_reaches_each_end_in_segments_and_counts_its_steps():
    training = trainer(20)
    segments = sum(1 for _ in training.advance_to(7))
    assert (training.reached, training.env_steps, training.iterations) == (7, 7 * 16, 20)
    assert 1 < segments <= 7
    first = training.take_metrics()
    list(training.advance_to(20))
    assert training.reached == 20
    assert training.measured == 7
    assert not np.array_equal(first["reward"], training.take_metrics()["reward"])
    assert training.measured == 20
    assert training.pace.median() > 0


def test_metrics_are_means_over_the_iterations_since_they_were_taken():
    training = trainer(4)
    list(training.advance_to(4))
    whole = training.take_metrics()["reward"]
    again, parts = trainer(4), []
    for end in (1, 2, 3, 4):
        list(again.advance_to(end))
        parts.append(again.take_metrics()["reward"])
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=1e-5)


def test_a_phase_that_says_nothing_new_changes_nothing():
    one, two = trainer(6), begun([Leg(engine(), 4, 0, 6), Leg(engine(), 6, 0, 6)])
    for training in (one, two):
        list(training.advance_to(6))
    assert_equal(policies(one), policies(two))


def test_each_phase_has_its_own_schedule_and_hyperparameters():
    over, longer = trainer(4), begun([Leg(engine(), 4, 0, 4), Leg(engine(), 6, 4, 2)])
    for training in (over, longer):
        list(training.advance_to(4))
    assert_equal(policies(over), policies(longer))
    list(longer.advance_to(6))
    assert not np.array_equal(policies(over)[0], policies(longer)[0])  # the rate begins anew
    still = begun([Leg(engine(), 4, 0, 4), Leg(engine(learning_rate=0.0), 6, 4, 2)])
    list(still.advance_to(6))
    assert_equal(policies(over), policies(still))


def test_segments_grow_to_about_two_seconds_and_the_compiling_one_counts_for_nothing():
    pace = Pace()
    assert pace.median() == 0.0
    pace.note(env_steps=100, iterations=1, seconds=10.0)
    assert pace.next_length(1) == 1
    pace.note(env_steps=100, iterations=1, seconds=0.1)
    assert pace.next_length(1) == 2
    assert pace.next_length(16) == 20
    assert pace.median() == pytest.approx(1000)
    assert pace.segments == 2


@pytest.mark.parametrize(("iterations", "evaluations"), [(1, 1), (1, 10), (7, 3), (100, 1), (64, 64)])
def test_the_last_evaluation_is_at_the_end_and_none_is_twice(iterations, evaluations):
    times = evaluation_times(iterations, evaluations)
    assert times == sorted(set(times))
    assert times[0] >= 1
    assert times[-1] == iterations
