"""Numbers by device, numbers that each episode draws anew, and what agents and baselines are told of them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walks import walk_along

import jaxmoe
from jaxmoe.env import rules
from jaxmoe.env.baselines import BASELINES, one_slot_optimum, predict_then_optimise
from jaxmoe.env.numbers import Drawn
from jaxmoe.env.observation import legal_actions, observation_fields, observation_names, observe
from jaxmoe.env.params import ABOUT_NUMBERS, NUMBERS
from jaxmoe.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")

FOUR = [0.02, 0.03, 0.04, 0.08]
POWERS = {"each_episode": {"uniform": [-5.0, 5.0]}}


# One for each device


@pytest.mark.parametrize("said", [FOUR, tuple(FOUR), np.array(FOUR)])
def test_a_number_of_each_expert_is_that_of_all_its_replicas(said):
    _, params = jaxmoe.make("queueing", num_replicas=2, params={"seconds_per_word": said})
    np.testing.assert_allclose(params.seconds_per_word, np.repeat(FOUR, 2), rtol=1e-6)
    np.testing.assert_array_equal(params.replace(seconds_per_word=said).seconds_per_word, params.seconds_per_word)
    each = list(range(8))
    assert params.replace(background_mean_s=each).background_mean_s.tolist() == each


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"seconds_per_word": [1, 2, 3]}, "seconds_per_word = [1, 2, 3] has 3 numbers, and there are 4 experts on 8"),
        ({"latency_weight": FOUR}, "is one number for all devices, and not a list"),
        ({"device_up_probability": [0.5, 0.5, 0.5, 1.5]}, "device_up_probability = 1.5 is outside 0 to 1"),
        ({"seconds_per_word": [0.1, None, 0.1, 0.1]}, "seconds_per_word = None is not a number"),
        ({"distance_min_m": [10, 10, 10, 500]}, "is above distance_max_m = 25.0"),
        ({"colour": 1}, "unknown parameter 'colour'"),
        ({"seconds_per_word": []}, "has 0 numbers, and there are 4 experts on 8 devices: give one for each"),
        ({"seconds_per_word": 10**5000}, "seconds_per_word = a number of 16,610 bits is"),
        ({"seconds_per_word": [10**5000] * 4}, "seconds_per_word = a number of 16,610 bits is"),
    ],
)
def test_lists_are_checked_wherever_they_are_given(numbers, message):
    _, params = jaxmoe.make("queueing", num_replicas=2)
    with pytest.raises(InputError, match=re.escape(message)):
        params.replace(**numbers)
    with pytest.raises(InputError, match=re.escape(message)):
        jaxmoe.make("queueing", num_replicas=2, params=numbers)


def test_a_list_of_equal_numbers_is_the_number():
    env, params = jaxmoe.make("queueing", params={"device_up_probability": 0.9})
    names = [name for name in NUMBERS if ABOUT_NUMBERS[name].by_device]
    listed = params.replace(**{name: [float(getattr(params, name))] * 4 for name in names})
    draws = jax.vmap(lambda key: rules.draw(key, env.settings))(jax.random.split(jax.random.key(0), 200))
    actions = jnp.arange(200, dtype=jnp.int32) % env.num_actions
    found, expected = (walk_along(env, each, draws, actions) for each in (listed, params))
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5), found, expected)


# Drawn anew


def begun(params=None, episodes=4000, **settings):
    """The states in which episodes begin."""
    env, own = jaxmoe.make("queueing", params=params, **settings)
    keys = jax.random.split(jax.random.key(3), episodes)
    return env, own, jax.vmap(lambda key: env.reset_env(key, own)[1])(keys)


def test_each_episode_draws_for_each_device_alone():
    env, params, states = begun({"tx_power_dbm": POWERS, "latency_weight": {"each_episode": {"choice": [0.01, 0.03]}}})
    powers, weights = np.asarray(states.drawn["tx_power_dbm"]), np.asarray(states.drawn["latency_weight"])
    assert powers.shape == (4000, 4)
    assert weights.shape == (4000,)
    assert powers.min() < -4.9 < 4.9 < powers.max()
    assert abs(np.corrcoef(powers.T)[0, 1]) < 0.06
    assert sorted(set(weights.tolist())) == pytest.approx([0.01, 0.03])
    assert np.mean(weights > 0.02) == pytest.approx(0.5, abs=0.03)
    assert (params.tx_power_dbm, params.latency_weight) == (0.0, pytest.approx(0.02))  # what is expected
    assert [each.name for each in env.settings.drawn] == ["latency_weight", "tx_power_dbm"]


def test_what_was_drawn_stays_for_the_episode_and_decides_it():
    env, params = jaxmoe.make("queueing", params={"slot_s": {"each_episode": {"uniform": [3.0, 6.0]}}})
    observation, state = env.reset_env(jax.random.key(1), params)
    for _ in range(3):
        _, after, *_ = env.step_env(jax.random.key(2), state, 3, params)
        assert after.drawn == state.drawn
        state = after
    fixed, own = jaxmoe.make("queueing", params={"slot_s": float(state.drawn["slot_s"])})
    ours, theirs = (
        each.step_env(jax.random.key(5), state._replace(drawn=drawn), 3, numbers)[1]
        for each, drawn, numbers in ((env, state.drawn, params), (fixed, {}, own))
    )
    np.testing.assert_allclose(ours.backlog_s, theirs.backlog_s, rtol=1e-6)
    assert observation[-1] == pytest.approx(float(state.drawn["slot_s"]) / 4.0)


@pytest.mark.parametrize(
    ("drawn", "mean"),
    [
        (Drawn("slot_s", "uniform", (2.0, 4.0)), 3.0),
        (Drawn("slot_s", "log_uniform", (1.0, 10.0)), 9 / np.log(10)),
        (Drawn("slot_s", "choice", (1.0, 2.0, 6.0)), 3.0),
        (Drawn("seconds_per_word", "choice", ((1.0, 2.0), (3.0, 6.0))), (2.0, 4.0)),
        (Drawn("seconds_per_word", "choice", (5.0, (1.0, 2.0))), (3.0, 3.5)),
    ],
)
def test_the_expected_number_is_the_mean_of_many(drawn, mean):
    uniforms = jax.random.uniform(jax.random.key(0), (40_000,))
    found = np.asarray(jax.vmap(drawn.draw)(uniforms))
    np.testing.assert_allclose(found.mean(axis=0), mean, rtol=0.02)
    np.testing.assert_allclose(drawn.mean(), mean, rtol=1e-9)
    low, high = drawn.limits()
    assert low <= found.min() <= found.max() <= high * (1 + 1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"each_episode": {"uniform": [5, -5]}}, "must be a lower and an upper end"),
        ({"each_episode": {"uniform": [1]}}, "is not a range; give its lower and upper end"),
        (
            {"each_episode": {"log_uniform": [0, 5]}},
            "must be a lower and an upper end, and the lower one at least 1e-30",
        ),
        ({"each_episode": {"normal": [0, 5]}}, "is not how a number is drawn"),
        ({"each_episode": {"choice": []}}, "choice = [] is not a list of numbers"),
        ({"each_episode": {"choice": [[1, 2], [3, 4]]}}, "has 2 numbers, and there are 4 experts, each on a device"),
        ({"each_episode": {"choice": [1, 1e4]}}, "tx_power_dbm = 10000.0 is outside -200 to 200"),
        ({"each_episode": [1, 2]}, "is not how a number is drawn"),
        ({"each_episode": {"choice": [1, 2]}, "observed": "no"}, "is not how a number is drawn"),
        ({"uniform": [1, 2]}, "is not how a number is drawn"),
        ({"each_episode": {"log_uniform": [1e-50, 1.0]}}, "and the lower one at least 1e-30"),
    ],
)
def test_how_a_number_is_drawn_is_checked(value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        jaxmoe.make("queueing", params={"tx_power_dbm": value})


def test_what_no_episode_can_draw_is_refused():
    anew = {"each_episode": {"uniform": [1, 2]}}
    for name in ("max_steps_in_episode", "judge_noise"):
        with pytest.raises(InputError, match=f"parameter {name} is one of those that no episode can draw anew"):
            jaxmoe.make("queueing", params={name: anew})
    with pytest.raises(InputError, match="draws infinite numbers"):
        jaxmoe.make("queueing", params={"deadline_s": {"each_episode": {"choice": [5.0, float("inf")]}}})
    with pytest.raises(InputError, match="shapes the environment; say it where that is made"):
        jaxmoe.make("queueing")[1].replace(slot_s=anew)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"distance_min_m": [10, 60]}, "distance_min_m can be 60, which is above distance_max_m = 25"),
        ({"distance_max_m": [9, 60]}, "distance_min_m can be 10, which is above distance_max_m = 9"),
        ({"snr_min_db": [0, 12], "snr_max_db": [10, 20]}, "snr_min_db can be 12, which is above snr_max_db = 10"),
    ],
)
def test_ends_that_a_draw_can_exchange_are_refused(numbers, message):
    anew = {name: {"each_episode": {"uniform": ends}} for name, ends in numbers.items()}
    with pytest.raises(InputError, match=message):
        jaxmoe.make("queueing", params=anew)


def test_numbers_of_devices_have_an_order():
    with pytest.raises(InputError, match="neither a number, a text, a list nor a section"):
        jaxmoe.make("queueing", params={"seconds_per_word": set(FOUR)})


@pytest.mark.parametrize("wrong", [[1], "a", 3, [("slot_s", 4)]])
def test_what_is_no_mapping_is_refused(wrong):
    with pytest.raises(InputError, match="is not a mapping of names to values"):
        jaxmoe.make("queueing", params=wrong)
    with pytest.raises(InputError, match="is not a mapping of names to values"):
        jaxmoe.evaluate(scenario="queueing", params=wrong, requests=64)
    with pytest.raises(InputError, match="unknown scenario"):
        jaxmoe.make(wrong)


# What is told

SCALES = {  # by which observed numbers are divided; trained policies depend on them
    "compute_coefficient": 2e-4, "transmission_coefficient": 0.16, "latency_weight": 0.02, "energy_weight": 0.01,
    "seconds_per_word": 0.035, "local_seconds_per_word": 0.0145, "deadline_s": 20.0, "slot_s": 4.0,
    "device_up_probability": 1.0, "background_probability": 1.0, "background_mean_s": 3.0, "joules_per_word": 0.02,
    "radio_power_w": 0.5, "battery_capacity_j": 100.0, "harvest_w": 2.0, "bandwidth_hz": 3750.0, "bits_per_word": 46.5,
    "min_rate_bps": 1200.0, "snr_min_db": 20.0, "snr_max_db": 20.0, "tx_power_dbm": 20.0, "noise_figure_db": 10.0,
    "interference_margin_db": 50.0, "carrier_ghz": 3.5, "distance_min_m": 20.0, "distance_max_m": 50.0,
    "bs_height_m": 10.0, "ut_height_m": 1.5, "speed_m_per_s": 1.0, "rician_k": 10.0,
}  # fmt: skip


def test_names_and_scales_of_drawn_numbers_are_frozen():
    every = {name: about.scale for name, about in ABOUT_NUMBERS.items() if not about.lasting}
    assert every == SCALES
    several = {
        name: {"each_episode": {"choice": [SCALES[name]]}} for name in ("harvest_w", "slot_s", "seconds_per_word")
    }
    env, params = jaxmoe.make("queueing", params=several)
    fields = observation_fields(params, env.settings)[6:]
    assert [(field.name, field.size) for field in fields] == [("seconds_per_word", 4), ("slot_s", 1), ("harvest_w", 1)]
    np.testing.assert_allclose(env.reset_env(jax.random.key(0), params)[0][-6:], 1.0, rtol=1e-6)


def test_the_observation_says_what_was_drawn_unless_it_is_left_out():
    hidden = {"harvest_w": {"each_episode": {"uniform": [1.0, 3.0]}, "observed": False}}
    env, params, states = begun({"tx_power_dbm": POWERS, **hidden}, num_replicas=2)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    observation = np.asarray(observe(state, params, env.settings))
    plain, _ = jaxmoe.make("queueing", num_replicas=2)
    assert len(observation) == env.observation_size == plain.observation_size + 8
    np.testing.assert_allclose(observation[-8:] * 20.0, state.drawn["tx_power_dbm"], rtol=1e-6)
    assert observation_names(env.settings)[-8:] == tuple(f"tx_power_dbm[{device}]" for device in range(8))
    told = observation_fields(params, env.settings)[-1]
    assert (told.name, told.unit, told.per, told.size, told.scale) == ("tx_power_dbm", "dBm", "device", 8, 20.0)
    assert (told.low, told.high, told.default) == (-5.0, 5.0, None)
    space = env.observation_space(params)
    assert np.all(observation >= space.low)
    assert np.all(observation <= space.high)


@pytest.mark.parametrize(
    "numbers",
    [
        {"seconds_per_word": {"choice": [FOUR]}, "deadline_s": {"choice": [0.07, 0.09]}},
        {"latency_weight": {"choice": [0.013]}, "seconds_per_word": {"uniform": [0.017, 0.017]}},
        {"seconds_per_word": {"log_uniform": [0.01, 0.0100001]}, "tx_power_dbm": {"uniform": [-5, -4.99]}},
        {"battery_capacity_j": {"log_uniform": [10, 100]}, "slot_s": {"uniform": [3, 5]}},
    ],
)
def test_what_is_observed_lies_in_its_limits(numbers):
    env, params, states = begun({name: {"each_episode": how} for name, how in numbers.items()}, 500)
    observations = np.asarray(jax.vmap(lambda state: observe(state, params, env.settings))(states))
    space = env.observation_space(params)
    assert np.all(observations >= space.low)
    assert np.all(observations <= space.high)


def test_scales_do_not_depend_on_how_numbers_are_drawn():
    """So that agents that were trained with one range see another network as they saw theirs."""
    names = ("battery_capacity_j", "slot_s", "seconds_per_word")
    wide, told = (
        jaxmoe.make("queueing", params={name: {"each_episode": how} for name in names})
        for how in ({"log_uniform": [3.0, 30.0]}, {"choice": [5.0]})
    )
    found = [
        [(field.name, field.scale) for field in observation_fields(params, env.settings)]
        for env, params in (wide, told)
    ]
    assert found[0] == found[1]
    assert dict(found[0])["backlog_s"] == 4.0
    assert dict(found[0])["battery_j"] == 100.0


def test_baselines_are_told_the_drawn_numbers_the_mean_or_nothing_and_say_so():
    prices = {"compute_coefficient": {"each_episode": {"choice": [[0, 0, 2e-3, 2e-3], [2e-3, 2e-3, 0, 0]]}}}
    unseen = {name: {**how, "observed": False} for name, how in prices.items()}
    (told, own, states), (untold, hidden, _) = begun(prices, 64), begun(unseen, 64)
    assert len(np.unique(np.asarray(states.drawn["compute_coefficient"]), axis=0)) == 2

    def chosen(make, env, params):
        act = make(env, own) if make is predict_then_optimise else make(env)
        policy = lambda state: act.act(jax.random.key(0), observe(state, params, env.settings), state, params)  # noqa: E731
        return np.asarray(jax.vmap(policy)(states))

    def fixed(make, row):
        """What is chosen where everybody knows the numbers."""
        state = jax.tree.map(lambda leaf: leaf[row : row + 1], states)
        env, params = jaxmoe.make("queueing", params={"compute_coefficient": state.drawn["compute_coefficient"][0]})
        act = make(env, params) if make is predict_then_optimise else make(env)
        one = jax.tree.map(lambda leaf: leaf[0], state._replace(drawn={}))
        return int(act.act(jax.random.key(0), observe(one, params, env.settings), one, params))

    for make in (predict_then_optimise, one_slot_optimum):
        assert chosen(make, told, own)[:6].tolist() == [fixed(make, row) for row in range(6)]
    assert chosen(one_slot_optimum, untold, hidden).tolist() == chosen(one_slot_optimum, told, own).tolist()
    mean = jnp.full_like(states.drawn["compute_coefficient"], 1e-3)
    with_mean = jax.vmap(lambda state: predict_then_optimise(told, own).act(jax.random.key(0), None, state, own))(
        states._replace(drawn={"compute_coefficient": mean})
    )
    assert chosen(predict_then_optimise, untold, hidden).tolist() == np.asarray(with_mean).tolist()
    assert chosen(predict_then_optimise, untold, hidden).tolist() != chosen(predict_then_optimise, told, own).tolist()
    knows = BASELINES["predict_then_optimise"].knows
    assert knows(told.settings) == "exact costs; predicts scores"
    assert knows(untold.settings) == "costs, of compute_coefficient the mean; predicts scores"


# Devices that are down


def test_actions_are_masked_where_a_device_can_be_down():
    assert jaxmoe.make("queueing")[0].legal_actions is None
    for said in (0.7, [1, 1, 1, 0.9], {"each_episode": {"uniform": [0.5, 1.0]}}):
        assert jaxmoe.make("queueing", params={"device_up_probability": said})[0].settings.masked
    assert not jaxmoe.make("queueing", masked=False, params={"device_up_probability": 0.7})[0].settings.masked


@pytest.mark.parametrize("replicas", [1, 2])
def test_legality_is_seen_from_the_observation(replicas):
    env, params, states = begun({"device_up_probability": 0.6, "tx_power_dbm": POWERS}, 200, num_replicas=replicas)
    observations = jax.vmap(lambda state: observe(state, params, env.settings))(states)
    found = np.asarray(legal_actions(observations, env.settings))
    expected = np.asarray(jax.vmap(lambda state: rules.action_mask(state, env.settings))(states))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(env.legal_actions(observations), expected)
    assert found[:, 0].all()
    assert 0.1 < found.mean() < 0.9
