"""`train` and `evaluate` from end to end, with real files and real signals."""

import json
import re
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxmoe
from jaxmoe.errors import InputError

SMALL = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}


def small_run(**options):
    return jaxmoe.train(
        "ppo", "oneshot", **({"seeds": 3, "env_steps": 256, "config": SMALL, "evaluations": 2} | options)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "new" / "folder"


@pytest.fixture(scope="module")
def training(folder):
    return small_run(out=folder)


def test_a_run_leaves_tidy_tables_policies_figures_and_a_manifest(training, folder):
    assert {path.name for path in folder.iterdir()} == {
        "comparison.parquet", "curves.parquet", "learning_curve.pdf", "learning_curve.png", "manifest.json",
        "policies.safetensors", "results.parquet",
    }  # fmt: skip
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "learning_curve.pdf").read_bytes().startswith(b"%PDF")
    for name in ("results", "curves", "comparison"):
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), getattr(training, name))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run"]["seeds"] == [0, 1, 2]
    assert manifest["device"]["count"] == jax.local_device_count()
    assert not manifest["interrupted"]


def test_the_tables_have_a_row_per_agent_and_per_agent_and_evaluation(training):
    assert training.results["seed"].tolist() == [0, 1, 2]
    assert training.results["env_steps"].eq(256).all()
    assert training.curves.groupby("env_steps").size().to_dict() == {0: 3, 32: 3, 64: 3, 128: 3, 256: 3}
    assert training.curves["train_qos"].notna().all()


def test_every_reference_stands_beside_the_agents(training):
    policies = set(training.comparison["policy"])
    assert policies >= {"ppo (3 agents)", "random", "predict_then_optimise", "one_slot_optimum"}
    assert {name.split("(")[0] for name in policies} >= {"fixed_subset", "greedy_snr", "top_k_relevance"}
    agents = training.comparison.query("policy == 'ppo (3 agents)' and metric == 'qos' and split == 'train'")
    assert agents["mean"].item() == pytest.approx(training.results["train_qos"].mean(), rel=1e-3)
    assert agents["low"].item() <= agents["mean"].item() <= agents["high"].item()


def test_evaluating_the_folder_gives_the_same_numbers(training, folder):
    pd.testing.assert_frame_equal(jaxmoe.evaluate(folder), training.comparison)


def test_the_same_run_twice_is_the_same_bit_by_bit(training):
    again = small_run()
    pd.testing.assert_frame_equal(again.curves, training.curves)
    for one, other in zip(jax.tree.leaves(again.policies), jax.tree.leaves(training.policies), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_that_holds_something_is_refused_and_left_alone(training, folder):
    del training
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="exists already and is not an empty folder"):
        small_run(out=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_policy_of_ones_own_can_be_evaluated():
    found = jaxmoe.evaluate(lambda *_: jnp.int32(6), slots=256)
    qos = found.query("metric == 'qos' and split == 'test'").set_index("policy")["mean"]
    assert qos["policy"] == pytest.approx(qos["fixed_subset(6)"])


def test_agents_are_not_evaluated_on_another_table(training, folder):
    del training
    table = jaxmoe.load_table().select_experts(["character", "action"])
    with pytest.raises(InputError, match="trained on another expert table"):
        jaxmoe.evaluate(folder, table=table)


def test_a_table_without_test_prompts_is_trained_on_as_well(tmp_path):
    frame = jaxmoe.load_table().select_experts(["character", "action"]).to_frame()
    frame[frame["split"] == "train"].to_csv(tmp_path / "table.csv", index=False)
    training = small_run(table=jaxmoe.load_table(tmp_path / "table.csv"), out=tmp_path / "run")
    assert set(training.comparison["split"]) == {"train"}
    assert (tmp_path / "run" / "learning_curve.png").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no finished training run.*manifest\.json"):
        jaxmoe.evaluate(tmp_path)
    (tmp_path / "manifest.json").write_text('{"run": {"algorithm": "ppo"}}')
    with pytest.raises(InputError, match="not the manifest of a training run"):
        jaxmoe.evaluate(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_steps": 0}, "env_steps = 0 must be at least 1"),
        ({"evaluations": 0}, "evaluations = 0 must be at least 1"),
        ({"params": {"latency": 1.0}}, "unknown parameter 'latency'; choose among .*latency_weight"),
        ({"settings": {"num_replicas": 0}}, "num_replicas = 0 is not allowed"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        small_run(out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_trained(tmp_path):
    command = [sys.executable, "-c", "from jaxmoe.cli import main; main()", "train", "ppo", "--seeds", "2"]
    command += ["--steps", "50_000_000", "--evaluations", "5000", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "env steps each" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        output = process.stdout.read()
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
    assert process.returncode == 130
    assert "Stopped early" in output
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["interrupted"]
    assert 0 < manifest["run"]["env_steps"] < 50_000_000
    assert re.search(r"ppo \(2 agents\)", output)


@pytest.mark.slow
def test_ppo_with_the_shipped_defaults_solves_oneshot():
    training = jaxmoe.train("ppo", "oneshot", seeds=8, env_steps=500_000, evaluations=1)
    assert training.results["train_normalised"].mean() >= 0.98
    assert not training.results["diverged"].any()
    normalised = training.comparison.query("metric == 'normalised' and split == 'test'").set_index("policy")["mean"]
    assert normalised["ppo (8 agents)"] > normalised["fixed_subset(6)"]
