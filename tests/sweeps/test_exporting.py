"""Policies out of the folders of training runs and sweeps."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle
from jaxmoe.sweeps.trained import best_agent, load_agents

SIZES = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}
SPEC = {
    "algorithm": ["ppo", "dqn"],
    "env_steps": 64,
    "seeds": 2,
    "evaluations": 1,
    "slots": 64,
    "references": False,
    "hypers": {"ppo": {"learning_rate": [1e-3, 1e-2]}},
    "config": {
        "ppo": {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [8]},
        "dqn": {"num_envs": 4, "rollout_length": 8, "updates": 1, "replay_capacity": 64, "warmup_steps": 0},
    },
    "params": {"latency_weight": 0.01},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return jaxmoe.train("ppo", seeds=[5, 9, 2], env_steps=64, config=SIZES, evaluations=1, out=folder), folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    return jaxmoe.sweep(SPEC, folder), folder


def test_the_best_agent_of_a_run_is_the_one_on_train_prompts(run, tmp_path):
    training, folder = run
    contract = jaxmoe.export(folder, tmp_path / "policy.safetensors")
    best = training.results["train_qos"].idxmax()
    assert contract.agent == {"number": best, "seed": [5, 9, 2][best], "root_seed": 0, "env_steps": 64}
    assert contract.evaluation["train"]["qos"] == pytest.approx(training.results["train_qos"].max())
    assert contract.evaluation["test"]["normalised"] == pytest.approx(training.results["test_normalised"][best])
    held = load_file(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(held["layer0/kernel"], training.policies["params"]["Dense_0"]["kernel"][best])
    assert jaxmoe.load_policy(tmp_path).contract == contract


def test_the_contract_says_where_the_policy_comes_from(run, tmp_path):
    _, folder = run
    jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=1)
    contract = json.loads((tmp_path / "policy.json").read_text())
    assert contract["agent"]["seed"] == 9
    assert contract["experts"] == ["setting", "character", "action", "science"]
    assert contract["hypers"]["learning_rate"] == 0.005
    assert contract["config"]["hidden"] == [8]
    assert contract["scenario"]["name"] == "oneshot"
    assert contract["scenario"]["params"]["bandwidth_hz"] == 3750
    assert contract["scenario"]["params"]["deadline_s"] is None
    assert contract["table_digest"] == jaxmoe.load_table().meta.digest
    assert contract["versions"]["trained_by"]["jaxmoe"] == jaxmoe.__version__


def test_one_agent_of_a_sweep(sweep, tmp_path):
    found, folder = sweep
    contract = jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=5)
    row = found.results.loc[5]
    assert (contract.algorithm, contract.agent["seed"], contract.preferences) == ("dqn", row["seed"], "action_values")
    assert contract.evaluation["train"] == {"qos": pytest.approx(row["train_qos"])}
    assert contract.scenario["params"]["latency_weight"] == pytest.approx(0.01)


def test_all_agents_in_one_stack_and_one_out_of_it(sweep, tmp_path):
    found, folder = sweep
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


def test_the_best_agent_did_not_diverge_and_was_in_the_same_environment(sweep):
    _, folder = sweep
    agents, _ = load_agents(folder)
    best = best_agent(agents)
    assert best.scores["train"]["qos"] == max(agent.scores["train"]["qos"] for agent in agents)
    diverged = [agent._replace(scores=agent.scores | {"diverged": True}) for agent in agents]
    assert best_agent([*diverged[:2], *agents[2:]]).number >= 2
    with pytest.raises(InputError, match="all agents diverged"):
        best_agent(diverged)
    with pytest.raises(InputError, match="trained in different environments"):
        best_agent([agents[0], agents[1]._replace(params={"latency_weight": 0.0})])


def test_what_cannot_be_exported_is_refused(run, sweep, tmp_path):
    (_, run_folder), (_, sweep_folder) = run, sweep
    cases = [
        ((tmp_path, tmp_path / "policy.safetensors"), {}, "holds neither a training run nor a sweep"),
        ((run_folder, tmp_path / "policy.pickle"), {}, r"ends in none of \.safetensors, \.stablehlo, \.onnx"),
        ((run_folder, tmp_path / "p.onnx"), {"agent": "all"}, "a stack of all agents is written as safetensors only"),
        ((run_folder, tmp_path / "p.safetensors"), {"agent": 3}, "there is no agent 3; they are numbered from 0 to 2"),
        ((run_folder, tmp_path / "no" / "p.safetensors"), {}, "the folder .* does not exist"),
        (
            (sweep_folder, tmp_path / "p.safetensors"),
            {"table": jaxmoe.load_table().select_experts(["action", "setting"])},
            "was trained on another expert table",
        ),
    ]
    for arguments, options, message in cases:
        with pytest.raises(InputError, match=message):
            jaxmoe.export(*arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_not_finished_is_refused(sweep, tmp_path):
    _, folder = sweep
    (tmp_path / "manifest.json").write_text((folder / "manifest.json").read_text())
    with pytest.raises(InputError, match=r"a sweep that is not finished: there is no policies\.safetensors"):
        jaxmoe.export(tmp_path, tmp_path / "policy.safetensors")


def test_what_was_exported_is_never_overwritten(run, tmp_path):
    _, folder = run
    jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=0)
    with pytest.raises(InputError, match=r"policy\.safetensors exists already"):
        jaxmoe.export(folder, tmp_path / "policy.safetensors", agent=1)
    assert read_bundle(tmp_path).contract.agent["number"] == 0
