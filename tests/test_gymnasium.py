"""Gymnasium makes every scenario by its id, one or many at once."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest

import jaxmoe.gymnasium
from jaxmoe.env.gymnasium_wrapper import EdgeExpertsGymnasium, EdgeExpertsVector
from jaxmoe.env.scenarios import SCENARIOS
from jaxmoe.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_scenario_has_an_id():
    ours = ("oneshot", "fading", "queueing")  # another test may have registered its own
    assert {scenario: f"jaxmoe/{scenario}-v0" for scenario in ours}.items() <= jaxmoe.gymnasium.IDS.items()
    assert set(jaxmoe.gymnasium.IDS.values()) <= set(gymnasium.registry)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gymnasium_makes_one(scenario):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"jaxmoe/{scenario}-v0")
        observation, _ = env.reset(seed=0)
        env.step(env.action_space.sample())
    assert isinstance(env.unwrapped, EdgeExpertsGymnasium)
    assert observation in env.observation_space


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", None])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gymnasium_makes_many(scenario, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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
