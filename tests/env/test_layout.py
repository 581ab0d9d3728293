"""The contract's layout says what the environment's observation and actions are."""

import jax
import numpy as np
import pytest

import jaxmoe
from jaxmoe.env import rules
from jaxmoe.env.layout import action_choices, observation_fields, scales


@pytest.mark.parametrize("scenario", ["oneshot", "fading", "queueing"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_physical_quantities_over_scales_are_the_observation(scenario, replicas):
    env, params = jaxmoe.make(scenario, num_replicas=replicas)
    state = rules.begin(rules.draw(jax.random.key(5), env.settings), params, env.settings)
    for number in range(4):
        draws = rules.draw(jax.random.key(number), env.settings)
        state, _ = rules.transition(state, np.int32(env.num_actions - 1), draws, params, env.settings)
    quantities = {
        "relevance": params.table.relevance[state.prompt],
        "words_hat": params.words_hat,
        "snr_db": state.observed_snr_db,
        "backlog_s": state.backlog_s,
        "battery_j": state.battery_j[None],
        "available": state.available.astype(np.float32),
    }
    fields = observation_fields(params, env.settings)
    assert [field.name for field in fields] == list(quantities)
    assert [field.size for field in fields] == [len(numbers) for numbers in quantities.values()]
    physical = np.concatenate([np.asarray(numbers) for numbers in quantities.values()])
    observation = np.asarray(rules.observe(state, params, env.settings))
    np.testing.assert_allclose(physical / scales(fields), observation, rtol=1e-6)


def test_the_actions_are_those_of_the_rules():
    env, _ = jaxmoe.make("oneshot", num_replicas=2)
    choices = action_choices(env.settings)
    devices = rules.device_choices(env.settings).reshape(len(choices), 4, 2)
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
