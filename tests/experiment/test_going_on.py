"""Going on from a policy: what is taken from it, what is said, and that it does not become worse first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

import jaxmoe
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.cli.app import app
from jaxmoe.errors import InputError
from jaxmoe.experiment.dry_run import describe_plan
from jaxmoe.experiment.going_on import _require_single, with_policy
from jaxmoe.experiment.spec import load_spec
from jaxmoe.training.events import Noted
from jaxmoe.training.inputs import checked_config
from jaxmoe.training.starting import started_from, warmed_up

FEW = {"requests": 256, "baselines": "none"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A policy that was trained in `queueing` with numbers of its own."""
    trained = jaxmoe.train(
        "ppo", "queueing", env_steps=64, hypers={"learning_rate": 0.002}, settings={"sharing": "shared"},
        params={"latency_weight": 0.25, "max_steps_in_episode": 32}, config=tiny.CONFIG, seeds=1, **FEW,
    )  # fmt: skip
    return trained.policy(0).save(tmp_path_factory.mktemp("policies") / "policy.safetensors")


def spec_from(path, **content):
    return with_policy(load_spec({"algorithm": "ppo", "env_steps": 64, "init_from": path} | content))


def test_what_is_not_said_is_taken(path):
    spec, said = spec_from(path)
    assert spec.scenario == ["queueing"]
    assert spec.params == {"max_steps_in_episode": 32, "latency_weight": 0.25}
    assert spec.settings == {"sharing": "shared"}
    assert spec.hypers == {"learning_rate": 0.002}
    assert spec.config == tiny.CONFIG
    assert said == (
        f"going on from {path}; taken from it: scenario = queueing, params.max_steps_in_episode = 32, "
        "params.latency_weight = 0.25, settings.sharing = shared, hypers.learning_rate = 0.002, config.num_envs = 4, "
        "config.rollout_length = 8, config.epochs = 1, config.minibatches = 1, config.hidden = [8]"
    )
    assert with_policy(spec)[0] == spec


def test_what_is_said_is_kept(path):
    spec, said = spec_from(
        path,
        scenario="queueing",
        params={"queueing": {"latency_weight": 0.5}},
        hypers={"ppo": {"learning_rate": {"grid": [0.1, 0.2]}}},
        config={"num_envs": 8},
    )
    assert spec.params == {"max_steps_in_episode": 32, "queueing": {"latency_weight": 0.5}}
    assert spec.hypers == {"ppo": {"learning_rate": {"grid": [0.1, 0.2]}}}
    assert spec.config == {**tiny.CONFIG, "num_envs": 8}
    assert "scenario" not in said
    assert "learning_rate" not in said


def test_another_scenario_or_algorithm_has_numbers_of_its_own(path):
    spec, said = spec_from(path, scenario="fading")
    assert (spec.scenario, spec.params, spec.settings) == (["fading"], {}, {})
    assert "params" not in said
    spec, _ = spec_from(path, algorithm="dqn")
    assert (spec.hypers, spec.config) == ({}, {})
    assert with_policy(load_spec(tiny.SPEC)) == (load_spec(tiny.SPEC), "")


def test_training_goes_on_where_the_policy_was_trained_and_says_so(path):
    events = []
    found = jaxmoe.train(init_from=path, seeds=1, env_steps=32, evaluations=1, callback=events.append, **FEW)
    assert found.spec.scenario == ["queueing"]
    assert found.spec.params["latency_weight"] == 0.25
    assert isinstance(events[0], Noted)
    assert "taken from it: scenario = queueing, " in events[0].text
    start = jaxmoe.load_policy(path).contract.evaluation["train"]["qos"]
    assert found.curves["train_qos"].iloc[0] == pytest.approx(start, abs=1e-5)
    dry = describe_plan({"algorithm": "ppo", "env_steps": 64, "init_from": path})
    assert any(line.startswith(f"going on from {path}; taken from it") for line in dry)
    again = found.policy(0).contract
    assert again.hypers["learning_rate"] == pytest.approx(0.002)
    assert again.scenario["params"]["latency_weight"] == 0.25


def test_an_option_at_its_default_counts_as_said(path, tmp_path):
    folder = tmp_path / "run"
    rate = str(registered_algorithm("ppo").Hypers().learning_rate)
    command = ["train", "ppo", "--init-from", str(path), "--learning-rate", rate, "--out", str(folder), "--quiet"]
    few = ["--seeds", "1", "--env-steps", "32", "--evaluations", "1", "--requests", "64", "--baselines", "none"]
    done = CliRunner().invoke(app, [*command, *few], catch_exceptions=False)
    assert done.exit_code == 0
    hypers = jaxmoe.load(folder).spec.hypers
    assert hypers == {"learning_rate": float(rate)} != {"learning_rate": 0.002}


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "dqn"])
def test_a_policy_is_held_while_fresh_critics_learn(algorithm):
    env, params = jaxmoe.make("oneshot")
    module = registered_algorithm(algorithm)
    small = {"num_envs": 4, "rollout_length": 8, "hidden": (8,)}
    replay = {"replay_capacity": 64, "warmup_steps": 32, "updates": 1, "batch_size": 8}
    config = checked_config(module.Config, small if algorithm == "ppo" else small | replay)
    plain, hypers = module.make(env, config, params), module.Hypers()
    other = plain.init(jax.random.key(1), hypers, params)
    tensors = {name: np.asarray(leaf) for name, leaf in plain.actor.tensors(other.policy).items()}
    bound = warmed_up(started_from(plain, tensors))
    if algorithm == "dqn":
        assert bound.step is plain.step
        return
    state = bound.init(jax.random.key(0), hypers, params)
    step = jax.jit(bound.step)
    moved = []
    for iteration in range(4):
        after, _ = step(state, hypers, params, Clock(jnp.int32(iteration), jnp.int32(20)))
        same = [np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (state.policy, after.policy)), strict=True)]
        critics = [
            np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (state.learner, after.learner)), strict=True)
        ]
        moved.append((not all(same), not all(critics)))
        state = after
    begins = 0 if algorithm == "ppo" else 1
    assert moved == [(False, iteration >= begins) for iteration in range(2)] + [(True, True)] * 2


@pytest.mark.slow
def test_going_on_does_not_make_a_policy_worse_first(tmp_path):
    few = {"requests": 1024, "baselines": "none"}
    trained = jaxmoe.train("ppo", seeds=2, env_steps=131_072, evaluations=1, **few)
    path = trained.policy().save(tmp_path / "policy.safetensors")
    found = jaxmoe.train(init_from=path, seeds=8, env_steps=131_072, evaluations=10, **few)
    means = found.curves.groupby("env_steps")["train_qos"].mean()
    start = means.iloc[0]
    assert means.iloc[1:6].min() >= start - 0.001
    assert means.min() >= start - 0.004  # noise of learning on; without holding the policy it was 0.0075
    assert means.iloc[-1] >= start


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("hypers", {"learning_rate": [1e-3, 1e-2]}),
        ("params", {"slot_s": {"grid": [1, 2, 3]}}),
        ("config", {"num_envs": [16, 32]}),
        ("config", {"hidden": [[8], [16]]}),
        ("settings", {"one_slot": [True, False]}),
    ],
)
def test_a_policy_has_one_value_of_each(section, values):
    [name] = values
    with pytest.raises(InputError, match=rf"p says {section}\.{name} = .*, and a policy has one value of each"):
        _require_single(section, values, "p")


def test_what_a_policy_was_trained_with_is_single():
    _require_single("hypers", {"learning_rate": 1e-3}, "p")
    _require_single("params", {"seconds_per_word": [0.1, 0.2], "slot_s": {"each_episode": {"uniform": [3, 5]}}}, "p")
    _require_single("config", {"hidden": [8, 8], "activation": "tanh"}, "p")
    _require_single("settings", {"one_slot": True}, "p")
