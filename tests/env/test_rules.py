"""The rules agree with a plain NumPy twin, with a golden trajectory, and with what they promise in words."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy_twin as twin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import seven
from walks import as_numpy, many_draws, random_walk, row, stacked, walk_along

import jaxmoe
from jaxmoe.env import rules
from jaxmoe.env.actions import action_choices, device_choices, encode_action, subsets
from jaxmoe.env.scenarios import SCENARIOS, with_numbers

properties = partial(settings, max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
actions = st.integers(0, 15)
SPLIT_PROMPTS = [("train", range(16)), ("validation", range(16, 24)), ("test", range(24, 32)), ("all", range(32))]
GOLDEN = Path(__file__).with_name("golden.json")

SLOTS = 2000
NEAR = 1e-4  # relative distance to a threshold below which single and double precision may decide differently
SMALL_BATTERY = {"battery_capacity_j": 9.0, "harvest_w": 0.6, "energy_weight": 0.01, "judge_noise": 0.0}
SHORT_SLOTS = {"slot_s": 0.01, "speed_m_per_s": 0.5, "background_probability": 0.002, "background_mean_s": 0.5}
PER_DEVICE = {
    "compute_coefficient": [1e-4, 2e-4, 3e-4, 8e-4],
    "seconds_per_word": [0.02, 0.03, 0.04, 0.05],
    "joules_per_word": [0.01, 0.02, 0.03, 0.04],
    "radio_power_w": [0.1, 0.5, 1.0, 2.0],
    "device_up_probability": [1.0, 0.9, 0.5, 0.2],
    "background_probability": [0.0, 0.2, 0.4, 0.6],
    "background_mean_s": [1.0, 2.0, 3.0, 4.0],
    "tx_power_dbm": [3.0, 2.0, 1.0, 0.0],
    "distance_min_m": [10.0, 15.0, 20.0, 25.0],
    "distance_max_m": [20.0, 40.0, 100.0, 400.0],
}
DRAWN = {
    "seconds_per_word": {"each_episode": {"log_uniform": [0.01, 0.1]}},
    "compute_coefficient": {"each_episode": {"choice": [1e-4, 5e-4]}, "observed": False},
    "tx_power_dbm": {"each_episode": {"choice": [[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]]}},
    "background_probability": {"each_episode": {"uniform": [0.0, 0.5]}},
    "latency_weight": {"each_episode": {"uniform": [0.0, 0.1]}},
    "slot_s": {"each_episode": {"choice": [3.0, 5.0]}},
    "battery_capacity_j": {"each_episode": {"uniform": [9.0, 100.0]}},
    "interference_margin_db": {"each_episode": {"uniform": [40.0, 50.0]}},
}
VARIANTS = {
    "oneshot": ("oneshot", {}, {}),
    "oneshot, two replicas share the band": ("oneshot", {"num_replicas": 2, "sharing": "shared"}, {"judge_noise": 0.0}),
    "oneshot, devices come and go": ("oneshot", {"csi_delay": 1}, {"device_up_probability": 0.7, "slot_s": 2.0}),
    "fading": ("fading", {}, {}),
    "fading, Rician, current channel": ("fading", {"fading": "rician", "csi_delay": 0}, {"judge_noise": 0.0}),
    "fading, shadowing only, shared band": ("fading", {"fading": "none", "sharing": "shared"}, {}),
    "queueing": ("queueing", {}, {}),
    "queueing, two replicas come and go": ("queueing", {"num_replicas": 2}, {"device_up_probability": 0.7}),
    "queueing, small battery": ("queueing", {"sharing": "shared"}, SMALL_BATTERY),
    "queueing, short slots": ("queueing", {"fading": "rayleigh", "csi_delay": 0}, SHORT_SLOTS),
    "queueing, devices differ": ("queueing", {}, PER_DEVICE),
    "queueing, experts differ": ("queueing", {"num_replicas": 2}, PER_DEVICE),
    "queueing, drawn anew": ("queueing", {}, DRAWN),
    "oneshot, drawn anew": ("oneshot", {"num_replicas": 2}, {"snr_max_db": {"each_episode": {"uniform": [1.0, 20.0]}}}),
    "oneshot, two experts at most": ("oneshot", {"max_experts": 2}, {}),
    "queueing, one of two replicas": ("queueing", {"num_replicas": 2, "max_experts": 1}, {}),
}


def walk_of(variant):
    """The environment of a variant, its parameters, and the same walk whenever asked."""
    scenario, changed_settings, numbers = VARIANTS[variant]
    env, params = jaxmoe.make(scenario, params=numbers, **changed_settings)
    return env, params, random_walk(env, params, 1, SLOTS)


def assert_same_states(found, expected, compared=slice(None)):
    close = partial(assert_close, compared=compared)
    for field in ("prompt", "time", "available"):
        np.testing.assert_array_equal(getattr(found, field)[compared], getattr(expected, field)[compared])
    for field in ("snr_db", "observed_snr_db"):
        found_power, expected_power = (10 ** (getattr(states, field) / 10) for states in (found, expected))
        close(found_power, expected_power, field, rtol=2e-5, atol=2e-3)
    close(found.backlog_s, expected.backlog_s, "backlog_s")
    assert found.drawn.keys() == vars(expected.drawn).keys()
    for name, value in found.drawn.items():
        close(value, getattr(expected.drawn, name), name)
    close(found.battery_j, expected.battery_j, "battery_j")
    assert (found.link is None) == (expected.link is None)
    if found.link is None:
        return
    np.testing.assert_array_equal(found.link.line_of_sight[compared], expected.link.line_of_sight[compared])
    close(found.link.mean_snr_db, expected.link.mean_snr_db, "mean_snr_db", atol=1e-4)
    close(found.link.shadowing, expected.link.shadowing, "shadowing")
    assert (found.link.scattered is None) == (expected.link.scattered is None)
    if found.link.scattered is not None:
        close(found.link.scattered, expected.link.scattered, "scattered")


def assert_same_outcomes(found, expected, compared):
    np.testing.assert_array_equal(found.arrived[compared], expected.arrived[compared])
    np.testing.assert_array_equal(found.used[compared], expected.used[compared])
    for field in ("qos", "score", "computing_cost", "transmission_cost", "latency_s", "energy_j", "compute_s"):
        assert_close(getattr(found, field), getattr(expected, field), field, compared)


def assert_close(found, expected, name, compared, rtol=1e-5, atol=1e-5):
    np.testing.assert_allclose(found[compared], expected[compared], rtol, atol, err_msg=name)


# The twin


def assert_twin_agrees(env, params, walk, least):
    """Every slot of a walk, but those of draws so near a threshold that the precision decides; at least this share."""
    walk, numbers = as_numpy(walk), as_numpy(params)
    slots = [row((walk.states, walk.actions, walk.draws), slot) for slot in range(len(walk.actions))]
    next_states, outcomes = zip(*(twin.transition(*slot, numbers, env.settings) for slot in slots), strict=True)
    expected = stacked(outcomes)
    compared = (expected.nearest > NEAR) & (prompt_distances(walk.draws, numbers) > NEAR)
    assert compared.mean() > least
    assert_same_outcomes(walk.outcomes, expected, compared)
    assert_same_states(walk.next_states, stacked(next_states), compared)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transitions_are_those_of_the_numpy_twin(variant):
    assert_twin_agrees(*walk_of(variant), 0.99)


@pytest.mark.parametrize("variant", VARIANTS)
def test_episodes_begin_as_the_numpy_twin_says(variant):
    env, params, walk = walk_of(variant)
    walk, numbers = as_numpy(walk), as_numpy(params)
    expected = [twin.begin(row(walk.draws, slot), numbers, env.settings) for slot in range(SLOTS)]
    compared = prompt_distances(walk.draws, numbers) > NEAR
    assert compared.mean() > 0.99
    assert_same_states(walk.beginnings, stacked(expected), compared)


def test_a_network_of_seven_devices_out_of_a_file_is_that_of_the_numpy_twin(tmp_path):
    network, table = seven(tmp_path)
    env, params = jaxmoe.make(network, table)
    assert np.unique(params.seconds_per_word).size == 7
    assert_twin_agrees(env, params, random_walk(env, params, 2, 10_000), 0.98)


def prompt_distances(draws, numbers):
    """How far each draw of a prompt is from the next prompt's, in prompts."""
    position = draws.prompt * numbers.num_prompts
    return np.abs(position - np.round(position))


def test_the_walks_meet_every_way_to_lose_a_passage():
    def shares(variant):
        env, params, walk = walk_of(variant)
        chosen = device_choices(env.settings)[np.asarray(walk.actions)]
        states, used = as_numpy(walk.states), np.asarray(walk.outcomes.used)
        arrived = np.asarray(walk.outcomes.arrived)[:, None] >> np.arange(env.settings.num_experts) & 1 == 1
        return {
            "lost": np.mean(used & ~arrived),
            "refused": np.mean((chosen & states.available).any(axis=1) & ~used.any(axis=1)),
            "unavailable": np.mean(chosen & ~states.available),
            "waiting": np.mean(states.backlog_s > 0.0),
            "drained": np.mean(states.battery_j < 0.5 * params.battery_capacity_j),
        }

    assert shares("oneshot")["lost"] == 0.0
    assert shares("fading")["lost"] > 0.02
    assert shares("queueing")["waiting"] > 0.2
    assert shares("queueing, devices differ")["unavailable"] > 0.05
    assert shares("queueing, small battery")["refused"] > 0.02
    assert shares("queueing, small battery")["drained"] > 0.05


# Compiled, batched, and as it was


@partial(jax.jit, static_argnums=4)
def transitions(states, actions, draws, params, settings):
    """Several slots at once."""
    return jax.vmap(partial(rules.transition, params=params, settings=settings))(states, actions, draws)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_batch_of_steps_is_a_loop_of_steps(scenario):
    env, params, walk = walk_of(scenario)
    first = row((walk.states, walk.actions, walk.draws), slice(16))
    one_by_one = row((walk.next_states, walk.outcomes), slice(16))
    assert_trees_close(transitions(*first, params, env.settings), one_by_one)


def test_a_compiled_step_is_the_uncompiled_one():
    env, params, walk = walk_of("queueing")
    for slot in (0, 100, 200):
        arguments = row((walk.states, walk.actions, walk.draws), slot)
        uncompiled = rules.transition(*arguments, params, env.settings)
        assert_trees_close(uncompiled, row((walk.next_states, walk.outcomes), slot))


def assert_trees_close(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)


TRAJECTORIES = ("oneshot", "fading", "queueing", "queueing, devices differ", "queueing, drawn anew")


def golden_trajectory(scenario):
    """The first eight slots of a walk, rounded."""
    _, _, walk = walk_of(scenario)
    slots = []
    for slot in range(8):
        state, outcome = row((walk.states, walk.outcomes), slot)
        numbers = [outcome.qos, outcome.score, outcome.latency_s, outcome.energy_j, state.battery_j]
        numbers = [round(float(x), 4) for x in (*numbers, *state.observed_snr_db, *state.backlog_s)]
        slots.append([int(state.prompt), int(walk.actions[slot]), int(outcome.arrived), *numbers])
    return slots


@pytest.mark.parametrize("scenario", TRAJECTORIES)
def test_the_trajectory_is_the_committed_one(scenario):
    """After a wanted change of the rules: `python tests/env/test_rules.py`."""
    expected = json.loads(GOLDEN.read_text())[scenario]
    np.testing.assert_allclose(golden_trajectory(scenario), expected, rtol=1e-4, atol=2e-4)


# Actions


def test_actions_are_digits_in_base_one_more_than_replicas():
    choices = device_choices(rules.Settings(num_experts=3, num_replicas=2))
    assert choices.shape == (27, 6)
    assert len(np.unique(choices, axis=0)) == 27
    assert choices[0 + 2 * 3 + 1 * 9].tolist() == [False, False, False, True, True, False]
    one_replica = device_choices(rules.Settings())
    np.testing.assert_array_equal(one_replica @ (1 << np.arange(4)), np.arange(16))


SHAPES = [(12, 1, 2), (12, 1, 1), (4, 1, 3), (4, 2, 2), (5, 3, 3), (3, 2, 1), (4, 2, 4), (2, 1, 9), (1, 1, 1)]


@pytest.mark.parametrize(("experts", "replicas", "limit"), SHAPES)
def test_a_limit_leaves_the_actions_of_few_experts_in_their_order(experts, replicas, limit):
    of = rules.Settings(num_experts=experts, num_replicas=replicas, max_experts=limit)
    every = device_choices(rules.Settings(num_experts=experts, num_replicas=replicas))
    found = device_choices(of)
    np.testing.assert_array_equal(found, every[every.sum(axis=1) <= limit])
    assert found.dtype == every.dtype == bool
    assert len(found) == of.num_actions == len(action_choices(of))


@pytest.mark.parametrize(("experts", "replicas", "limit"), [*SHAPES, (3, 2, None), (64, 2, 2), (20, 8, 1)])
def test_an_action_is_encoded_to_its_number(experts, replicas, limit):
    of = rules.Settings(num_experts=experts, num_replicas=replicas, max_experts=limit)
    choices = jnp.array(action_choices(of), jnp.int32)
    found = jax.jit(jax.vmap(partial(encode_action, settings=of)))(choices)
    np.testing.assert_array_equal(found, np.arange(of.num_actions))


def test_an_assignment_of_too_many_experts_is_no_action():
    of = rules.Settings(num_experts=5, num_replicas=2, max_experts=2)
    for choices in ([1, 2, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 2, 1, 2]):
        assert int(encode_action(jnp.array(choices), of)) == -1


def test_twelve_experts_of_whom_two_are_asked():
    of = rules.Settings(num_experts=12, max_experts=2)
    assert (of.num_actions, rules.Settings(num_experts=12).num_actions) == (79, 4096)
    numbers = device_choices(of) @ (1 << np.arange(12))
    assert numbers.tolist() == [number for number in range(4096) if number.bit_count() <= 2] == subsets(of)


def test_no_list_of_all_assignments_is_made_where_there_is_a_limit():
    """Of these there are up to 9^64, and whoever made them would not come back."""
    for experts, replicas, limit, count in ((20, 1, 1, 21), (12, 3, 2, 631), (64, 8, 1, 513), (64, 1, 2, 2081)):
        of = rules.Settings(num_experts=experts, num_replicas=replicas, max_experts=limit)
        assert device_choices(of).shape == (count, experts * replicas)
        assert of.num_actions == count
        assert len(subsets(of)) == 1 + sum(math.comb(experts, size) for size in range(1, limit + 1))


def test_the_choices_are_made_once_and_nobody_can_change_them():
    of = rules.Settings(max_experts=2)
    assert device_choices(of) is device_choices(rules.Settings(max_experts=2, channel="link_budget"))
    with pytest.raises(ValueError, match="read-only"):
        device_choices(of)[0, 0] = True


def test_a_limited_action_does_what_the_same_assignment_does_without_a_limit():
    env, params, walk = walk_of("queueing")
    few = replace(env.settings, max_experts=2)
    among = [action for action in range(16) if action.bit_count() <= 2]
    states, draws = row((walk.states, walk.draws), slice(40, 40 + len(among)))
    found = transitions(states, jnp.arange(11, dtype=jnp.int32), draws, params, few)
    expected = transitions(states, jnp.array(among, jnp.int32), draws, params, env.settings)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_mask_forbids_exactly_the_actions_that_ask_absent_devices():
    _, _, walk = walk_of("oneshot")
    state = row(walk.states, 0)._replace(available=jnp.array([True, False, True, True]))
    mask = rules.action_mask(state, rules.Settings(num_experts=2, num_replicas=2))
    assert mask.tolist() == [action % 3 != 2 for action in range(9)]  # expert 0 may not run on its replica 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_absent_device_does_as_much_as_one_that_is_not_asked(scenario):
    env, params, walk = walk_of(scenario)
    states, _, draws = row((walk.states, walk.actions, walk.draws), np.full(16, 3))
    states = states._replace(available=jnp.tile(jnp.array([True, False, True, False]), (16, 1)))
    actions = jnp.arange(16, dtype=jnp.int32)
    found = transitions(states, actions, draws, params, env.settings)
    without = transitions(states, actions & 0b0101, draws, params, env.settings)
    jax.tree.map(np.testing.assert_array_equal, found, without)
    assert not np.asarray(found[1].used)[:, [1, 3]].any()


# Randomness


@pytest.fixture(scope="module")
def many_devices():
    env, params = jaxmoe.make("queueing", num_replicas=8)
    return lambda slots, **numbers: random_walk(env, with_numbers(params, numbers), 2, slots)


def test_rician_channel_keeps_its_k_factor_and_mean_gain_for_thousands_of_slots(many_devices):
    k = 3.0
    walk = many_devices(5000, rician_k=k, distance_min_m=5.0, distance_max_m=15.0, slot_s=0.01)
    link = as_numpy(walk.states.link)
    assert link.line_of_sight.all()
    gain = 10.0 ** ((as_numpy(walk.states.snr_db) - link.mean_snr_db - 4.0 * link.shadowing) / 10.0)
    lag_one = np.mean(link.scattered[1:] * link.scattered[:-1].conj()).real / np.mean(np.abs(link.scattered) ** 2)
    assert 0.2 < lag_one < 0.9  # slots so short that the fades hang together
    for window in (slice(0, 2000), slice(-2000, None)):
        mean = gain[window].mean()
        assert mean == pytest.approx(1.0, abs=0.03)
        assert np.mean(np.abs(link.scattered[window]) ** 2) == pytest.approx(1.0, abs=0.03)
        direct = math.sqrt(2.0 * mean**2 - np.mean(gain[window] ** 2))  # by the first two moments of the power
        assert direct / (mean - direct) == pytest.approx(k, rel=0.08)


def test_shadowing_keeps_its_variance_and_moves_with_the_user(many_devices):
    link = as_numpy(many_devices(5000, speed_m_per_s=1.25, slot_s=4.0, distance_max_m=150.0).states.link)
    sight = link.line_of_sight[0]
    assert 8 <= sight.sum() <= 24
    assert link.shadowing.var() == pytest.approx(1.0, abs=0.05)
    for line_of_sight, decorrelation_m in ((True, 10.0), (False, 13.0)):
        paths = link.shadowing[:, sight == line_of_sight]
        lag_one = np.mean(paths[1:] * paths[:-1]) / np.mean(paths**2)
        assert lag_one == pytest.approx(math.exp(-5.0 / decorrelation_m), abs=0.02)


def test_draws_have_the_distributions_that_they_claim(many_devices):
    draws = as_numpy(many_devices(5000).draws)
    for uniform in (draws.available, draws.background, draws.place):
        assert 0.0 < uniform.min() < 1e-3
        assert 1.0 - 1e-3 < uniform.max() < 1.0
        assert np.quantile(uniform, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
    for normal in (draws.channel, draws.shadowing):
        assert normal.mean() == pytest.approx(0.0, abs=0.01)
        assert normal.var() == pytest.approx(1.0, abs=0.02)
        assert np.mean(normal**4) == pytest.approx(3.0, abs=0.15)
    assert draws.judge.mean() == pytest.approx(0.0, abs=0.05)
    assert draws.judge.var() == pytest.approx(1.0, abs=0.08)


def test_a_uniform_number_of_zero_is_a_long_job_and_not_an_endless_one(monkeypatch):
    env, params = jaxmoe.make("queueing")
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.zeros(shape))  # noqa: ARG005
    draws = rules.draw(jax.random.key(0), env.settings)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(draws))
    longest = rules.background_s(draws.background, params) / params.background_mean_s
    np.testing.assert_allclose(longest, -math.log(2.0**-24 / params.background_probability), rtol=1e-5)


def test_background_jobs_come_with_their_probability_and_mean():
    _, params = jaxmoe.make("queueing")
    uniforms = jax.random.uniform(jax.random.key(3), (200_000,), minval=1e-30)
    jobs_s = np.asarray(rules.background_s(uniforms, params), np.float64)
    assert np.mean(jobs_s > 0.0) == pytest.approx(0.25, abs=0.005)
    assert jobs_s[jobs_s > 0.0].mean() == pytest.approx(3.0, rel=0.02)
    assert jobs_s[jobs_s > 0.0].std() == pytest.approx(3.0, rel=0.03)  # exponential
    assert not np.any(rules.background_s(uniforms, params.replace(background_probability=0.0)))


@pytest.mark.parametrize(("split", "prompts"), SPLIT_PROMPTS)
def test_requests_are_drawn_from_the_split_alone_and_evenly(split, prompts):
    env, params = jaxmoe.make("oneshot", split=split)
    drawn = np.asarray(random_walk(env, params, 4, SLOTS).states.prompt)
    assert set(drawn) == set(prompts)
    np.testing.assert_allclose(np.bincount(drawn)[list(prompts)] / SLOTS, 1 / len(prompts), rtol=0.5)


# Properties


@pytest.fixture(scope="module")
def queueing():
    env, params = jaxmoe.make("queueing", csi_delay=1)

    def slots(seed, action, params):
        """Twelve slots under one action."""
        draws = many_draws(seed, 12, env.settings)
        walk = walk_along(env, params, draws, jnp.full(12, action, jnp.int32))
        return walk.states, walk.outcomes, walk.next_states

    return slots, params.replace(energy_weight=0.01, device_up_probability=0.8)


@properties()
@given(seed=seeds, action=actions, dearer=st.floats(1.01, 10.0))
def test_dearer_airtime_lowers_qos_and_changes_nothing_else(queueing, seed, action, dearer):
    slots, params = queueing
    dear = params.replace(transmission_coefficient=params.transmission_coefficient * dearer)
    states, outcomes, _ = slots(seed, action, params)
    dear_states, dear_outcomes, _ = slots(seed, action, dear)
    sends = np.asarray(outcomes.used).any(axis=1)
    assert np.all(np.asarray(dear_outcomes.qos)[sends] < np.asarray(outcomes.qos)[sends])
    np.testing.assert_allclose(dear_outcomes.qos[~sends], outcomes.qos[~sends], atol=1e-6)
    np.testing.assert_array_equal(outcomes.arrived, dear_outcomes.arrived)
    np.testing.assert_array_equal(states.backlog_s, dear_states.backlog_s)


@properties()
@given(seed=seeds, action=actions, deadline_s=st.floats(0.0, 30.0), min_rate_bps=st.floats(0.0, 20_000.0))
def test_only_experts_that_were_asked_arrive(queueing, seed, action, deadline_s, min_rate_bps):
    slots, params = queueing
    _, outcomes, _ = slots(seed, action, with_numbers(params, {"deadline_s": deadline_s, "min_rate_bps": min_rate_bps}))
    used = np.asarray(outcomes.used) @ (1 << np.arange(4))
    arrived = np.asarray(outcomes.arrived)
    assert np.all(used & ~action == 0)
    assert np.all(arrived & ~used == 0)


@properties()
@given(seed=seeds, action=actions, capacity_j=st.floats(0.5, 60.0), harvest_w=st.floats(0.0, 5.0))
def test_the_battery_never_owes_and_never_overflows(queueing, seed, action, capacity_j, harvest_w):
    slots, params = queueing
    params = with_numbers(params, {"battery_capacity_j": capacity_j, "harvest_w": harvest_w})
    states, outcomes, next_states = slots(seed, action, params)
    assert np.all(np.asarray(next_states.battery_j) >= 0.0)
    assert np.all(np.asarray(next_states.battery_j) <= np.float32(capacity_j))
    assert np.all(np.asarray(outcomes.energy_j) <= np.asarray(states.battery_j))


@properties()
@given(seed=seeds, action=actions, slot_s=st.floats(0.5, 20.0), probability=st.floats(0.0, 1.0))
def test_the_backlog_is_never_negative_and_falls_by_one_slot_at_most(queueing, seed, action, slot_s, probability):
    slots, params = queueing
    params = with_numbers(params, {"slot_s": slot_s, "background_probability": probability})
    states, outcomes, next_states = slots(seed, action, params)
    before_s = np.asarray(states.backlog_s) + np.asarray(outcomes.compute_s)
    assert np.all(np.asarray(next_states.backlog_s) >= 0.0)
    assert np.all(np.asarray(next_states.backlog_s) >= before_s - slot_s - 1e-4)


@properties()
@given(seed=seeds, action=actions)
def test_delayed_channel_knowledge_is_the_channel_of_the_last_slot(queueing, seed, action):
    slots, params = queueing
    states, _, next_states = slots(seed, action, params)
    np.testing.assert_array_equal(next_states.observed_snr_db, states.snr_db)
    np.testing.assert_array_equal(states.observed_snr_db[0], states.snr_db[0])  # probed as the episode began
    assert np.all(np.asarray(next_states.observed_snr_db) != np.asarray(next_states.snr_db))


@properties()
@given(seed=seeds, action=actions)
def test_an_expected_score_is_the_mean_over_the_judges_draws(queueing, seed, action):
    slots, params = queueing
    _, noisy, _ = slots(seed, action, params)
    states, expected, _ = slots(seed, action, params.replace(judge_noise=0.0))
    table = params.table
    mean = table.score_mean[states.prompt, expected.arrived]
    std = table.score_std[states.prompt, expected.arrived]
    np.testing.assert_allclose(expected.score, mean, atol=1e-6)
    assert np.all(np.abs(np.asarray(noisy.score - mean)) <= 6.0 * np.asarray(std) + 1e-5)


if __name__ == "__main__":
    lines = [f'"{name}": {json.dumps(golden_trajectory(name))}' for name in TRAJECTORIES]
    GOLDEN.write_text("{\n" + ",\n".join(lines).replace("], [", "],\n [") + "\n}\n")
