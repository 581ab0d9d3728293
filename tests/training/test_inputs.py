"""Bad input: one sentence that names the value and what is allowed."""

import pytest

import jaxmoe
from jaxmoe.algorithms import dqn, ppo, sac
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.training.events import Noted
from jaxmoe.training.inputs import checked_config, checked_hypers, environments, seed_list


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1.0}, "'learning_rat'.*learning_rate, final_rate"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast' is not a finite number"),
        ({"learning_rate": float("nan")}, "learning_rate = nan is not a finite number"),
        ({"clip": True}, "clip = True is not a finite number"),
        ({"discount": 1.5}, "discount = 1.5 must be from 0 to 1"),
        ({"learning_rate": -1}, "learning_rate = -1 must be at least 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm = 0.0 must be at least 1e-06"),
    ],
)
def test_hyperparameters(values, message):
    with pytest.raises(InputError, match=message):
        checked_hypers(ppo.Hypers, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"envs": 4}, "'envs'.*num_envs, rollout_length"),
        ({"num_envs": 0}, "num_envs = 0 must be from 1 to 1,048,576"),
        ({"num_envs": 2.5}, "num_envs = 2.5 is not of the kind of its default, 16"),
        ({"hidden": 64}, "hidden = 64 is not of the kind of its default"),
        ({"hidden": (64, 0)}, "hidden = 0 must be from 1 to 65,536"),
        ({"activation": "sigmoid"}, "'sigmoid' is unknown"),
        ({"minibatches": 512}, "minibatches = 512 leaves one step in each, .* so that nothing is learned"),
    ],
)
def test_configuration(values, message):
    with pytest.raises(InputError, match=message):
        checked_config(ppo.Config, values)


@pytest.mark.parametrize("module", [dqn, sac])
def test_a_count_has_nothing_in_between(module):
    with pytest.raises(InputError, match=r"target_period = 1.8 must be a whole number"):
        checked_hypers(module.Hypers, {"target_period": 1.8})
    assert checked_hypers(module.Hypers, {"target_period": 2.0}).target_period == 2.0


@pytest.mark.parametrize("algorithm", ["dqn", "sac"])
def test_a_run_that_ends_within_the_warm_up_is_warned_of(algorithm):
    said = []
    config = {"num_envs": 4, "rollout_length": 8, "hidden": [8], "replay_capacity": 512, "warmup_steps": 64}
    few = {"seeds": 1, "evaluations": 1, "requests": 64, "baselines": "none", "config": config}
    jaxmoe.train(algorithm, env_steps=60, **few, callback=said.append)
    jaxmoe.train(algorithm, env_steps=96, **few, callback=said.append)
    warned = [event.text for event in said if isinstance(event, Noted) and not event.progress]
    assert warned == [f"{algorithm} in oneshot: nothing is learned, as the first 64 env steps are the warm-up"]


def test_agents_without_a_learning_rate_are_warned_of():
    said = []
    config = {"num_envs": 4, "rollout_length": 8, "hidden": [8], "minibatches": 1, "epochs": 1}
    spec = {"algorithm": "ppo", "env_steps": 64, "seeds": 2, "evaluations": 1, "requests": 64, "baselines": "none"}
    jaxmoe.sweep({**spec, "config": config, "hypers": {"learning_rate": [0.0, 1e-3]}}, callback=said.append)
    warned = [event.text for event in said if isinstance(event, Noted) and not event.progress]
    assert warned == ["ppo in oneshot: 2 of 4 agents learn nothing: learning_rate is 0"]


def test_what_is_right_passes():
    assert checked_hypers(ppo.Hypers, {"clip": 0.1}) == ppo.Hypers(clip=0.1)
    assert checked_config(ppo.Config, {"hidden": [32]}) == ppo.Config(hidden=(32,))
    assert seed_list(3) == [0, 1, 2]
    assert seed_list((4, 2)) == [4, 2]


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-1], [2**31]])
def test_seeds(seeds):
    with pytest.raises(InputError, match=r"seeds = "):
        seed_list(seeds)


def test_algorithms():
    with pytest.raises(InputError, match="'a3c'; choose one of ppo"):
        registered_algorithm("a3c")


def test_a_table_without_train_prompts_cannot_be_trained_on(tmp_path):
    load_table().to_frame().assign(split="test").to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(InputError, match="no train prompts"):
        environments("oneshot", load_table(tmp_path / "table.csv"), {}, {})
