"""The observation's fields: frozen in name, order, scale and bits, and the same in whatever is derived from them."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmoe
from jaxmoe.env import rules
from jaxmoe.env.actions import action_choices, device_choices
from jaxmoe.env.observation import (
    FIELDS,
    observation_fields,
    observation_limits,
    observation_names,
    observe,
    quantities,
    scales,
)

GOLDEN = json.loads(Path(__file__).with_name("golden_observations.json").read_text())
SCENARIOS = ("oneshot", "fading", "queueing")
FROZEN = {  # name, unit, per what, scale, limits of the quantity; trained policies depend on the order
    "oneshot": [
        ("relevance", "1", "expert", 1.0, 0.0, 1.0),
        ("words_hat", "words", "expert", 100.0, 0.0, None),
        ("snr_db", "dB", "device", 20.0, None, None),
        ("backlog_s", "s", "device", 4.0, 0.0, None),
        ("battery_j", "J", "user", 100.0, 0.0, 100.0),
        ("available", "1", "device", 1.0, 0.0, 1.0),
    ],
}
FROZEN["queueing"] = FROZEN["oneshot"]
FROZEN["fading"] = [*FROZEN["oneshot"][:3], ("backlog_s", "s", "device", 20.0, 0.0, None), *FROZEN["oneshot"][4:]]


def state_of(seed, settings, params):
    """Some state, drawn by NumPy."""
    generator, devices = np.random.default_rng(seed), settings.num_devices

    def drawn(low, high):
        return jnp.asarray(generator.uniform(low, high, devices), jnp.float32)

    return rules.EnvState(
        prompt=jnp.int32(generator.integers(32)),
        snr_db=drawn(-10, 30),
        observed_snr_db=drawn(-10, 30),
        link=None,
        available=jnp.asarray(generator.uniform(0, 1, devices) < 0.5),
        backlog_s=drawn(0, 30),
        battery_j=jnp.float32(generator.uniform(0, params.battery_capacity_j)),
        time=jnp.int32(3),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_names_order_scales_and_limits_are_frozen(scenario):
    env, params = jaxmoe.make(scenario)
    fields = observation_fields(params, env.settings)
    assert [(each.name, each.unit, each.per, each.scale, each.low, each.high) for each in fields] == FROZEN[scenario]
    assert [each.size for each in fields] == [4, 4, 4, 4, 1, 4]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_its_bits_are_frozen(scenario, replicas):
    env, params = jaxmoe.make(scenario, num_replicas=replicas)
    observed = jax.jit(partial(observe, settings=env.settings))
    found = [np.asarray(observed(state_of(seed, env.settings, params), params)) for seed in range(3)]
    golden = [np.frombuffer(bytes.fromhex(bits), "<f4") for bits in GOLDEN[f"{scenario}-{replicas}"]]
    np.testing.assert_array_equal(found, golden)


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_derived_has_the_same_order_and_length(replicas):
    env, params = jaxmoe.make("queueing", num_replicas=replicas)
    state = state_of(0, env.settings, params)
    known, fields = quantities(state, params, env.settings), observation_fields(params, env.settings)
    observation = np.asarray(observe(state, params, env.settings))
    assert [field.name for field in FIELDS] == [field.name for field in fields] == list(known)
    assert [field.size for field in fields] == [len(numbers) for numbers in known.values()]
    low, high = observation_limits(env.settings)
    assert len(observation) == env.observation_size == len(low) == len(high) == len(scales(fields))
    assert env.observation_space(params).shape == observation.shape
    names = [f"{field.name}[{number}]" for field in fields for number in range(field.size)]
    assert list(observation_names(env.settings)) == names
    physical = np.concatenate([np.asarray(numbers) for numbers in known.values()])
    np.testing.assert_allclose(physical / scales(fields), observation, rtol=1e-6)


def test_the_actions_are_those_of_the_rules():
    env, _ = jaxmoe.make("oneshot", num_replicas=2)
    choices = action_choices(env.settings)
    devices = device_choices(env.settings).reshape(len(choices), 4, 2)
    assert len(choices) == 81
    for action, digits in enumerate(choices):
        assert action == sum(digit * 3**expert for expert, digit in enumerate(digits))
        for expert, digit in enumerate(digits):
            assert devices[action, expert].tolist() == [digit == 1, digit == 2]


@pytest.mark.parametrize(
    ("scenario", "numbers", "must_be_said"),
    [
        ("oneshot", {}, {"relevance", "snr_db"}),
        ("fading", {}, {"relevance", "snr_db"}),
        ("fading", {"slot_s": 4.0}, {"relevance", "snr_db", "backlog_s"}),
        ("queueing", {}, {"relevance", "snr_db", "backlog_s", "battery_j"}),
        ("oneshot", {"device_up_probability": 0.9}, {"relevance", "snr_db", "available"}),
    ],
)
def test_what_varies_where_it_was_trained_has_no_default(scenario, numbers, must_be_said):
    env, params = jaxmoe.make(scenario)
    fields = observation_fields(params.replace(**numbers), env.settings)
    assert {field.name for field in fields if field.default is None} == must_be_said


def test_words_that_nobody_can_know_have_no_default():
    env, params = jaxmoe.make("oneshot", observe_words="true")
    assert observation_fields(params, env.settings)[1].default is None
