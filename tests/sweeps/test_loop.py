"""The loop around the engine."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoe.agents import ppo
from jaxmoe.env.scenarios import make
from jaxmoe.sweeps.engine import Agents, make_engine
from jaxmoe.sweeps.loop import Pace, Trainer, interruptible

CONFIG = ppo.Config(num_envs=4, rollout_length=4, epochs=1, minibatches=2, hidden=(8,))


def trainer(iterations):
    env, params = make("oneshot")
    hypers = jax.tree.map(lambda value: jnp.full(2, value, jnp.float32), ppo.Hypers())
    agents = Agents(jnp.arange(2), hypers, {})
    return Trainer(make_engine(ppo.make(env, CONFIG, params), params, agents), iterations, Pace())


def test_a_trainer_reaches_each_end_in_stretches_and_counts_its_steps():
    training = trainer(20)
    stretches = sum(1 for _ in training.advance_to(7))
    assert (training.reached, training.env_steps) == (7, 7 * 16)
    assert 1 < stretches <= 7
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


def test_stretches_grow_to_about_two_seconds_and_the_compiling_one_counts_for_nothing():
    pace = Pace()
    pace.note(env_steps=100, iterations=1, seconds=10.0)
    assert pace.next_length(1) == 1
    pace.note(env_steps=100, iterations=1, seconds=0.1)
    assert pace.next_length(1) == 2
    assert pace.next_length(16) == 20
    assert pace.median() == pytest.approx(1000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_what_it_was_before(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with interruptible() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not stop_requested() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop_requested()
        assert signal.getsignal(number) == before[number]
    assert {each: signal.getsignal(each) for each in before} == before
