"""Twelve experts of whom an agent asks two: from a sheet of small subsets to a report and a policy."""

import json
import re
import shutil

import numpy as np
import pytest
import tiny
from many_experts import EXPERTS, sheet, sheet_file, small_subsets
from safetensors.numpy import load_file

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment.trained import stacked
from jaxmoe.policy import apply
from jaxmoe.table import load_table
from jaxmoe.training.watching import watch

SPEC = {
    "algorithm": ["ppo", "dqn"],
    "scenario": "oneshot",
    "env_steps": 128,
    "seeds": 2,
    "evaluations": 1,
    "requests": 64,
    "baselines": ["random", "fixed_subset", "greedy_snr", "predict_then_optimise", "one_slot_optimum"],
    "config": {
        "ppo": tiny.CONFIG,
        "dqn": {"num_envs": 4, "rollout_length": 8, "updates": 1, "replay_capacity": 64, "warmup_steps": 0,
                "hidden": [8]},
    },
    "settings": {"max_experts": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    spec = {**SPEC, "table": str(sheet_file(folder / "few.csv", splits=("train", "validation", "test") * 4))}
    return jaxmoe.sweep(spec, folder / "run"), folder


def test_results_are_numbers_though_the_table_has_none_for_large_subsets(run):
    found, _ = run
    assert found.complete
    assert len(found.results) == 4
    for split in ("train", "validation", "test"):
        assert np.isfinite(found.results[f"{split}_qos"]).all()
        assert np.isfinite(found.results[f"{split}_normalised"]).all()
    rows = found.comparison()
    assert np.isfinite(rows.loc[rows["metric"] == "qos", "mean"]).all()
    names = set(rows["policy"])
    assert {"random", "predict_then_optimise", "one_slot_optimum"} <= names
    subset = next(name for name in names if name.startswith("fixed_subset"))
    assert int(subset.removeprefix("fixed_subset(").removesuffix(")")).bit_count() <= 2


def test_the_folder_keeps_the_table_and_is_loaded_reported_and_evaluated(run):
    _, folder = run
    again = jaxmoe.load(folder / "run")
    assert again.table.meta.digest == load_table(folder / "few.csv").meta.digest
    assert "nan" not in re.findall(r"\w+", again.report().files["report.html"].decode().lower())
    rows = again.evaluate(agents=[0], requests=64, baselines=["random"])
    assert np.isfinite(rows.loc[rows["metric"] == "qos", "mean"]).all()
    with pytest.raises(InputError, match="chooses among 79 actions, and the environment has 13: it has another max_e"):
        again.evaluate("oneshot", settings={"max_experts": 1}, agents=[0], requests=64, baselines="none")
    with pytest.raises(InputError, match="or set max_experts = 2, for which"):
        again.evaluate("oneshot", agents=[0], requests=64, baselines="none")


@pytest.mark.parametrize("agent", [0, 2])
def test_an_exported_policy_asks_two_experts_at_most(run, agent, tmp_path):
    _, folder = run
    path = tmp_path / "policy.safetensors"
    contract = jaxmoe.export(folder / "run", path, agent=agent)
    assert (contract.network.outputs, len(contract.actions)) == (79, 79)
    assert contract.scenario["settings"]["max_experts"] == 2
    masks = [sum(1 << expert for expert, digit in enumerate(action) if digit) for action in contract.actions]
    assert masks == [mask for mask in range(4096) if mask.bit_count() <= 2]
    policy = jaxmoe.load_policy(path)
    drawn = np.random.default_rng(agent).uniform(0, 1, (32, 12))
    for relevance in drawn:
        decision = policy.select(relevance=relevance, snr_db=20.0 * relevance[::-1])
        assert len(decision.experts) <= 2
        assert decision.subset == masks[decision.action]
        assert set(decision.experts) <= set(EXPERTS)
    observations = np.random.default_rng(agent).uniform(0, 1, (32, contract.network.inputs)).astype(np.float32)
    computed = apply(contract.network, load_file(path), observations)
    np.testing.assert_array_equal(policy.preferences(observations), computed)
    rows = jaxmoe.evaluate(path, table=folder / "few.csv", requests=64, baselines="none")
    assert np.isfinite(rows.loc[rows["metric"] == "qos", "mean"]).all()
    elsewhere = jaxmoe.evaluate(path, "queueing", table=folder / "few.csv", requests=64, baselines="none")
    assert np.isfinite(elsewhere.loc[elsewhere["metric"] == "qos", "mean"]).all()
    with pytest.raises(InputError, match="the policy's actions are numbered otherwise"):
        jaxmoe.evaluate(path, table=folder / "few.csv", settings={"max_experts": 1}, requests=64, baselines="none")


def test_more_seeds_go_by_the_table_of_the_folder(run, tmp_path):
    found, folder = run
    shutil.copytree(folder / "run", tmp_path / "run")
    more = jaxmoe.load(tmp_path / "run").extend(seeds=3)
    assert (len(found.results), len(more.results)) == (4, 6)
    assert np.isfinite(more.results["test_qos"]).all()


def test_whom_agents_ask_is_watched(run):
    found, _ = run
    [agent] = found.agents([0])
    seen = watch(agent.job.signature, {}, stacked([agent]), [0], found.table)
    assert set(seen["subset"]) <= set(small_subsets(2))
    asked = seen[[f"asked_{name}" for name in EXPERTS]].to_numpy()
    named = [0 if name == "local" else name.count("+") + 1 for name in seen["subset"]]
    np.testing.assert_array_equal(asked.sum(axis=1), named)
    assert 0 < asked.sum(axis=1).max() <= 2


def test_a_limit_can_be_an_axis(tmp_path):
    spec = {**SPEC, "algorithm": "ppo", "config": tiny.CONFIG, "table": str(sheet_file(tmp_path / "few.csv"))}
    spec |= {"seeds": 1, "baselines": ["random", "one_slot_optimum"], "settings": {"max_experts": [1, 2]}}
    found = jaxmoe.sweep(spec)
    assert found.results["max_experts"].tolist() == [1, 2]


def test_the_command_trains_and_refuses(tmp_path):
    path = sheet_file(tmp_path / "few.csv")
    options = ["--seeds", "1", "--env-steps", "64", "--evaluations", "1", "--requests", "64", "--baselines", "random"]
    sizes = ["--num-envs", "4", "--rollout-length", "8", "--epochs", "1", "--minibatches", "1", "--hidden", "8"]
    common = ["train", "ppo", "--table", path, *options, *sizes, "--quiet"]
    done = tiny.command(*common, "--set", "settings.max_experts=2", "--out", tmp_path / "run")
    assert done.code == 0, done.error
    contract = tmp_path / "policy.json"
    assert tiny.command("export", tmp_path / "run", "--out", tmp_path / "policy.safetensors").code == 0
    assert len(json.loads(contract.read_text())["actions"]) == 79
    for limit, message in (("3", "or set max_experts = 2"), ("0", "choose a whole number from 1 to 64")):
        refused = tiny.command(*common, "--set", f"settings.max_experts={limit}", "--out", tmp_path / f"no{limit}")
        assert refused.code == 2
        assert message in " ".join(refused.error.split())
        assert not (tmp_path / f"no{limit}").exists()


def test_a_table_with_gaps_above_the_limit_is_kept_and_read_again(tmp_path):
    """In Python one may train on what is complete of a table that is not."""
    rows = sheet(size=3, splits=("train", "train", "test"))
    rows[rows["experts"] != "e0+e1+e2"].iloc[:-5].to_csv(tmp_path / "gaps.csv", index=False)
    table = load_table(tmp_path / "gaps.csv", missing="keep")
    assert table.complete_up_to() == 2
    found = tiny.train(tmp_path / "run", table=table, settings={"max_experts": 2}, seeds=1, baselines="none")
    assert jaxmoe.load(tmp_path / "run").table.meta == table.meta
    assert np.isfinite(found.results["train_qos"]).all()
