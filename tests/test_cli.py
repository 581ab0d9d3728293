"""The command line as a user meets it: what it prints, exit codes, one sentence for bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import run as command

import jaxmoe

SIZES = ["--num-envs", "4", "--rollout-length", "8", "--epochs", "1", "--minibatches", "1", "--hidden", "8"]
FEW = ["--evaluations", "1", "--requests", "64", "--baselines", "random,one_slot_optimum"]


def in_a_process(*arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "jaxmoe", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def succeeds(*arguments, cwd=None):
    """What a command prints that ends well."""
    done = command(*arguments, cwd=cwd)
    assert done.code == 0, done.stderr
    return done.stdout


def test_version_of_a_real_process():
    assert in_a_process("--version") == (0, f"{jaxmoe.__version__}\n", "")


def test_a_real_process_ends_with_one_sentence_and_exit_code_2(tmp_path):
    code, printed, complaint = in_a_process("status", "nowhere", cwd=tmp_path)
    assert (code, printed) == (2, "")
    assert complaint == f"jaxmoe: {tmp_path / 'nowhere'}: there is no such folder\n"


def test_help_does_not_start_jax():
    script = "import sys; sys.argv = ['jaxmoe', '--help']\nfrom jaxmoe.cli import main\n"
    script += "try: main()\nexcept SystemExit: pass\nprint('jax' in sys.modules, 'openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_help_lists_the_commands():
    printed = succeeds("--help")
    for name in ("collect", "table", "train", "sweep", "extend", "status", "best", "confirm", "compare", "report"):
        assert f" {name} " in printed
    assert " merge " not in printed


def test_train_offers_hyperparameters_and_configuration_as_options():
    printed = succeeds("train", "ppo", "--help")
    for option in ("--scenario", "--seeds", "--env-steps", "--steps", "--out", "--learning-rate", "--entropy-coef"):
        assert option in printed
    for option in ("--hidden", "--requests", "--baselines", "--time-budget", "--checkpoint-every", "--init-from"):
        assert option in printed


def test_the_shipped_table_is_checked_and_shown():
    assert "32 prompts (16 train, 8 validation, 8 test), 16 subsets each" in succeeds("table", "check")
    shown = succeeds("table", "show", "--experts", "action,setting")
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["local", "action", "setting", "action+setting"]


def test_a_table_is_built_and_never_overwritten(tmp_path):
    out = tmp_path / "table.csv"
    source = "data/stories"
    succeeds("table", "build", source, "--out", out)
    assert jaxmoe.load_table(out).meta.digest == jaxmoe.load_table().meta.digest
    out.write_text("precious")
    again = command("table", "build", source, "--out", out)
    assert (again.code, out.read_text()) == (2, "precious")


def test_a_table_is_reported(tmp_path):
    succeeds("table", "report", "data/stories", "--out", tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()


KEYS = ("hypers.clip=0.1", "config.epochs=2", "params.latency_weight=0.01", "objective.statistic=iqm", "seeds=[3,5]")
CHANGED = [text for key in KEYS for text in ("--set", key)]
TRAIN = ["train", "ppo", "--steps", "64", *SIZES, *FEW, *CHANGED, "--out", "run"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where `train` has made the folder `run`, and what it has said."""
    where = tmp_path_factory.mktemp("trained")
    done = command(*TRAIN, cwd=where)
    assert done.code == 0, done.stderr
    return where, done


def test_train_says_how_it_goes_and_what_it_has_found(trained):
    where, done = trained
    assert "ppo (2 agents)" in done.stdout
    assert "one_slot_optimum" in done.stdout
    assert "2 agents, 64 env steps each" in done.stdout
    assert f"tables and policies: {where / 'run'}" in done.stdout
    assert "\x1b" not in done.stderr
    assert "64 of 64 env steps each" in done.stderr
    assert pd.read_parquet(where / "run" / "results.parquet")["seed"].tolist() == [3, 5]


def test_train_takes_keys_of_the_spec(trained):
    where, _ = trained
    spec = json.loads((where / "run" / "experiment.json").read_text())["spec"]
    assert spec["hypers"] == {"clip": 0.1}
    assert (spec["config"]["epochs"], spec["config"]["hidden"]) == (2, [8])
    assert (spec["params"], spec["objective"]["statistic"]) == ({"latency_weight": 0.01}, "iqm")


def test_what_was_trained_is_exported_and_evaluated(trained, tmp_path):
    where, _ = trained
    run = where / "run"
    exported = succeeds("export", run, "--agent", "1", "--out", "policy.safetensors", cwd=tmp_path)
    assert exported.startswith("ppo in oneshot, agent 1 (seed 5): train QoS 0.")
    assert {path.name for path in tmp_path.iterdir()} == {"policy.safetensors", "policy.json"}
    alone = ["evaluate", "--policy", "policy.safetensors", "--requests", "64", "--baselines", "none"]
    assert "policy.safetensors" in succeeds(*alone, cwd=tmp_path)
    evaluated = succeeds("evaluate", run, *FEW[2:], "--out", "found.csv", cwd=tmp_path)
    assert "ppo (2 agents)" in evaluated
    assert set(pd.read_csv(tmp_path / "found.csv")["split"]) == {"train", "validation", "test"}


def as_json(*arguments, cwd=None):
    """What a command prints as JSON, and nothing else."""
    done = command(*arguments, "--json", cwd=cwd)
    assert done.code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout, parse_constant=pytest.fail)


def test_what_is_printed_is_there_as_json(trained, tmp_path):
    where, _ = trained
    results = pd.read_parquet(where / "run" / "results.parquet")
    found = as_json(*TRAIN, cwd=where)
    assert (found["folder"], found["complete"], found["agents"]) == (str(where / "run"), True, 2)
    assert found["ranking"][0]["seeds"] == 2
    rows = [row for row in found["comparison"] if (row["split"], row["metric"]) == ("train", "qos")]
    own = next(row for row in rows if row["policy"] == "ppo (2 agents)")
    assert own["mean"] == pytest.approx(results["train_qos"].mean(), abs=1e-6)
    assert len(repr(own["mean"])) > 10
    assert {row["configuration"] for row in rows} == {0, None}
    told = as_json("status", "run", cwd=where)
    assert (told["trained"], told["best"][0]["scenario"]) == (2, "oneshot")
    best = as_json("best", "run", cwd=where)
    assert (best["algorithm"], best["best_agent"] in (0, 1)) == ("ppo", True)
    exported = as_json("export", "run", "--out", tmp_path / "policy.safetensors", cwd=where)
    assert exported["agents"][0]["agent"]["number"] == best["best_agent"]
    assert "qos" in exported["agents"][0]["evaluation"]["train"]


def test_tables_and_evaluations_are_there_as_json():
    checked = as_json("table", "check")
    assert (checked["prompts"], checked["subsets"]) == (32, 16)
    assert checked["splits"] == {"train": 16, "validation": 8, "test": 8}
    assert len(as_json("table", "show")["subsets"]) == 16
    rows = as_json("evaluate", *FEW[2:], "--quiet")["comparison"]
    assert {row["policy"] for row in rows} == {"random", "one_slot_optimum"}


@pytest.mark.slow
def test_what_is_written_is_named_as_json(trained, tmp_path):
    """Commands that write something for people say to programs what and where."""
    where, _ = trained
    shutil.copytree(where / "run", run := tmp_path / "run")
    page = as_json("report", run)
    assert Path(page["report"]).is_file()
    assert page["figures"] == len(list((run / "report").glob("**/*.png")))
    assert any("PPO" in sentence for sentence in page["sentences"])
    more = as_json("extend", run, "--seeds", "3,5,8")
    assert (more["complete"], more["agents"], more["ranking"][0]["seeds"]) == (True, 3, 3)
    pages = as_json("table", "report", "--out", tmp_path / "page")
    assert Path(pages["report"]).parent == tmp_path / "page"
    built = as_json("table", "build", "data/stories", "--out", tmp_path / "built.parquet")
    assert (built["table"], built["prompts"]) == (str(tmp_path / "built.parquet"), 32)
    assert built["experts"] == list(jaxmoe.load_table(tmp_path / "built.parquet").experts)


def test_quiet_says_nothing_on_standard_error(trained):
    where, _ = trained
    assert command(*TRAIN, "--quiet", cwd=where).stderr == ""
    assert command("evaluate", *FEW[2:], "--quiet").stderr == ""  # baselines included


def test_train_without_a_folder_prints_and_keeps_nothing(tmp_path):
    printed = succeeds(*TRAIN[: TRAIN.index("--out")], cwd=tmp_path)
    assert "ppo (2 agents)" in printed
    assert "tables and policies" not in printed
    assert list(tmp_path.iterdir()) == []


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
        (["train", "ppo", "--out", "run", "--set", "latency"], "--set 'latency' is not of the form KEY=VALUE"),
        (
            ["train", "ppo", "--set", "latency_weight=1"],
            "unknown key 'latency_weight'; allowed are algorithm, scenario",
        ),
        (["train", "ppo", "--set", "params.latency=1"], "latency"),
        (["train", "ppo", "--set", "hypers.clip=[0.1,0.2]"], "clip"),
        (["train", "ppo", "--set", "hypers.clip={grid=[0.1,0.2]}"], "is an axis; train has one configuration"),
        (
            ["train", "ppo", "--set", "hypers.ppo.clip=0.1"],
            "--set hypers.ppo.clip is not possible here; the key must be",
        ),
        (["train", "ppo", "--set", "config.hidden=8"], "configuration hidden = 8 is not of the kind of its default"),
        (["train", "ppo", "--set", "search.samples=3"], "train has one configuration, sweep has many"),
        (["train", "ppo", "--set", "scenario=fading"], "--set scenario is not possible here; write --scenario"),
        (["train", "ppo", "--set", "objective.metric=luck"], "an evaluation has no metric 'luck'"),
        (["evaluate", "--set", "latency_weight=1"], "the key must be params.NAME or settings.NAME"),
        (["evaluate", "--set", "params.latency_weight=[1,2]"], "latency_weight"),
        (["generate", "A", "--snr-db", "1", "--set", "settings.num_replicas=2"], "the key must be params.NAME"),
        (["train", "ppo", "--out", "run", "--hidden", "64,x"], "--hidden '64,x' is not a whole number"),
        (["train", "ppo", "--out", "run", "--baselines", "oracle"], "unknown baseline 'oracle'; choose among"),
        (["train", "ppo", "--out", "run", "--time-budget", "soon"], "--time-budget 'soon' is no time; write 90, 90s"),
        (["train", "ppo", "--out", "run", "--init-from", "p.safetensors"], "p.json: there is no such file"),
        (["evaluate", "nowhere"], "nowhere: there is no such folder"),
        (["evaluate", "--policy", "policy.pickle"], "--policy policy.pickle ends in none of .safetensors, .stablehlo"),
        (["evaluate", "--policy", "policy.onnx"], "policy.onnx.json: there is no such file"),
        (["evaluate", "run", "--policy", "policy.onnx"], "say either the experiment run or --policy policy.onnx"),
        (["evaluate", "--out", "found.txt"], "found.txt ends neither in .csv nor in .parquet"),
        (
            ["evaluate", "--set", "settings.num_replicas=many"],
            "num_replicas = 'many' is not allowed; choose one of 1, 2",
        ),
        (["evaluate", "--requests", "0"], "requests = 0 must be at least 1"),
        (["export", "nowhere", "--out", "policy.onnx"], "nowhere: there is no such folder"),
        (["export", "nowhere", "--out", "policy.pkl"], "policy.pkl ends in none of .safetensors, .stablehlo, .onnx"),
        (["export", "nowhere", "--out", "a.onnx", "--agent", "x"], "--agent 'x' is not best, all or the number"),
        (["export", "nowhere", "--out", "a.onnx", "--format", "stablehlo"], "--out a.onnx does not end in .stablehlo"),
        (["sweep", "nowhere.toml", "--out", "run"], "nowhere.toml: there is no such file"),
        (["sweep", "nowhere.toml"], "--out DIR says where the experiment is kept; it is missing"),
        (["extend", "nowhere", "--seeds", "3"], "nowhere: there is no such folder"),
        (["report", "nowhere"], "nowhere: there is no such folder"),
        (["status", "nowhere"], "nowhere: there is no such folder"),
        (["compare", "nowhere"], "nowhere: there is no such folder"),
        (["compare", "nowhere", "--out", "found.txt"], "found.txt ends neither in .csv nor in .parquet"),
        (["best", "nowhere"], "nowhere: there is no such folder"),
        (["confirm", "nowhere"], "nowhere: there is no such folder"),
        (["status", "."], "holds no experiment: there is no experiment.json in it"),
        (["table", "report", "nowhere", "--out", "run"], "nowhere: there is no such file or folder"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    done = command(*arguments, cwd=tmp_path)
    assert done.code == 2
    assert done.stderr.startswith("jaxmoe: ")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


SPEC = """
algorithm = "ppo"
env_steps = 64
seeds = 2
evaluations = 1
requests = 64
baselines = ["random", "one_slot_optimum"]
[hypers]
learning_rate = [1e-3, 1e-2]
[config]
num_envs = 4
rollout_length = 8
epochs = 1
minibatches = 1
hidden = [8]
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path / "spec.toml"


@pytest.mark.slow
def test_a_sweep_is_judged_reported_compared_and_its_winner_trained_again(tmp_path, spec):
    for name, change in (("one", "hypers.clip=0.2"), ("other", "hypers.clip=0.1")):
        succeeds("sweep", spec, "--out", name, "--set", change, cwd=tmp_path)
    told = succeeds("status", "one", cwd=tmp_path)
    assert told.startswith("one: done; 4 of 4 agents trained, baselines evaluated in 1 of 1 environments")
    best = succeeds("best", "one", cwd=tmp_path)
    assert best.startswith("oneshot: PPO with learning rate 0.")
    assert "jaxmoe export one --agent best --out policy.safetensors" in best
    again = as_json("confirm", "one", "--seeds", "2", "--quiet", cwd=tmp_path)
    assert again["fresh"]["test"]["low"] <= again["fresh"]["test"]["mean"]
    confirmed = succeeds("confirm", "one", "--seeds", "2", cwd=tmp_path)
    assert "train prompts, 2 fresh seeds" in confirmed
    assert "change on validation prompts" in confirmed
    assert "report: one/report/report.html" in succeeds("report", "one", cwd=tmp_path)
    compared = succeeds("compare", "one", "other", "--out", "found.csv", cwd=tmp_path)
    assert "probability that an agent of the first beats one of the second" in " ".join(compared.split())
    assert [pair["split"] for pair in as_json("compare", "one", "other", cwd=tmp_path)["pairs"]] == [
        "train",
        "validation",
        "test",
    ]
    assert sorted(pd.read_csv(tmp_path / "found.csv")["name"]) == ["one ppo oneshot", "other ppo oneshot"]


def test_sweep_then_sweep_again_then_extend(tmp_path, spec):
    planned = succeeds("sweep", spec, "--dry-run", cwd=tmp_path)
    assert planned.startswith("4 agents, from 2 configurations and 2 seeds\n1 compilation of a training program")
    assert "4 agents of 64 env steps and " in planned
    assert as_json("sweep", spec, "--dry-run", cwd=tmp_path)["plan"][0] == planned.splitlines()[0]
    assert "their final states, " in planned
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]
    for index in "01":
        printed = succeeds("sweep", spec, "--out", "run", "--shard", f"{index}/2", cwd=tmp_path)
    assert "oneshot: the best 2 of 2 configurations, by the mean " in printed
    assert "4 agents, 64 env steps each" in printed
    refused = command("sweep", spec, "--out", "run", "--set", "seeds=3", cwd=tmp_path)
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
    assert "run holds another experiment: seeds was 2 and is now 3" in refused.stderr
    assert succeeds("sweep", spec, "--out", "run", cwd=tmp_path) == printed
    assert "6 agents, 64 env steps each" in succeeds("extend", "run", "--seeds", "3", cwd=tmp_path)
    assert "6 agents, 64 env steps each" in succeeds("sweep", spec, "--out", "run", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("merge a b --out c", "processes with --shard i/n share one folder"),
        ("best x --fresh-seeds 3", "jaxmoe confirm x --seeds 3"),
        ("train ppo --slots 3", "--slots is gone; write --requests 3"),
        ("evaluate --slots=3", "--slots is gone; write --requests 3"),
        ("evaluate --references none", "--references is gone; write --baselines none"),
        ("train ppo --param latency_weight=1", "--param is gone; write --set params.latency_weight=1"),
        ("train ppo --setting=num_replicas=2", "--setting is gone; write --set settings.num_replicas=2"),
        ("evaluate x --param latency_weight=1", "--param is gone; write --set params.latency_weight=1"),
        ("generate x --param", "--param is gone; write --set params.VALUE"),
        ("sweep x --chunk 3", "Usage: "),
    ],
)
def test_what_older_versions_had_is_refused_with_a_word_of_help(words, said):
    done = command(*words.split())
    assert done.code == 2
    assert said in done.stderr
