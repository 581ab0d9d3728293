"""The Gymnasium wrapper passes Gymnasium's own checks, and plays the episodes that its seed says."""

import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import jaxmoe
from jaxmoe.env import gymnasium_wrapper
from jaxmoe.env.gymnasium_wrapper import EdgeExpertsGymnasium, EdgeExpertsVector

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make(scenario="queueing", seed=None, **numbers):
    env, params = jaxmoe.make(scenario)
    return EdgeExpertsGymnasium(env, params.replace(**numbers), seed)


def test_a_limit_of_experts_leaves_fewer_actions():
    env, params = jaxmoe.make("queueing", num_replicas=2, max_experts=1)
    one, several = EdgeExpertsGymnasium(env, params, 0), EdgeExpertsVector(env, params, 3, 0)
    assert (one.action_space.n, several.single_action_space.n) == (9, 9)
    _, info = one.reset(seed=1)
    assert info["action_mask"].shape == (9,)
    assert int(one.step(8)[4]["used"].sum()) == 1
    with pytest.raises(ValueError, match="action 9 is not one of 0 to 8"):
        one.step(9)


def play(env, slots, seed=None):
    """Observations, rewards and masks of an episode."""
    observation, info = env.reset(seed=seed)
    history = [(observation, 0.0, info["action_mask"])]
    for time in range(slots):
        observation, reward, _, _, info = env.step(time % 16)
        history.append((observation, reward, info["action_mask"]))
    return history


def equal(one, another):
    return all(np.array_equal(a, b) for pair in zip(one, another, strict=True) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("scenario", ["oneshot", "queueing"])
def test_it_passes_the_checks_of_gymnasium_without_a_warning(scenario):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(scenario), skip_render_check=True)


def test_it_passes_the_checks_when_gymnasium_makes_it():
    env, params = jaxmoe.make("oneshot")
    gymnasium.register("EdgeExperts-v0", EdgeExpertsGymnasium, kwargs={"env": env, "params": params})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make("EdgeExperts-v0").unwrapped)
    finally:
        del gymnasium.registry["EdgeExperts-v0"]


def test_spaces_are_those_of_the_environment():
    env = make()
    assert env.action_space == gymnasium.spaces.Discrete(16)
    assert env.observation_space.shape == (21,)
    assert env.observation_space.dtype == np.float32
    assert all(observation in env.observation_space for observation, _, _ in play(env, 60))


def test_the_same_seed_plays_the_same_episode():
    assert equal(play(make(), 10, seed=3), play(make(), 10, seed=3))
    assert not equal(play(make(), 10, seed=3), play(make(), 10, seed=4))
    assert equal(play(make(seed=3), 10), play(make(), 10, seed=3))


def test_a_reset_without_seed_goes_on_to_another_episode():
    env = make(seed=5)
    first, second = play(env, 5), play(env, 5)
    assert not equal(first, second)
    again = make(seed=5)
    assert equal(first, play(again, 5))
    assert equal(second, play(again, 5))


def test_what_it_returns_is_plain():
    env = make(device_up_probability=0.5)
    observation, info = env.reset(seed=0)
    assert type(observation) is np.ndarray
    assert list(info) == ["action_mask"]
    observation, reward, terminated, truncated, info = env.step(np.int64(7))
    assert [type(value) for value in (observation, reward, terminated, truncated)] == [np.ndarray, float, bool, bool]
    assert {type(value) for value in info.values()} == {float, int, np.ndarray}
    assert reward == info["qos"]
    assert type(info["arrived"]) is int


def test_the_mask_allows_what_the_observed_devices_can_do():
    env = make(device_up_probability=0.5)
    for observation, _, mask in play(env, 20, seed=1):
        absent = int(np.sum((1 - observation[-4:]) * [1, 2, 4, 8]))
        assert mask.dtype == np.int8
        np.testing.assert_array_equal(mask, np.arange(16) & absent == 0)
        assert mask[env.action_space.sample(mask)] == 1


def test_episodes_end_as_their_scenario_says():
    env = make("oneshot")
    env.reset(seed=0)
    assert env.step(3)[2:4] == (True, False)
    env = make(max_steps_in_episode=3)
    env.reset(seed=0)
    assert [env.step(3)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_a_step_is_that_of_the_environment():
    env, params = jaxmoe.make("queueing")
    wrapped = EdgeExpertsGymnasium(env, params, seed=6)
    observation, _ = wrapped.reset()
    np.testing.assert_allclose(observation, env.observe(wrapped._key, wrapped._state, None, params), rtol=1e-6)
    key_slot = jax.random.split(wrapped._key)[1]
    expected = jax.jit(env.step_env)(key_slot, wrapped._state, jnp.int32(9), params)
    observation, reward, *_, info = wrapped.step(9)
    np.testing.assert_allclose(observation, expected[0], rtol=1e-5)
    assert reward == pytest.approx(float(expected[2]), abs=1e-6)
    assert info["latency_s"] == pytest.approx(float(expected[4]["latency_s"]), rel=1e-5)


def test_two_with_equal_settings_share_a_program():
    one, another = make(latency_weight=0.01), make(latency_weight=0.5)
    play(one, 2, seed=0)
    compiled = gymnasium_wrapper._step._cache_size()
    play(another, 2, seed=0)
    assert gymnasium_wrapper._step._cache_size() == compiled


@pytest.mark.parametrize("action", [-1, 16, 2.5, None])
def test_an_action_that_is_none_is_refused(action):
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is not one of 0 to 15"):
        env.step(action)


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(ValueError, match="call reset first"):
        make().step(0)


# Many at once


def many(scenario="queueing", num_envs=3, seed=None, **numbers):
    env, params = jaxmoe.make(scenario)
    return EdgeExpertsVector(env, params.replace(**numbers), num_envs, seed)


def test_many_are_as_many_single_ones_with_keys_of_their_own():
    vector = many(device_up_probability=0.5)
    observations, info = vector.reset(seed=2)
    assert observations in vector.observation_space
    one = make(device_up_probability=0.5)
    one.reset()
    for number in range(3):
        one._key, one._state = vector._keys[number], jax.tree.map(lambda leaf, at=number: leaf[at], vector._state)
        if number == 2:
            break
        assert not np.array_equal(observations[number], observations[number + 1])
    for actions in ([1, 5, 3], [0, 2, 15], [7, 7, 7]):
        observations, rewards, terminated, truncated, info = vector.step(np.array(actions))
        observation, reward, _, _, own = one.step(actions[2])
        np.testing.assert_allclose(observations[2], observation, rtol=1e-5)
        assert rewards[2] == pytest.approx(reward, abs=1e-6)
        assert not (terminated | truncated).any()
        np.testing.assert_array_equal(info["action_mask"][2], own["action_mask"])
        assert info["latency_s"][2] == pytest.approx(own["latency_s"], rel=1e-5)
        assert info["_latency_s"].all()


def test_after_the_end_of_an_episode_the_next_step_begins_another():
    vector = many("oneshot", seed=0)
    vector.reset()
    ended = vector.step(np.array([1, 2, 3]))
    begun = vector.step(np.array([15, 15, 15]))
    assert ended[2].all()
    assert not (begun[2] | begun[3]).any()
    assert not begun[1].any()
    assert not begun[4]["_qos"].any()
    assert begun[4]["_action_mask"].all()
    assert not np.array_equal(ended[0], begun[0])
    assert vector.step(np.array([1, 2, 3]))[2].all()


def test_many_with_the_same_seed_play_the_same_episodes():
    one, another, other = many(seed=1), many(), many(seed=2)
    first = one.reset()[0]
    np.testing.assert_array_equal(first, another.reset(seed=1)[0])
    assert not np.array_equal(first, other.reset()[0])


@pytest.mark.parametrize("actions", [[0, 1], [0, 1, 16], [0.0, 1.0, 2.0]])
def test_actions_that_are_none_are_refused(actions):
    vector = many()
    with pytest.raises(ValueError, match="call reset first"):
        vector.step(np.array(actions))
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="are not 3 of 0 to 15"):
        vector.step(np.array(actions))
