"""Gymnasium makes every scenario by its id, one or many at once."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import jaxmoe.gymnasium
from jaxmoe.env.gymnasium_wrapper import EdgeExpertsGymnasium, EdgeExpertsVector, make_many, make_one
from jaxmoe.env.scenarios import SCENARIOS
from jaxmoe.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_scenario_has_an_id():
    ours = ("oneshot", "fading", "queueing")  # another test may have registered its own
    assert {scenario: f"jaxmoe/{scenario}-v0" for scenario in ours}.items() <= jaxmoe.gymnasium.IDS.items()
    assert set(jaxmoe.gymnasium.IDS.values()) <= set(gymnasium.registry)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gymnasium_makes_one(scenario):
    env = gymnasium.make(f"jaxmoe/{scenario}-v0")
    observation, _ = env.reset(seed=0)
    env.step(env.action_space.sample())
    assert isinstance(env.unwrapped, EdgeExpertsGymnasium)
    assert observation in env.observation_space


def test_a_network_that_is_drawn_anew_and_fails_is_made(tmp_path):
    path = tmp_path / "gym_net.toml"
    path.write_text("scenario = 'queueing'\n[params]\nmax_steps_in_episode = 2\ndevice_up_probability = 0.5\n")
    params = {"tx_power_dbm": {"each_episode": {"uniform": [-5.0, 5.0]}}, "seconds_per_word": [0.01, 0.02, 0.03, 0.04]}
    env = make_one(path, params=params, seed=1)
    assert env.observation_names[-1] == "tx_power_dbm[3]"
    drawn = set()
    for _ in range(3):
        observation, info = env.reset()
        drawn.add(float(observation[-1]))
        for _ in range(2):
            action = env.action_space.sample(info["action_mask"])
            observation, _, _, _, info = env.step(action)
            assert observation in env.observation_space
            assert float(observation[-1]) in drawn  # what was drawn stays for the episode
    assert len(drawn) == 3
    many = make_many("queueing", 4, params=params, seed=1)
    observations, _ = many.reset()
    assert len(set(observations[:, -1].tolist())) == 4


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", None])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gymnasium_makes_many(scenario, mode):
    envs = gymnasium.make_vec(f"jaxmoe/{scenario}-v0", num_envs=3, vectorization_mode=mode)
    observations, _ = envs.reset(seed=0)
    rewards = envs.step(envs.action_space.sample())[1]
    assert isinstance(envs, EdgeExpertsVector) == (mode != "sync")
    assert observations.shape == (3, 21)
    assert len(np.unique(rewards)) == 3


def test_arguments_are_those_of_make_and_numbers_of_the_scenario():
    env = gymnasium.make("jaxmoe/queueing-v0", split="test", num_replicas=2, params={"latency_weight": 0.5}).unwrapped
    assert env.env.settings.num_replicas == 2
    assert env.params.latency_weight == 0.5
    assert env.params.num_prompts == 8
    for wrong in ({"replicas": 2}, {"params": {"latency": 1.0}}, {"split": "dev"}):
        with pytest.raises(InputError):
            gymnasium.make("jaxmoe/queueing-v0", **wrong)


def test_a_fresh_process_needs_no_import_where_the_id_says_the_module():
    script = (
        "import gymnasium\n"
        "env = gymnasium.make('jaxmoe.gymnasium:jaxmoe/queueing-v0')\n"
        "print(env.unwrapped.observation_names[-1], env.reset(seed=0)[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "available[3] (21,)\n"
