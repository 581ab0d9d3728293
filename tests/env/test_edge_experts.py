"""The gymnax adapter: what a step returns, how episodes end, and what is compiled and copied."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.environment import Environment

import jaxmoe
from jaxmoe.env.actions import device_choices, encode_action
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.rules import Settings
from jaxmoe.env.scenarios import NUMBERS, SCENARIOS, with_numbers

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONTINUING = ["fading", "queueing"]


def episode(env, params, slots, seed=0):
    """What `step` returns in each slot, from one reset on."""
    observation, state = env.reset(jax.random.key(seed), params)
    steps = []
    for time in range(slots):
        action = jnp.int32((7 * time + 3) % env.num_actions)
        before = observation, state
        observation, state, *rest = env.step(jax.random.key(1000 * seed + time), state, action, params)
        steps.append((before, (observation, state), *rest))
    return steps


assert_close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


# Episodes


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_step_is_that_of_gymnax_and_may_be_given_what_it_draws(scenario):
    env, params = jaxmoe.make(scenario, params={"max_steps_in_episode": 2})
    _, state = env.reset(jax.random.key(0), params)
    for slot in range(4):
        key, action = jax.random.key(slot), jnp.int32(5)
        found, drawn, expected = (
            env.step(key, state, action, params),
            jax.jit(env.step_drawn)(env.draw(key), state, action, params),
            Environment.step(env, key, state, action, params),
        )
        for other in (drawn, expected):
            jax.tree.map(assert_close, found, other)
        state = found[1]


def test_a_step_returns_six_values():
    env, params = jaxmoe.make("oneshot")
    observation, state = env.reset(jax.random.key(0), params)
    step = env.step(jax.random.key(1), state, jnp.int32(3), params)
    next_observation, next_state, reward, terminated, truncated, info = step
    assert next_observation.shape == observation.shape == (env.observation_size,)
    assert next_observation.dtype == reward.dtype == jnp.float32
    assert reward.shape == terminated.shape == truncated.shape == ()
    assert terminated.dtype == truncated.dtype == jnp.bool_
    assert jax.tree.map(jnp.shape, next_state) == jax.tree.map(jnp.shape, state)
    assert {"qos", "score", "arrived", "used", "prompt", "discount", "final_observation"} < set(info)
    assert env.observation_space(params).contains(np.asarray(observation))


def test_oneshot_terminates_after_its_slot_and_is_never_truncated():
    env, params = jaxmoe.make("oneshot")
    params = params.replace(max_steps_in_episode=1)
    for _, (_, state), _, terminated, truncated, info in episode(env, params, 5):
        assert terminated
        assert not truncated
        assert info["discount"] == 0.0
        assert state.time == 0  # a new episode has begun


@pytest.mark.parametrize("scenario", CONTINUING)
def test_a_continuing_task_is_truncated_at_its_time_limit_and_never_terminates(scenario):
    env, params = jaxmoe.make(scenario)
    steps = episode(env, params.replace(max_steps_in_episode=3), 9)
    assert [bool(truncated) for _, _, _, _, truncated, _ in steps] == [False, False, True] * 3
    assert [int(state.time) for _, (_, state), *_ in steps] == [1, 2, 0] * 3
    assert not any(terminated for _, _, _, terminated, _, _ in steps)
    assert all(info["discount"] == 1.0 for *_, info in steps)


def test_the_final_observation_is_that_of_the_state_before_the_reset():
    env, params = jaxmoe.make("queueing")
    params = params.replace(max_steps_in_episode=3)
    step_env = jax.jit(env.step_env)
    for time, step in enumerate(episode(env, params, 6)):
        (_, state), (observation, next_state), _, _, truncated, info = step
        key_step, _ = jax.random.split(jax.random.key(time))
        final_observation, final_state, *_ = step_env(key_step, state, jnp.int32((7 * time + 3) % 16), params)
        assert final_state.time == state.time + 1
        assert_close(info["final_observation"], final_observation)
        assert_close(observation, env.observe(jax.random.key(0), next_state, None, params))
        assert np.allclose(observation, info["final_observation"]) == (not truncated)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_reward_is_the_qos_formula_of_the_info(scenario):
    env, params = jaxmoe.make(scenario)
    params = params.replace(energy_weight=0.01, joules_per_word=0.02, max_steps_in_episode=3)
    for (_, state), _, reward, _, _, info in episode(env, params, 8):
        cost = info["computing_cost"] + info["transmission_cost"]
        cost += params.latency_weight * info["latency_s"] + params.energy_weight * info["energy_j"]
        assert float(reward) == pytest.approx(float(info["score"] / 10.0 - cost), abs=1e-6)
        assert reward == info["qos"]
        assert info["prompt"] == state.prompt


# Spaces


@pytest.mark.parametrize(("num_replicas", "observe_words"), [(1, "mean"), (2, "true")])
def test_the_observation_has_the_documented_layout(num_replicas, observe_words):
    env, params = jaxmoe.make("queueing", num_replicas=num_replicas, observe_words=observe_words)
    devices = 4 * num_replicas
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), env.state_space(params))
    state = empty._replace(
        prompt=jnp.int32(27),
        observed_snr_db=jnp.arange(devices, dtype=jnp.float32),
        snr_db=jnp.full(devices, 99.0),
        backlog_s=jnp.arange(devices, dtype=jnp.float32) / 2.0,
        battery_j=jnp.float32(25.0),
        available=jnp.arange(devices) % 3 == 0,
    )
    table = jaxmoe.load_table()
    words = table.words[state.prompt] if observe_words == "true" else table.words[:16].mean(axis=0)
    expected = np.concatenate(
        [
            table.relevance[state.prompt],
            words / 100.0,
            np.arange(devices) / 20.0,
            np.arange(devices) / 2.0 / params.slot_s,
            [0.25],
            np.arange(devices) % 3 == 0,
        ]
    )
    observation = env.observe(jax.random.key(3), state, None, params)
    assert observation.shape == (env.observation_size,) == (8 + 3 * devices + 1,)
    np.testing.assert_allclose(observation, expected, rtol=1e-6)


@pytest.mark.parametrize(("num_replicas", "num_actions"), [(1, 16), (2, 81), (3, 256)])
def test_every_assignment_is_one_action(num_replicas, num_actions):
    env, params = jaxmoe.make("oneshot", num_replicas=num_replicas)
    assert env.num_actions == env.action_space(params).n == num_actions
    chosen = device_choices(env.settings).reshape(num_actions, 4, num_replicas)
    choices = np.where(chosen.any(axis=2), 1 + chosen.argmax(axis=2), 0)
    encoded = jax.vmap(partial(encode_action, settings=env.settings))(jnp.asarray(choices))
    np.testing.assert_array_equal(encoded, np.arange(num_actions))


def test_the_action_mask_is_that_of_the_available_devices():
    env, params = jaxmoe.make("oneshot")
    _, state = env.reset(jax.random.key(4), params)
    assert env.action_mask(state, params).all()
    state = state._replace(available=jnp.array([True, True, False, True]))
    np.testing.assert_array_equal(env.action_mask(state, params), np.arange(16) & 0b0100 == 0)


def test_there_are_no_default_parameters_and_the_error_says_where_they_come_from():
    with pytest.raises(ValueError, match=r"jaxmoe\.make"):
        _ = EdgeExperts(Settings()).default_params


def test_the_state_space_is_that_of_a_state():
    env, params = jaxmoe.make("queueing")
    _, state = env.reset(jax.random.key(5), params)
    space = env.state_space(params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), space) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


# What is compiled


def test_environments_with_equal_settings_are_equal():
    one, another = jaxmoe.make("queueing")[0], jaxmoe.make("queueing")[0]
    assert one == another
    assert hash(one) == hash(another)
    assert one != jaxmoe.make("queueing", csi_delay=0)[0]
    assert one != one.settings
    assert repr(one.settings) in repr(one)


def test_a_program_is_compiled_once_for_all_numbers_splits_and_tables_of_equal_shape():
    traces = 0

    @partial(jax.jit, static_argnums=0)
    def reset(env, key, params):
        nonlocal traces
        traces += 1
        return env.reset_env(key, params)

    table = jaxmoe.load_table()
    observations = []
    for split, numbers in (
        ("train", {}),
        ("train", {"snr_max_db": 5, "max_steps_in_episode": 7}),
        ("test", {"snr_max_db": 5.0, "deadline_s": 2.5, "latency_weight": 0.5}),
        ("all", {"snr_min_db": -3.0}),
    ):
        env, params = jaxmoe.make("oneshot", table, split)
        observations.append(reset(env, jax.random.key(6), with_numbers(params, numbers))[0])
    assert traces == 1
    assert len({observation.tobytes() for observation in map(np.asarray, observations)}) == 4


# What is copied


def batched_step(env):
    return jax.vmap(env.step_env, in_axes=(0, 0, 0, None))


def batch_of(env, params, agents):
    """Shapes of the arguments of `agents` agents that share their parameters."""
    keys = jax.random.split(jax.random.key(7), agents)
    states = jax.eval_shape(jax.vmap(lambda key: env.reset_env(key, params)[1]), keys)
    return keys, states, jax.ShapeDtypeStruct((agents,), jnp.int32), params


def test_the_shared_table_is_not_copied_per_agent():
    env, params = jaxmoe.make("oneshot")
    agents = 1024
    arguments = batch_of(env, params, agents)
    table_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params.table))
    others_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(arguments[1:3])) + 8 * agents
    memory = jax.jit(batched_step(env)).lower(*arguments).compile().memory_analysis()
    assert memory.argument_size_in_bytes - others_bytes < 2 * table_bytes
    assert memory.temp_size_in_bytes < 0.5 * agents * table_bytes


def test_no_intermediate_array_holds_one_table_per_agent():
    env, params = jaxmoe.make("queueing")
    agents = 37
    jaxpr = jax.make_jaxpr(batched_step(env))(*batch_of(env, params, agents))
    tables = {leaf.shape for leaf in jax.tree.leaves(params.table)}
    shapes = {variable.aval.shape for variable in all_variables(jaxpr.jaxpr)}
    assert (agents, 4) in shapes
    assert not {(agents, *table) for table in tables} & shapes
    assert not any(np.shape(constant) in tables for constant in jaxpr.consts)


def all_variables(jaxpr):
    """Results of every equation, those of inner programs as well."""
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from all_variables(inner)


# Every number is a leaf


ALWAYS = {"energy_weight": 0.01, "deadline_s": 15.0, "battery_capacity_j": 12.0}  # so that every number matters
CHANGED = {
    "max_steps_in_episode": 4,
    "device_up_probability": 0.5,
    "deadline_s": 5.0,
    "background_probability": 0.9,
    "battery_capacity_j": 7.0,
    "min_rate_bps": 9000.0,
}
RADIO = {"tx_power_dbm", "noise_figure_db", "interference_margin_db", "carrier_ghz", "distance_min_m"}
RADIO |= {"distance_max_m", "bs_height_m", "ut_height_m", "speed_m_per_s", "rician_k"}


@pytest.mark.parametrize(("channel", "idle"), [("uniform", RADIO), ("link_budget", {"snr_min_db", "snr_max_db"})])
def test_every_number_may_differ_from_agent_to_agent(channel, idle):
    """Agent 0 has the scenario's numbers, and each other agent one number of its own; they do not touch each other."""
    env, params = jaxmoe.make("queueing", channel=channel)
    params = with_numbers(params, ALWAYS)
    changed = {name: CHANGED.get(name, 1.5 * getattr(params, name) + 0.01) for name in NUMBERS}
    agents = [params, *(with_numbers(params, {name: value}) for name, value in changed.items())]
    shared = dict.fromkeys(("table", "prompts", "num_prompts", "words_hat"))
    axes = dataclasses.replace(params, **dict.fromkeys(NUMBERS, 0), **shared)

    def history(key, params):
        """Twelve slots: three experts, then the user's own device, in turn."""

        def slot(state, inputs):
            key, action = inputs
            observation, state, qos, _, info = env.step_env(key, state, action, params)
            return state, (observation, qos, info["energy_j"], env.is_truncated(state, params))

        keys = jax.random.split(key, 13)
        actions = jnp.tile(jnp.array([0b0111, 0], jnp.int32), 6)
        return jax.lax.scan(slot, env.reset_env(keys[0], params)[1], (keys[1:], actions))[1]

    histories = jax.jit(jax.vmap(history, in_axes=(None, axes)))

    def together(agents):
        columns = {name: jnp.array([getattr(agent, name) for agent in agents]) for name in NUMBERS}
        return [np.asarray(leaf) for leaf in histories(jax.random.key(8), params.replace(**columns))]

    found, reversed_order = together(agents), together(agents[::-1])
    for leaf, reversed_leaf in zip(found, reversed_order, strict=True):
        np.testing.assert_allclose(leaf, reversed_leaf[::-1], rtol=1e-5, atol=1e-5)
    differ = [any(not np.array_equal(leaf[agent], leaf[0]) for leaf in found) for agent in range(1, len(agents))]
    assert {name for name, differs in zip(NUMBERS, differ, strict=True) if differs} == set(NUMBERS) - idle
