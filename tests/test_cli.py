"""The command line as a user meets it: real processes, exit codes, one sentence for bad input."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import jaxmoe


def jaxmoe_command(*arguments, cwd=None):
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'jaxmoe'; from jaxmoe.cli import main; main()"]
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_version():
    done = jaxmoe_command("--version")
    assert (done.returncode, done.stdout.strip()) == (0, jaxmoe.__version__)


def test_help_does_not_start_jax():
    script = "import sys; sys.argv = ['jaxmoe', '--help']\nfrom jaxmoe.cli import main\n"
    script += "try: main()\nexcept SystemExit: pass\nprint('jax' in sys.modules, 'openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_train_offers_hyperparameters_and_configuration_as_options():
    done = jaxmoe_command("train", "ppo", "--help")
    assert done.returncode == 0
    for option in ("--scenario", "--seeds", "--steps", "--out", "--learning-rate", "--entropy-coef", "--hidden"):
        assert option in done.stdout


def test_the_shipped_table_is_checked_and_shown():
    checked = jaxmoe_command("table", "check")
    assert checked.returncode == 0
    assert "32 prompts (24 train, 8 test), 16 subsets each" in checked.stdout
    shown = jaxmoe_command("table", "show", "--experts", "action,setting")
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == [
        "local",
        "action",
        "setting",
        "action+setting",
    ]


def test_a_table_is_built_and_never_overwritten(tmp_path):
    out = tmp_path / "table.csv"
    source = "data/stories"
    assert jaxmoe_command("table", "build", source, "--out", str(out)).returncode == 0
    assert jaxmoe.load_table(out).meta.digest == jaxmoe.load_table().meta.digest
    out.write_text("precious")
    again = jaxmoe_command("table", "build", source, "--out", str(out))
    assert (again.returncode, out.read_text()) == (2, "precious")


def test_train_then_evaluate(tmp_path):
    sizes = ["--num-envs", "4", "--rollout-length", "8", "--minibatches", "1", "--hidden", "8", "--evaluations", "1"]
    trained = jaxmoe_command("train", "ppo", "--seeds", "3,5", "--steps", "64", *sizes, "--out", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "ppo (2 agents)" in trained.stdout
    assert "one_slot_optimum" in trained.stdout
    assert "\x1b" not in trained.stderr
    assert "2 agents, 64 of 64 env steps each" in trained.stderr
    assert pd.read_parquet(tmp_path / "run" / "results.parquet")["seed"].tolist() == [3, 5]
    exported = jaxmoe_command("export", "run", "--agent", "1", "--out", "policy.safetensors", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith("ppo in oneshot, agent 1 (seed 5): train QoS 0.")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "policy.safetensors", "policy.json"}
    alone = jaxmoe_command("evaluate", "--policy", "policy.safetensors", "--slots", "256", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "policy.safetensors" in alone.stdout
    evaluated = jaxmoe_command("evaluate", "run", "--out", "found.csv", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "ppo (2 agents)" in evaluated.stdout
    assert set(pd.read_csv(tmp_path / "found.csv")["split"]) == {"train", "test"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table", "check", "nowhere.csv"], "nowhere.csv: there is no such file or folder"),
        (["table", "show", "--experts", "action,poetry"], "unknown expert 'poetry', allowed are setting"),
        (
            ["train", "ppo", "--out", "run", "--scenario", "twoshot"],
            "unknown scenario 'twoshot'; choose one of oneshot",
        ),
        (["train", "ppo", "--out", "run", "--seeds", "many"], "--seeds 'many' is not a whole number"),
        (["train", "ppo", "--out", "run", "--discount", "2"], "discount = 2.0 must be from 0 to 1"),
        (["train", "ppo", "--out", "run", "--param", "latency"], "--param 'latency' is not of the form NAME=VALUE"),
        (["train", "ppo", "--out", "run", "--hidden", "64,x"], "--hidden '64,x' is not a whole number"),
        (["evaluate", "nowhere"], "nowhere holds no finished training run"),
        (["evaluate", "--policy", "policy.pickle"], "--policy policy.pickle ends in none of .safetensors, .stablehlo"),
        (["evaluate", "--policy", "policy.onnx"], "policy.onnx.json: there is no such file"),
        (["export", "nowhere", "--out", "policy.onnx"], "nowhere holds neither a training run nor a sweep"),
        (["export", "nowhere", "--out", "policy.pkl"], "policy.pkl ends in none of .safetensors, .stablehlo, .onnx"),
        (["export", "nowhere", "--out", "a.onnx", "--agent", "x"], "--agent 'x' is not best, all or the number"),
        (["export", "nowhere", "--out", "a.onnx", "--format", "stablehlo"], "--out a.onnx does not end in .stablehlo"),
        (["train", "ppo", "--out", "run", "--init-from", "p.safetensors"], "p.json: there is no such file"),
        (["evaluate", "--out", "found.txt"], "found.txt ends neither in .csv nor in .parquet"),
        (["sweep", "nowhere.toml", "--out", "run"], "nowhere.toml cannot be read: No such file or directory"),
        (["sweep", "nowhere.toml"], "--out DIR says where the sweep is kept; it is missing"),
        (["merge", "nowhere", "--out", "run"], "nowhere holds no sweep: there is no manifest.json in it"),
        (["report", "nowhere"], "nowhere: there is no such folder"),
        (["status", "nowhere"], "nowhere: there is no such folder"),
        (["compare", "nowhere"], "nowhere: there is no such folder"),
        (["best", "nowhere"], "nowhere: there is no such folder"),
        (["best", "nowhere", "--fresh-seeds", "0"], "fresh_seeds = 0 must be at least 1"),
        (["table", "report", "nowhere", "--out", "run"], "nowhere: there is no such file or folder"),
        (["evaluate", "--setting", "num_replicas=many"], "num_replicas = 'many' is not allowed; choose one of 1, 2"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    done = jaxmoe_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("jaxmoe: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


SPEC = """
algorithm = "ppo"
env_steps = 64
seeds = 2
evaluations = 1
slots = 64
[hypers]
learning_rate = [1e-3, 1e-2]
[config]
num_envs = 4
rollout_length = 8
epochs = 1
minibatches = 1
hidden = [8]
"""


def test_a_sweep_is_judged_reported_compared_and_its_winner_trained_again(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    for name, change in (("one", "hypers.clip=0.2"), ("other", "hypers.clip=0.1")):
        done = jaxmoe_command("sweep", "spec.toml", "--out", name, "--set", change, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    told = jaxmoe_command("status", "one", cwd=tmp_path)
    assert told.stdout.startswith("one: done; 4 of 4 agents trained, references evaluated in 1 of 1 environments")
    best = jaxmoe_command("best", "one", "--fresh-seeds", "2", cwd=tmp_path)
    assert best.returncode == 0, best.stderr
    assert "train prompts, 2 fresh seeds" in best.stdout
    assert "drop on train prompts" in best.stdout
    reported = jaxmoe_command("report", "one", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert "report: one/report.html" in reported.stdout
    compared = jaxmoe_command("compare", "one", "other", "--out", "found.csv", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "probability that an agent of the first beats one of the second" in " ".join(compared.stdout.split())
    assert sorted(pd.read_csv(tmp_path / "found.csv")["name"]) == ["one ppo oneshot", "other ppo oneshot"]


def test_a_table_is_reported(tmp_path):
    done = jaxmoe_command("table", "report", "data/stories", "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").is_file()


def test_sweep_then_sweep_again_and_merge(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    planned = jaxmoe_command("sweep", "spec.toml", "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("4 agents, from 2 configurations and 2 seeds\n1 compilation of a training program")
    assert "4 agents of 64 env steps and " in planned.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]
    for index in "01":
        shard = ["--out", f"shard-{index}", "--shard", f"{index}/2"]
        assert jaxmoe_command("sweep", "spec.toml", *shard, cwd=tmp_path).returncode == 0
    merged = jaxmoe_command("merge", "shard-0", "shard-1", "--out", "whole", cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    assert "oneshot: the best 2 of 2 configurations by train QoS, means over 2 seeds" in merged.stdout
    assert "4 agents trained, 0 diverged" in merged.stdout
    refused = jaxmoe_command("sweep", "spec.toml", "--out", "whole", "--set", "seeds=3", cwd=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "whole holds the sweep of another spec: seeds was 2 and is now 3" in refused.stderr
    again = jaxmoe_command("sweep", "spec.toml", "--out", "whole", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == merged.stdout


def test_eighty_columns_cut_no_number_of_a_comparison(tmp_path):
    make = "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import synthetic\n"
    make += (
        "for name in ('one-long-name-of-a-folder', 'other-long-name-of-a-folder'): synthetic.make(pathlib.Path(name))"
    )
    study = Path(__file__).parent / "study"
    subprocess.run([sys.executable, "-c", make, str(study)], cwd=tmp_path, check=True)
    compared = jaxmoe_command("compare", "one-long-name-of-a-folder", "other-long-name-of-a-folder", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "\N{HORIZONTAL ELLIPSIS}" not in compared.stdout.split("On the same environments")[1]
