"""The loader: what it refuses, what it says, and that it needs nothing but NumPy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from trained_cases import case

import jaxmoe
from jaxmoe.errors import InputError

SITUATION = {"relevance": [0.1, 0.9, 0.6, 0.0], "snr_db": [12.0, 3.0, 18.0, 7.0]}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case("ppo").write(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(path):
    return jaxmoe.load_policy(path)


def test_file_contract_and_folder_all_name_the_policy(path):
    for name in (path, str(path), path.with_suffix(".json"), path.parent):
        assert jaxmoe.load_policy(name).contract == case("ppo").contract


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "swish"])
def test_outputs_are_those_of_the_network(tmp_path, activation):
    agent = case("ppo", activation=activation, iterations=0)
    policy = jaxmoe.load_policy(agent.write(tmp_path))
    observations = agent.observations(100)
    np.testing.assert_allclose(policy.preferences(observations), agent.preferences(observations), atol=1e-5)


def test_one_observation_and_several_give_the_same_actions(policy):
    observations = case("ppo").observations(50)
    together = policy.act(observations)
    assert together.shape == (50,)
    assert [policy.act(row) for row in observations] == together.tolist()
    assert policy.act(observations.astype(float).tolist()[0]) == together[0]
    np.testing.assert_array_equal(policy.act(observations.reshape(5, 10, -1)).reshape(-1), together)
    np.testing.assert_allclose(policy.probabilities(observations).sum(axis=1), 1.0)


def test_many_observations_are_decided_on_part_by_part(policy):
    observations = case("ppo").observations(2500)
    actions = policy.act(observations.reshape(2, 1250, -1))
    assert actions.shape == (2, 1250)
    np.testing.assert_array_equal(actions[1], policy.act(observations[1250:]))
    assert policy.act(observations[:0]).shape == (0,)


def test_a_situation_is_the_observation_that_the_environment_makes_of_it(policy):
    agent = case("ppo")
    observation = agent.observations(1)[0]
    said = {"relevance": observation[:4], "snr_db": observation[8:12] * 20}
    np.testing.assert_allclose(policy.observation(**said), observation, rtol=1e-6)
    decision = policy.select(**said)
    assert decision.action == policy.act(observation)
    assert decision[:4] == (decision.choices[decision.action][:1] + decision.choices[decision.action][1:4])
    np.testing.assert_allclose(
        [choice.value for choice in decision.choices], policy.preferences(observation), atol=1e-5
    )
    assert sum(choice.probability for choice in decision.choices) == pytest.approx(1)


def test_each_choice_says_whom_it_asks(policy):
    choices = policy.select(**SITUATION).choices
    assert [choice.subset for choice in choices] == list(range(16))
    assert choices[0].experts == ()
    assert choices[6].experts == ("character", "action")
    assert choices[6].replicas == (0, 0)


def test_replicas_and_devices_that_are_not_available(tmp_path):
    policy = jaxmoe.load_policy(case("dqn", settings=(("num_replicas", 2),), iterations=0).write(tmp_path))
    snr_db = np.arange(8.0)
    decision = policy.select(relevance=SITUATION["relevance"], snr_db=snr_db)
    shaped = policy.select(relevance=SITUATION["relevance"], snr_db=snr_db.reshape(4, 2))
    assert decision == shaped
    assert decision.choices[0].probability is None
    both = decision.choices[1 + 2 * 3]
    assert (both.experts, both.replicas, both.subset) == (("setting", "character"), (0, 1), 3)
    absent = policy.select(relevance=SITUATION["relevance"], snr_db=snr_db, available=[1, 1, 1, 0, 1, 1, 1, 1])
    assert absent.choices[1 + 2 * 3][:4] == both[:4]
    assert (both.legal, absent.choices[1 + 2 * 3].legal) == (True, False)
    with pytest.raises(InputError, match="action values and no probabilities"):
        policy.probabilities(policy.observation(relevance=SITUATION["relevance"], snr_db=snr_db))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"snr_db": None}, r"snr_db \(4 numbers, dB, one per device\) is missing"),
        ({"snr_db": [1, 2, 3]}, r"snr_db .* has shape \[3\], which must be \(4,\) or \(4, 1\)"),
        ({"snr_db": [1, 2, 3, np.nan]}, "snr_db .* infinite or not a number"),
        ({"snr_db": [1, 2, 3, 1e300]}, "snr_db .* infinite or not a number"),
        ({"snr_db": ["a", "b", "c", "d"]}, "snr_db .* is not an array of numbers"),
        ({"snr_db": [[1], [2, 3]]}, "snr_db .* is not a regular array of numbers"),
        ({"relevance": [0.1, 0.2, 1.2, 0.4]}, "relevance .* holds a number above 1"),
        ({"backlog_s": [0, 0, -1, 0]}, "backlog_s .* holds a number below 0"),
        ({"battery_j": [1, 2]}, r"battery_j .* has shape \[2\]"),
        ({"snr": [1, 2, 3, 4]}, "unknown quantity 'snr'; the policy observes relevance, words_hat, snr_db"),
    ],
)
def test_a_wrong_situation_is_refused(policy, changes, message):
    said = {name: value for name, value in (SITUATION | changes).items() if value is not None}
    with pytest.raises(InputError, match=message):
        policy.select(**said)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(20), r"shape \[20\] does not fit: its last axis must be 21 long"),
        (np.float32(1), r"shape \[\] does not fit"),
        (np.full(21, np.inf), "infinite or not a number"),
        (np.zeros(21, complex), "not an array of numbers"),
        (None, "not an array of numbers"),
    ],
)
def test_a_wrong_observation_is_refused(policy, observation, message):
    with pytest.raises(InputError, match=message):
        policy.act(observation)


@given(observation=arrays(np.float64, 21))
def test_any_observation_has_an_action_or_is_refused(policy, observation):
    try:
        assert 0 <= policy.act(observation) < 16
    except InputError:
        assert not np.abs(observation).max() < 1e30


@given(relevance=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), snr_db=arrays(np.float32, 4))
def test_any_situation_has_a_decision_or_is_refused(policy, relevance, snr_db):
    try:
        decision = policy.select(relevance=relevance, snr_db=snr_db)
    except InputError:
        assert not np.abs(snr_db).max() < 1e30
    else:
        assert decision.action == max(decision.choices, key=lambda choice: choice.value).action


def test_the_loader_needs_numpy_alone(path, tmp_path):
    numpy = Path(np.__file__).parent
    for library in (numpy, numpy.with_name("numpy.libs"), Path(jaxmoe.__file__).parent):
        if library.exists():
            (tmp_path / library.name).symlink_to(library)
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import jaxmoe
policy = jaxmoe.load_policy({str(path)!r})
print(policy.select(relevance={SITUATION["relevance"]}, snr_db={SITUATION["snr_db"]}).action)
print(sorted({{"jax", "flax", "pandas", "safetensors", "pydantic"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(jaxmoe.load_policy(path).select(**SITUATION).action), "[]"], done.stderr


def test_a_dueling_policy_is_an_ordinary_network_outside(tmp_path):
    agent = case("dqn", head="dueling", iterations=3)
    policy = jaxmoe.load_policy(agent.write(tmp_path))
    assert policy.contract.config["head"] == "dueling"
    observations = agent.observations(50)
    np.testing.assert_allclose(policy.preferences(observations), agent.preferences(observations), atol=1e-4)
