"""Experiments over networks: devices that differ or are down, numbers that episodes draw, files of scenarios."""

import json
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
import tiny
from networks import SECONDS, seven
from trained_cases import case

import jaxmoe
from jaxmoe.env.actions import device_choices
from jaxmoe.env.scenarios import SCENARIOS
from jaxmoe.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")

ANEW = {"each_episode": {"uniform": [0.01, 0.08]}}
SLOTS = {"each_episode": {"uniform": [3.0, 5.0]}}
FEW = {"env_steps": 256, "seeds": 2, "requests": 128, "evaluations": 1, "config": tiny.CONFIG, "baselines": ["random"]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two networks of seven devices, from files."""
    folder = tmp_path_factory.mktemp("seven")
    seven(folder)
    slower = [2 * each for each in SECONDS]
    spec = {
        "algorithm": "ppo", **FEW, "scenario": "seven.toml", "table": "seven.csv",
        "params": {"seconds_per_word": {"grid": [SECONDS, slower]}},
    }  # fmt: skip
    path = folder / "spec.toml"
    tiny.spec_file(path, spec)
    found = tiny.command("sweep", path, "--out", folder / "out")
    assert found.code == 0, found.error
    return folder, slower


def test_a_sweep_runs_over_a_network_out_of_a_file_with_lists_as_an_axis(swept):
    folder, slower = swept
    exp = jaxmoe.load(folder / "out")
    assert exp.complete
    assert set(exp.results["scenario"]) == {"seven"}
    lists = exp.results["seconds_per_word"].map(lambda cell: [float(each) for each in cell.split(",")]).tolist()
    assert sorted(map(tuple, lists)) == sorted(2 * [tuple(SECONDS), tuple(slower)])
    mean = exp.results.groupby("seconds_per_word")["train_latency_s"].mean()
    assert len(mean) == 2
    about = json.loads((folder / "out" / "experiment.json").read_text())
    assert about["scenarios"]["seven"]["params"]["tx_power_dbm"][0] == 3.0


def test_the_folder_needs_no_file_of_the_scenario(swept, tmp_path):
    folder, _ = swept
    code = (
        "import sys, jaxmoe; exp = jaxmoe.load(sys.argv[1]); exp.policy(0).save(sys.argv[2])\n"
        "found = exp.evaluate(agents=[0], requests=128, baselines='none').query('metric == [\"qos\"]')\n"
        "print(found['mean'].notna().all())"
    )
    moved = folder / "seven.toml"
    kept = moved.read_text()
    moved.unlink()
    try:
        call = [sys.executable, "-c", code, folder / "out", tmp_path / "policy.safetensors"]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
    finally:
        moved.write_text(kept)
    assert done.stdout.split() == ["True"]
    policy = jaxmoe.load_policy(tmp_path / "policy.safetensors")
    assert policy.contract.scenario["params"]["seconds_per_word"] == SECONDS
    trained = policy.contract.scenario["params"]["device_up_probability"]
    assert trained == [1.0, 0.95, 0.9, 0.9, 0.8, 0.7, 0.5]


def test_another_network_of_the_same_name_is_another_experiment(swept):
    folder, _ = swept
    file = folder / "seven.toml"
    kept = file.read_text()
    file.write_text(kept.replace("queueing", "fading"))
    try:
        here = tiny.command("sweep", folder / "spec.toml", "--out", folder / "out")
        with tiny.process("sweep", folder / "spec.toml", "--out", folder / "out") as process:
            _, said = process.communicate()
    finally:
        file.write_text(kept)
    assert (here.code, process.returncode) == (2, 2)
    assert "another scenario named 'seven' is registered already" in here.error  # this process has read the file
    assert "was begun with other numbers or settings of seven; choose another output folder" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("colour = 1", "unknown key 'colour'; allowed are scenario, [settings] and [params]"),
        ("scenario = 'none'", "scenario = 'none' is unknown; choose one of oneshot"),
        ("params = 3", "settings and params are sections"),
        ("[params]\nslot_s = -1", "parameter slot_s = -1 is outside"),
        ("[settings]\ndrawn = 3", "unknown setting 'drawn'"),
        ("[params", "this is not TOML"),
        ("[params]\nslot_s = " + "9" * 5000, "a number in it is too long, or its lists are too deep"),
        ("[params]\nslot_s = " + "[" * 5000 + "]" * 5000, "a number in it is too long, or its lists are too deep"),
    ],
)
def test_a_file_that_describes_no_scenario_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    for call in (["scenario", "show", path], ["train", "ppo", "--scenario", path]):
        found = tiny.command(*call)
        assert found.code == 2
        assert message in found.error
        assert str(path) in found.error
    assert "mine" not in SCENARIOS


def test_a_file_may_not_have_the_name_of_another_scenario(tmp_path):
    path = tmp_path / "queueing.toml"
    path.write_text("[params]\nslot_s = 3.0")
    with pytest.raises(InputError, match="another scenario named 'queueing' is registered already"):
        jaxmoe.make(path)


def test_a_file_may_not_have_the_name_of_a_number(tmp_path):
    path = tmp_path / "slot_s.toml"
    path.write_text("scenario = 'queueing'")
    with pytest.raises(InputError, match="'slot_s' is a number of every scenario, and cannot name one"):
        jaxmoe.make(path)


def test_another_number_is_another_experiment_and_both_are_said(tmp_path):
    given = ["train", "ppo", "--scenario", "queueing", "--seeds", 1, "--env-steps", 64, "--requests", 64]
    given += ["--baselines", "none", "--num-envs", 4, "--rollout-length", 8, "--hidden", 8, "--out", tmp_path / "out"]
    assert tiny.command(*given, "--set", "params.tx_power_dbm=[1, 2, 3, 4]").code == 0
    found = tiny.command(*given, "--set", "params.tx_power_dbm={ each_episode = { uniform = [1, 2] } }")
    assert found.code == 2
    assert "tx_power_dbm was [1, 2, 3, 4] and is now {'each_episode': {'uniform': [1, 2]}}" in found.error
    found = tiny.command(*given, "--set", f"params.tx_power_dbm={'9' * 5000}")
    assert (found.code, "the value is too long a number, or too deep" in found.error) == (2, True)


def test_a_scenario_is_shown(tmp_path):
    path = tmp_path / "my-net.toml"
    path.write_text("scenario = 'queueing'\n[params]\nseconds_per_word = [0.01, 0.02, 0.03, 0.04]\nslot_s = 4.0")
    said = json.loads(tiny.command("scenario", "show", path, "--json").out)
    assert (said["name"], said["begins_with"], said["settings"]) == ("my_net", "queueing", [])
    [row] = said["params"]
    assert (row["number"], row["value"], row["instead of"]) == ("seconds_per_word", [0.01, 0.02, 0.03, 0.04], 0.035)
    whole = json.loads(tiny.command("scenario", "show", "queueing", "--json").out)
    numbers = {row["number"]: row for row in whole["params"]}
    assert set(numbers) == set(jaxmoe.env.params.NUMBERS)
    assert all(row["unit"] and row["meaning"] and len(row["limits"]) == 2 for row in numbers.values())
    assert numbers["latency_weight"]["value"] == 0.02
    printed = tiny.command("scenario", "show", "queueing").out
    assert "time between two requests" in printed
    assert "link_budget" in printed


# Drawn anew


def test_agents_are_trained_in_networks_drawn_anew_and_told_or_not(tmp_path):
    hidden = {**ANEW, "observed": False}
    spec = {
        "algorithm": "ppo", **FEW, "scenario": "queueing",
        "params": {"seconds_per_word": {"grid": [ANEW, hidden, 0.035]}, "slot_s": SLOTS},
        "baselines": ["random", "predict_then_optimise"], "devices": {"agents_per_device": 2},
    }  # fmt: skip
    exp = jaxmoe.sweep(spec, tmp_path / "out")
    cells = exp.results["seconds_per_word"].unique().tolist()
    assert cells == [
        "{ each_episode = { uniform = [0.01, 0.08] } }",
        "{ each_episode = { uniform = [0.01, 0.08] }, observed = false }",
        "0.035",
    ]
    inputs = [len(agent.tensors["layer0/kernel"]) for agent in exp.agents()]
    assert inputs == [22 + 4] * 2 + [22] * 4
    networks = [
        {"seconds_per_word": {"each_episode": {"choice": [each]}}, "slot_s": {"each_episode": {"choice": [5.0]}}}
        for each in ([0.02] * 4, [0.01, 0.02, 0.05, 0.08])
    ]
    few = {"agents": [0], "requests": 128, "baselines": "none"}
    told = [exp.evaluate(params=each, **few) for each in networks]
    assert told[0]["mean"].tolist() != told[1]["mean"].tolist()
    with pytest.raises(InputError, match="observes 26 numbers, and the environment has 22"):
        exp.evaluate(params={"seconds_per_word": 0.03}, **few)
    again = jaxmoe.load(tmp_path / "out").extend(seeds=3)
    assert again.complete
    at_once = jaxmoe.sweep({**spec, "seeds": 3}, tmp_path / "once")
    pd.testing.assert_frame_equal(
        again.results.drop(columns=["agent", "job"]), at_once.results.drop(columns=["agent", "job"])
    )
    policy = exp.policy(0)
    assert [field.name for field in policy.contract.observation[-2:]] == ["seconds_per_word", "slot_s"]
    assert policy.contract.scenario["params"]["seconds_per_word"] == ANEW
    loaded = jaxmoe.load_policy(policy.save(tmp_path / "policy.safetensors"))
    chosen = loaded.select(
        relevance=[0.5] * 4,
        snr_db=[10.0] * 4,
        backlog_s=[0.0] * 4,
        battery_j=100.0,
        seconds_per_word=[0.02] * 4,
        slot_s=5.0,
    )
    assert 0 <= chosen.action < 16
    for network, expected in zip(networks, told, strict=True):  # exported it sees the network as the agent does
        found = jaxmoe.evaluate(loaded, params=network, requests=128, baselines="none")
        np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-6)


# Devices that are down


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac"])
def test_no_trained_policy_chooses_a_device_that_is_down(algorithm):
    trained = case(algorithm, "queueing", params=(("device_up_probability", 0.7),))
    observations = trained.observations(100_000)
    available = observations[:, 17:21] > 0.5
    assert 0.65 < available.mean() < 0.75
    chosen = device_choices(trained.env.settings)[trained.preferences(observations).argmax(axis=1)]
    assert not np.any(chosen & ~available)
    assert chosen.any(axis=1).mean() > 0.3
    keys = jax.random.split(jax.random.key(0), 2000)
    explored = jax.vmap(trained.algorithm.act, (None, 0, 0))(trained.policy, observations[:2000], keys)
    assert not np.any(device_choices(trained.env.settings)[np.asarray(explored)] & ~available[:2000])


def test_agents_trained_where_all_devices_are_up_ask_none_that_is_down(trained_folder):
    exp = jaxmoe.load(trained_folder)
    found = exp.evaluate(agents="all", requests=256, params={"device_up_probability": 0.0}, baselines="none")
    asked = found[found["metric"].str.startswith("share_")]
    assert len(asked) == 12
    assert not asked["mean"].any()  # or else it could not be masked


def test_a_policy_goes_on_where_nobody_knows_its_scenario(tmp_path):
    """Its contract says all of it."""
    said = {"device_up_probability": [1, 1, 1, 0.5], "slot_s": {"each_episode": {"uniform": [3.0, 5.0]}}}
    path = tmp_path / "unknown.toml"
    path.write_text("scenario = 'fading'\n[settings]\nfading = 'rician'\nsharing = 'shared'")
    config = {**tiny.CONFIG, "hidden": (8,)}
    few = {"seeds": 1, "env_steps": 256, "requests": 128, "evaluations": 1, "baselines": "none"}
    policy = jaxmoe.train("ppo", path, params=said, config=config, **few).policy(0).save(tmp_path / "p.safetensors")
    code = (
        "import sys, jaxmoe\n"
        "print(*jaxmoe.evaluate(sys.argv[1], requests=128, baselines='none')['mean'].head(1))\n"
        "few = dict(seeds=1, env_steps=256, requests=128, evaluations=1, baselines='none')\n"
        "exp = jaxmoe.train(init_from=sys.argv[1], **few)\n"
        "print(exp.spec.scenario, exp.spec.settings, exp.spec.params['slot_s'], exp.complete)"
    )
    done = subprocess.run([sys.executable, "-c", code, policy], capture_output=True, text=True, check=True)
    evaluated, said = done.stdout.splitlines()
    here = jaxmoe.evaluate(policy, requests=128, baselines="none")["mean"].iloc[0]
    assert float(evaluated) == pytest.approx(here, rel=1e-6)
    assert "'fading': 'rician'" in said
    assert "'each_episode': {'uniform': [3.0, 5.0]}" in said
    assert said.startswith("['oneshot']")
    assert said.endswith("True")
