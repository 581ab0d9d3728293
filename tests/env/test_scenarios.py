"""The scenarios: what `make` builds, and what it refuses."""

import re
from dataclasses import asdict, fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walks import random_walk

import jaxmoe
from jaxmoe import InputError
from jaxmoe.env.rules import EnvParams
from jaxmoe.env.scenarios import NUMBERS, SCENARIOS, register_scenario, with_numbers


@pytest.fixture(scope="module")
def params():
    return jaxmoe.make("oneshot")[1]


@pytest.mark.parametrize(
    ("scenario", "channel", "fading", "csi_delay", "one_slot"),
    [
        ("oneshot", "uniform", "none", 0, True),
        ("fading", "link_budget", "rayleigh", 1, False),
        ("queueing", "link_budget", "rician", 1, False),
    ],
)
def test_static_settings_of_each_scenario(scenario, channel, fading, csi_delay, one_slot):
    expected = {"num_experts": 4, "num_replicas": 1, "sharing": "own", "observe_words": "mean"}
    expected |= {"channel": channel, "fading": fading, "csi_delay": csi_delay, "one_slot": one_slot}
    expected |= {"max_experts": None, "masked": False, "drawn": ()}
    assert asdict(jaxmoe.make(scenario)[0].settings) == expected


def test_these_are_all_the_scenarios():
    assert list(SCENARIOS) == ["oneshot", "fading", "queueing"]


def test_numbers_of_the_demonstration():
    _, params = jaxmoe.make("oneshot")
    assert (params.snr_min_db, params.snr_max_db) == (0.0, 20.0)
    assert (params.compute_coefficient, params.transmission_coefficient) == (2e-4, 0.16)
    assert (params.bandwidth_hz, params.bits_per_word) == (3750.0, 46.5)
    assert (params.latency_weight, params.energy_weight, params.min_rate_bps) == (0.0, 0.0, 0.0)
    assert params.deadline_s == float("inf")


def test_numbers_of_the_continuing_tasks():
    fading, queueing = (jaxmoe.make(scenario)[1] for scenario in ("fading", "queueing"))
    assert fading.max_steps_in_episode == queueing.max_steps_in_episode == 64
    assert fading.deadline_s == queueing.deadline_s == 20.0
    assert fading.background_probability == 0.0
    assert (queueing.slot_s, queueing.seconds_per_word, queueing.latency_weight) == (4.0, 0.035, 0.02)
    assert (queueing.background_probability, queueing.background_mean_s) == (0.25, 3.0)
    assert (queueing.compute_coefficient, queueing.transmission_coefficient) == (1e-4, 0.1)


@pytest.mark.parametrize(
    ("split", "prompts"),
    [("train", range(16)), ("validation", range(16, 24)), ("test", range(24, 32)), ("all", range(32))],
)
def test_the_prompts_of_a_split_come_first_and_the_shapes_are_those_of_every_split(split, prompts):
    _, params = jaxmoe.make("oneshot", split=split)
    assert params.num_prompts == len(prompts)
    assert params.prompts[: params.num_prompts].tolist() == list(prompts)
    assert sorted(params.prompts.tolist()) == list(range(32))


def test_expected_words_are_those_of_the_train_prompts_whatever_the_split():
    table = jaxmoe.load_table()
    for split in ("train", "test", "all"):
        words_hat = jaxmoe.make("oneshot", table, split)[1].words_hat
        np.testing.assert_allclose(words_hat, table.words[:16].mean(axis=0), rtol=1e-6)


def test_a_table_of_two_experts_makes_an_environment_of_two():
    table = jaxmoe.load_table().select_experts(["science", "action"])
    env, params = jaxmoe.make("oneshot", table)
    assert env.num_actions == 4
    assert env.observation_space(params).shape == (11,)
    assert params.words_hat.shape == (2,)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_replicas": 8},
        {"sharing": "shared"},
        {"csi_delay": 1},
        {"observe_words": "true"},
        {"one_slot": False},
        {"max_experts": 2},
    ],
)
def test_settings_can_be_changed(changes):
    env, _ = jaxmoe.make("oneshot", **changes)
    assert asdict(env.settings) == asdict(SCENARIOS["oneshot"][0]) | changes


@pytest.mark.parametrize("limit", [4, 5, 64])
def test_a_limit_that_forbids_nothing_is_none(limit):
    env, _ = jaxmoe.make("oneshot", max_experts=limit)
    assert env == jaxmoe.make("oneshot")[0]
    assert hash(env) == hash(jaxmoe.make("oneshot")[0])
    assert env != jaxmoe.make("oneshot", max_experts=3)[0]


def test_a_scenario_of_ones_own_can_have_a_limit_which_make_can_take_away():
    register_scenario("one_expert", {"max_experts": 1}, {})
    try:
        assert jaxmoe.make("one_expert")[0].num_actions == 5
        assert jaxmoe.make("one_expert", max_experts=2)[0].num_actions == 11
        assert jaxmoe.make("one_expert", max_experts=4)[0].num_actions == 16
    finally:
        del SCENARIOS["one_expert"]


@pytest.mark.parametrize("scenario", ["fading", "queueing"])
def test_the_median_snr_is_near_ten_decibels(scenario):
    env, params = jaxmoe.make(scenario)
    snr_db = random_walk(env, params, 5, 2000).beginnings.snr_db
    assert 5.0 < float(jnp.median(snr_db)) < 15.0
    assert float(jnp.mean((snr_db > 0.0) & (snr_db < 20.0))) > 0.6


# What is refused


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("bursty",), {}, "unknown scenario 'bursty'; choose one of oneshot, fading, queueing"),
        (("oneshot", None, "tset"), {}, "split is 'tset', it must be one of train, validation, test, all"),
        (("oneshot",), {"replicas": 2}, "unknown setting 'replicas'; choose among num_replicas, channel, fading"),
        (("oneshot",), {"num_experts": 2}, "unknown setting 'num_experts'"),
        (("oneshot",), {"latency_weight": 0.1}, "unknown setting 'latency_weight'"),
        (("oneshot",), {"num_replicas": 0}, "setting num_replicas = 0 is not allowed; choose one of 1, 2, 3"),
        (("oneshot",), {"num_replicas": 2.0}, "setting num_replicas = 2.0 is not allowed"),
        (("oneshot",), {"one_slot": 0}, "setting one_slot = 0 is not allowed; choose one of False, True"),
        (("oneshot",), {"num_replicas": 9}, "setting num_replicas = 9 is not allowed"),
        (("oneshot",), {"sharing": "both"}, "setting sharing = 'both' is not allowed; choose one of 'own', 'shared'"),
        (("fading",), {"fading": "nakagami"}, "choose one of 'none', 'rayleigh', 'rician'"),
        (("fading",), {"channel": "umi"}, "choose one of 'uniform', 'link_budget'"),
        (("fading",), {"csi_delay": 2}, "setting csi_delay = 2 is not allowed; choose one of 0, 1"),
        (("fading",), {"observe_words": True}, "choose one of 'mean', 'true'"),
        (("oneshot",), {"max_experts": 0}, "max_experts = 0 is not allowed; choose a whole number from 1 to 64"),
        (("oneshot",), {"max_experts": None}, "setting max_experts = None is not allowed; choose a whole number"),
        (("oneshot",), {"max_experts": 65}, "max_experts = 65 is not allowed; choose a whole number from 1 to 64"),
        (("oneshot",), {"max_experts": 2.0}, "setting max_experts = 2.0 is not allowed"),
        (("oneshot",), {"max_experts": True}, "setting max_experts = True is not allowed"),
        (("oneshot",), {"max_experts": "2"}, "setting max_experts = '2' is not allowed"),
        (("oneshot",), {"max_experts": [1, 2]}, "setting max_experts = [1, 2] is not allowed"),
    ],
)
def test_make_refuses_what_it_does_not_know_and_names_what_is_allowed(arguments, settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        jaxmoe.make(*arguments, **settings)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"snr_db": 3.0}, "unknown parameter 'snr_db'; choose among max_steps_in_episode, compute_coefficient"),
        ({"table": 3.0}, "unknown parameter 'table'"),
        ({"num_prompts": 3}, "unknown parameter 'num_prompts'"),
        ({"slot_s": "4"}, "parameter slot_s = '4' is not a number"),
        ({"slot_s": None}, "parameter slot_s = None is not a number"),
        ({"judge_noise": True}, "parameter judge_noise = True is not a number"),
        ({"latency_weight": float("nan")}, "parameter latency_weight = nan is outside 0 to 1e+30"),
        ({"latency_weight": -0.1}, "parameter latency_weight = -0.1 is outside 0 to 1e+30"),
        ({"device_up_probability": 1.1}, "parameter device_up_probability = 1.1 is outside 0 to 1"),
        ({"background_probability": -1}, "parameter background_probability = -1 is outside 0 to 1"),
        ({"max_steps_in_episode": 0}, "parameter max_steps_in_episode = 0 is outside 1 to"),
        ({"max_steps_in_episode": 2.5}, "parameter max_steps_in_episode = 2.5 is not a whole number"),
        ({"slot_s": 0.0}, "parameter slot_s = 0.0 is outside 0.001 to 1e+30"),
        ({"compute_coefficient": float("inf")}, "parameter compute_coefficient = inf is outside 0 to 1e+30"),
        ({"snr_min_db": 25}, "parameter snr_min_db = 25.0 is above snr_max_db = 20.0"),
        ({"distance_max_m": 15}, "parameter distance_min_m = 20.0 is above distance_max_m = 15.0"),
        ({"latency_weight": 0.1, "bandwidth": 1.0}, "unknown parameter 'bandwidth'"),
    ],
)
def test_numbers_are_refused_with_what_is_wrong(params, numbers, message):
    with pytest.raises(InputError, match=re.escape(message)):
        with_numbers(params, numbers)


def test_numbers_are_changed_by_name_and_keep_their_type(params):
    changed = with_numbers(params, {"latency_weight": 1, "max_steps_in_episode": 32.0, "deadline_s": 5.5})
    assert (changed.latency_weight, changed.max_steps_in_episode, changed.deadline_s) == (1.0, 32, 5.5)
    assert type(changed.latency_weight) is float
    assert type(changed.max_steps_in_episode) is int
    assert changed.slot_s == params.slot_s
    assert params.latency_weight == 0.0


def test_every_number_of_the_parameters_can_be_changed(params):
    assert set(NUMBERS) == {field.name for field in fields(EnvParams)} - {
        "table",
        "prompts",
        "num_prompts",
        "words_hat",
        "num_replicas",
    }
    for scenario in SCENARIOS:
        expected = jaxmoe.make(scenario)[1]
        found = with_numbers(params, {name: getattr(expected, name) for name in NUMBERS})
        jax.tree.map(np.testing.assert_array_equal, found, expected)
