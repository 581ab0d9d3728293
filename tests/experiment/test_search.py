"""From axes to points: configurations in environments."""

import numpy as np
import pytest

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import search
from jaxmoe.experiment.spec import load_spec

TABLE = jaxmoe.load_table()


def points(overrides=(), **content):
    return search.points(load_spec({"algorithm": "ppo", "env_steps": 10} | content, overrides), TABLE)


def values(found, name):
    return [point.hypers[name] for point in found]


def test_a_grid_has_every_point_and_what_is_fixed_in_each():
    found = points(hypers={"clip": [0.1, 0.2], "discount": 0.5, "entropy_coef": {"grid": [0.0, 0.01, 0.03]}})
    assert [(point.hypers["clip"], point.hypers["entropy_coef"]) for point in found] == [
        (clip, entropy) for clip in (0.1, 0.2) for entropy in (0.0, 0.01, 0.03)
    ]
    assert set(values(found, "discount")) == {0.5}


def test_without_axes_there_is_one_configuration():
    [point] = points()
    assert (point.algorithm, point.scenario, point.hypers, point.sample) == ("ppo", "oneshot", {}, 0)


def test_widths_are_one_value_and_lists_of_widths_several():
    assert [point.config["hidden"] for point in points(config={"hidden": [64, 64]})] == [(64, 64)]
    assert [point.config["hidden"] for point in points(config={"hidden": [[8], [16, 16]]})] == [(8,), (16, 16)]


def test_scenarios_have_sections_of_their_own():
    found = points(scenario=["oneshot", "queueing"], params={"slot_s": 3, "queueing": {"latency_weight": [0.0, 0.05]}})
    assert [(point.scenario, point.params) for point in found] == [
        ("oneshot", {"slot_s": 3}),
        ("queueing", {"slot_s": 3, "latency_weight": 0.0}),
        ("queueing", {"slot_s": 3, "latency_weight": 0.05}),
    ]


def test_a_setting_may_have_the_name_of_a_scenario():
    [point] = points(scenario="fading", settings={"fading": "rician"})
    assert point.settings == {"fading": "rician"}
    assert len(points(scenario="fading", settings={"fading": {"grid": ["none", "rician"]}})) == 2
    assert points(scenario="fading", settings={"fading": {"fading": "none"}})[0].settings == {"fading": "none"}
    [point] = points(scenario="oneshot", settings={"channel": "link_budget", "fading": "rayleigh"})
    assert point.settings["fading"] == "rayleigh"


def test_a_list_for_devices_is_one_value_and_a_grid_of_lists_is_an_axis():
    devices = [0.01, 0.02, 0.03, 0.04]
    [point] = points(params={"seconds_per_word": devices})
    assert point.params == point.numbers() == {"seconds_per_word": devices}
    found = points(params={"seconds_per_word": {"grid": [devices, 0.05]}})
    assert [point.params["seconds_per_word"] for point in found] == [devices, 0.05]
    assert len(points(params={"latency_weight": [0.0, 0.1]})) == 2  # one number for all devices: an axis, as ever


def test_how_a_number_is_drawn_is_one_value_and_shapes_the_program():
    anew = {"each_episode": {"uniform": [0.01, 0.05]}}
    [point] = points(params={"seconds_per_word": anew, "slot_s": 5.0})
    assert (point.static_numbers(), point.numbers()) == ({"seconds_per_word": anew}, {"slot_s": 5.0})
    hidden = {**anew, "observed": False}
    found = points(params={"latency_weight": {"grid": [anew, hidden, 0.1]}})
    assert [point.params["latency_weight"] for point in found] == [anew, hidden, 0.1]
    drawn = points(params={"slot_s": {"uniform": [3, 5]}}, search={"method": "random", "samples": 3})
    assert all(isinstance(point.params["slot_s"], float) for point in drawn)  # one for each configuration


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_samples_lie_in_their_ranges_and_fill_them(method):
    axes = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "clip": {"uniform": [0.1, 0.4]}, "gae_lambda": [0.5, 0.9]}
    found = points(search={"method": method, "samples": 200}, hypers=axes)
    logs, clips = np.log10(values(found, "learning_rate")), np.array(values(found, "clip"))
    assert len(found) == 200
    assert -4 <= logs.min() < -3.9
    assert -2.1 < logs.max() <= -2
    assert abs(logs.mean() + 3) < 0.1
    assert 0.1 <= clips.min() < 0.11
    assert 0.39 < clips.max() <= 0.4
    assert 80 < values(found, "gae_lambda").count(0.9) < 120
    assert abs(np.corrcoef(logs, clips)[0, 1]) < 0.2


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_neither_more_samples_nor_the_order_of_the_axes_changes_a_sample(method):
    axes = {"clip": {"uniform": [0.1, 0.4]}, "gae_lambda": {"uniform": [0.0, 1.0]}}
    few = points(search={"method": method, "samples": 5}, hypers=axes)
    more = points(search={"method": method, "samples": 12}, hypers=dict(reversed(axes.items())))
    assert more[:5] == few
    other = points(search={"method": method, "samples": 5, "seed": 1}, hypers=axes)
    assert other != few


def test_algorithms_that_share_an_axis_share_its_samples():
    four = {"method": "random", "samples": 4}
    both = points(algorithm=["ppo", "dqn"], search=four, hypers={"learning_rate": {"log_uniform": [1e-4, 1e-2]}})
    assert values(both[:4], "learning_rate") == values(both[4:], "learning_rate")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"algorithm": "a2c"}, "unknown algorithm 'a2c'; choose one of ppo"),
        ({"scenario": "twoshot"}, "unknown scenario 'twoshot'; choose one of oneshot"),
        ({"hypers": {"learning_rat": 1}}, "unknown hyperparameter 'learning_rat'; choose among learning_rate"),
        ({"hypers": {"discount": [0.5, 1.5]}}, "discount = 1.5 must be from 0 to 1"),
        ({"hypers": {"clip": []}}, r"hypers.clip = \[\] is an empty grid"),
        ({"hypers": {"clip": {"grid": []}}}, r"hypers.clip = \[\] is an empty grid"),
        ({"hypers": {"clip": [0.1, 0.1]}}, "holds a value twice"),
        ({"hypers": {"clip": "high"}}, "clip = 'high' is not a finite number"),
        (
            {"hypers": {"clip": {"normal": [0, 1]}}},
            "hypers.clip = .* is not an axis; write one of grid, uniform, log_uniform",
        ),
        (
            {"hypers": {"clip": {"uniform": [0.1, 0.2]}}},
            "hypers.clip is a range, and search.method = 'grid' needs lists",
        ),
        ({"hypers": {"clip": {"uniform": [0.2, 0.1]}}}, "is not a range; give its lower and upper end"),
        ({"hypers": {"clip": {"log_uniform": [0, 0.1]}}}, "must begin above 0"),
        (
            {"config": {"num_envs": {"uniform": [1, 8]}}},
            "config.num_envs shapes the compiled program and takes no range",
        ),
        ({"config": {"minibatches": 7}}, "minibatches = 7 does not divide"),
        ({"settings": {"sharing": "equal"}}, "setting sharing = 'equal' is not allowed"),
        ({"params": {"latency": 1}}, "unknown parameter 'latency'; choose among"),
        ({"params": {"seconds_per_word": [1, 2]}}, "has 2 numbers, and there are 4 experts"),
        ({"params": {"slot_s": {"each_episode": {"normal": [1, 2]}}}}, "is not how a number is drawn"),
        ({"params": {"seconds_per_word": {"grid": [[1, 2, 3, 4], [1, 2, 3]]}}}, "has 3 numbers"),
        (
            {"params": {"max_steps_in_episode": {"uniform": [1, 64]}}},
            "max_steps_in_episode shapes the compiled program",
        ),
        ({"hypers": {"dqn": {"discount": 0}}}, r"\[hypers.dqn\] is there, but the spec uses only ppo"),
        ({"params": {"fading": {"slot_s": 1}}}, r"\[params.fading\] is there, but the spec uses only oneshot"),
        ({"hypers": {"ppo": 3}}, r"hypers.ppo = 3 is no section; write \[hypers.ppo\], keys below it"),
        (
            {"hypers": {"clip": [{"a": 1}]}},
            "hypers.clip = .* holds a value that is neither a number, a word nor a list",
        ),
        (
            {"config": {"hidden": [[[1]]]}},
            "config.hidden = .* holds a value that is neither a number, a word nor a list",
        ),
        ({"search": {"samples": 3}}, "search.samples is for method = 'random' or 'sobol'"),
        ({"search": {"method": "random"}}, "search.method = 'random' needs search.samples"),
        ({"search": {"method": "sobol", "samples": 3}}, "search.method = 'sobol' has no axis to sample"),
    ],
)
def test_axes_that_cannot_be_are_refused(content, message):
    with pytest.raises(InputError, match=message):
        points(**content)
