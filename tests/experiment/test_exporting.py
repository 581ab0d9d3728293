"""Policies out of the folders of experiments."""

import json

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle

BOTH = {
    **tiny.SPEC,
    "algorithm": ["ppo", "dqn"],
    "seeds": 2,
    "baselines": "none",
    "hypers": {"ppo": {"learning_rate": [1e-3, 1e-2]}},
    "config": {
        "ppo": tiny.CONFIG,
        "dqn": {
            "num_envs": 4,
            "rollout_length": 8,
            "updates": 1,
            "replay_capacity": 64,
            "warmup_steps": 0,
            "hidden": [8],
        },
    },
    "params": {"latency_weight": 0.01},
}


@pytest.fixture(scope="module")
def run(trained):
    return jaxmoe.load(trained), trained


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both") / "sweep"
    return tiny.sweep(folder, spec=BOTH), folder


def test_the_best_agent_of_a_training_is_the_one_on_validation_prompts(run, tmp_path):
    found, folder = run
    contract = jaxmoe.export(folder, tmp_path / "policy.safetensors")
    best = found.results["validation_normalised"].idxmax()
    assert contract.agent == {"number": best, "seed": found.results["seed"][best], "root_seed": 0, "env_steps": 512}
    assert contract.evaluation["train"]["qos"] == pytest.approx(found.results["train_qos"][best])
    assert contract.evaluation["test"]["normalised"] == pytest.approx(found.results["test_normalised"][best])
    held = load_file(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(held["layer0/kernel"], found.agents([best])[0].tensors["layer0/kernel"])
    assert jaxmoe.load_policy(tmp_path).contract == contract


def test_a_policy_is_saved_by_the_experiment_itself(run, tmp_path):
    found, folder = run
    path = found.policy("best").save(tmp_path / "policy.safetensors")
    assert path == tmp_path / "policy.safetensors"
    jaxmoe.export(folder, tmp_path / "same.safetensors")
    jaxmoe.export(found, tmp_path / "too.safetensors")
    for name in ("same", "too"):
        assert (tmp_path / f"{name}.safetensors").read_bytes() == path.read_bytes()
    assert found.policy(1).contract.agent["number"] == 1


def test_the_contract_says_where_the_policy_comes_from(run, tmp_path):
    _, folder = run
    jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=1)
    contract = json.loads((tmp_path / "policy.json").read_text())
    assert contract["agent"]["seed"] == 1
    assert contract["experts"] == ["setting", "character", "action", "science"]
    assert contract["hypers"]["learning_rate"] == 0.005
    assert contract["config"]["hidden"] == [8]
    assert contract["scenario"]["name"] == "oneshot"
    assert contract["scenario"]["params"]["bandwidth_hz"] == 3750
    assert contract["scenario"]["params"]["deadline_s"] is None
    assert contract["scenario"]["params"]["latency_weight"] == 0
    assert contract["table_digest"] == jaxmoe.load_table().meta.digest
    assert contract["versions"]["trained_by"]["jaxmoe"] == jaxmoe.__version__


def test_one_agent_of_a_sweep(both, tmp_path):
    found, folder = both
    contract = jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=5)
    row = found.results.set_index("agent").loc[5]
    assert (contract.algorithm, contract.agent["seed"], contract.preferences) == ("dqn", row["seed"], "action_values")
    assert contract.evaluation["train"] == {"qos": pytest.approx(row["train_qos"])}
    assert contract.scenario["params"]["latency_weight"] == pytest.approx(0.01)


def test_all_agents_in_one_stack_and_one_out_of_it(both, tmp_path):
    found, folder = both
    contracts = jaxmoe.export(folder, tmp_path / "all.safetensors", agent="all")
    assert [contract.agent["number"] for contract in contracts] == found.results["agent"].tolist()
    assert [contract.algorithm for contract in contracts] == ["ppo"] * 4 + ["dqn"] * 2
    observation = np.random.default_rng(0).uniform(0, 1, 21)
    for number in range(6):
        out = tmp_path / f"{number}.safetensors"
        jaxmoe.export(tmp_path / "all.safetensors", out, agent=number)
        alone, within = jaxmoe.load_policy(out), jaxmoe.load_policy(tmp_path / "all.safetensors", agent=number)
        assert alone.contract == within.contract == contracts[number]
        np.testing.assert_array_equal(alone.preferences(observation), within.preferences(observation))
        assert jaxmoe.export(folder, tmp_path / f"again-{number}.safetensors", agent=number) == contracts[number]
        assert (tmp_path / f"again-{number}.safetensors").read_bytes() == out.read_bytes()
    with pytest.raises(InputError, match="is the index of a stack; say which agent of it"):
        jaxmoe.export(tmp_path / "all.safetensors", tmp_path / "one.safetensors")


def test_a_home_folder_is_expanded(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found, _ = run
    jaxmoe.export(found, "~/policy.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"policy.safetensors", "policy.json"}
    jaxmoe.export("~/policy.safetensors", "~/same.safetensors")
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "policy.safetensors").read_bytes()


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    _, folder = run
    cases = [
        ((tmp_path, tmp_path / "policy.safetensors"), {}, "holds no experiment: there is no experiment.json in it"),
        ((folder, tmp_path / "policy.pickle"), {}, r"ends in none of \.safetensors, \.stablehlo, \.onnx"),
        ((folder, tmp_path / "p.onnx"), {"agent": "all"}, "a stack of all agents is written as safetensors only"),
        ((folder, tmp_path / "p.safetensors"), {"agent": 3}, "there is no agent 3; they are numbered from 0 to 2"),
        (
            (folder, tmp_path / "p.safetensors"),
            {"scenario": "fading"},
            "has no scenario 'fading'; choose one of oneshot",
        ),
        ((folder, tmp_path / "no" / "p.safetensors"), {}, "the folder .* does not exist"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(InputError, match=message):
            jaxmoe.export(*arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_of_an_experiment_that_is_not_finished_only_trained_agents_are_exported(tmp_path):
    own = {"devices.agents_per_job": 8, "baselines": "none", "seeds": 4}
    found = tiny.sweep(tmp_path / "out", own, shard="0/2")
    assert not found.complete
    assert jaxmoe.export(found, tmp_path / "0.safetensors", agent=0).agent["number"] == 0
    with pytest.raises(InputError, match="agent 8 is not trained yet"):
        jaxmoe.export(found, tmp_path / "8.safetensors", agent=8)
    with pytest.raises(InputError, match=r"is not finished: 8 of 16 agents trained.*; export agents by number"):
        jaxmoe.export(found, tmp_path / "all.safetensors", agent="all")


def test_what_was_exported_is_never_overwritten(run, tmp_path):
    _, folder = run
    jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=0)
    with pytest.raises(InputError, match=r"policy\.safetensors exists already"):
        jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=1)
    assert read_bundle(tmp_path).contract.agent["number"] == 0


@pytest.mark.parametrize("name", ["llama3:8b.safetensors", "a\rb.onnx", "x" * 200 + ".safetensors", "a\\b.safetensors"])
def test_a_policy_has_a_name_that_is_read_again(trained, tmp_path, name):
    with pytest.raises(InputError, match="cannot name a policy: a name has up to 200 bytes, no slash, no colon, and"):
        jaxmoe.export(trained, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
