"""Algorithms, scenarios and baselines of other people: registered, recorded, imported only where somebody says so."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pandas as pd
import pytest

import jaxmoe
from jaxmoe import plugins
from jaxmoe.algorithms.registry import registered_algorithms, speed
from jaxmoe.env import scenarios
from jaxmoe.env.baselines import BASELINES, random, suited_baselines
from jaxmoe.env.scenarios import settings_of
from jaxmoe.errors import InputError
from jaxmoe.plugins import load_plugins, require_plugins

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"env_steps": 512, "seeds": 2, "evaluations": 1, "requests": 128, "hypers.learning_rate": [3e-3, 1e-2]}
CONFIG = {"config.num_envs": 2, "config.rollout_length": 8, "config.hidden": [8], "config.minibatches": 2}


def alone(*arguments, code=0):
    """A command in a process of its own, in which no plugin is known; what it says."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pqn(tmp_path_factory):
    """The folder of a sweep of PPO and the example algorithm."""
    folder = tmp_path_factory.mktemp("pqn") / "sweep"
    asked = {**SMALL, **CONFIG, "baselines": ["random", "one_slot_optimum"]}
    assert jaxmoe.sweep(EXAMPLES / "pqn.toml", folder, overrides=asked).complete
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of a sweep in the example scenario, beside the example baseline."""
    folder = tmp_path_factory.mktemp("own") / "sweep"
    asked = {**SMALL, **CONFIG, "baselines": ["random", "specialist"], "objective.metric": "qos"}
    assert jaxmoe.sweep(EXAMPLES / "own.toml", folder, overrides=asked).complete
    return folder


# Names


@pytest.mark.parametrize(
    ("register", "name"),
    [
        (lambda name: jaxmoe.register_algorithm(name, None, None, None), "ppo"),
        (lambda name: jaxmoe.register_scenario(name, {}, {"slot_s": 3.0}), "oneshot"),
        (lambda name: jaxmoe.register_baseline(name, random, knows="", deployable=True), "random"),
    ],
)
def test_a_name_is_registered_once_and_is_a_name(register, name):
    with pytest.raises(InputError, match=f"named '{name}' is registered already"):
        register(name)
    for wrong in ("", "my algorithm", "7up", "../x", "naïve"):
        with pytest.raises(InputError, match="cannot name"):
            register(wrong)
    with pytest.raises(InputError, match=f"a reader cannot tell it from '{name}', which is one already"):
        register(name.upper())
    with pytest.raises(InputError, match="it has more than 100 characters"):
        register("x" * 101)


def test_a_scenario_says_what_is_wrong_with_it():
    with pytest.raises(InputError, match="unknown setting 'replicas'"):
        jaxmoe.register_scenario("mine", {"replicas": 2}, {})
    with pytest.raises(InputError, match="parameter slot_s = -1 is outside"):
        jaxmoe.register_scenario("mine", {}, {"slot_s": -1})
    assert "mine" not in scenarios.SCENARIOS


@pytest.mark.slow
def test_an_algorithm_without_a_speed_counts_as_the_slowest(pqn):
    del pqn
    assert "pqn" in registered_algorithms()
    assert speed("pqn", "cpu") == min(speed(name, "cpu") for name in registered_algorithms())


# Importing


def test_what_cannot_be_imported_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"plugin nowhere.py: there is no file .*nowhere.py"):
        load_plugins(["nowhere.py"], tmp_path)
    with pytest.raises(InputError, match=r"plugin 'no.such.module' is neither a file that ends in .py nor a module"):
        load_plugins(["no.such.module"])
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=r"plugin broken.py cannot be imported: ZeroDivisionError"):
        load_plugins(["broken.py"], tmp_path)
    (tmp_path / "twice.py").write_text("import jaxmoe\njaxmoe.register_algorithm('ppo', None, None, None)\n")
    with pytest.raises(InputError, match=r"plugin twice.py: an algorithm named 'ppo' is registered already"):
        load_plugins(["twice.py"], tmp_path)


def test_a_file_is_imported_once_and_not_after_it_has_changed(tmp_path):
    (tmp_path / "counting.py").write_text("import sys\nsys.counting = getattr(sys, 'counting', 0) + 1\n")
    try:
        first, again = load_plugins(["counting.py"], tmp_path), load_plugins([str(tmp_path / "counting.py")])
        assert first == again
        assert sys.counting == 1
        (tmp_path / "counting.py").write_text("pass\n")
        with pytest.raises(InputError, match="has changed since this process imported it"):
            load_plugins(["counting.py"], tmp_path)
    finally:
        del sys.counting


def test_another_version_is_not_taken_for_the_recorded_one(tmp_path):
    (tmp_path / "versioned.py").write_text("__version__ = '2'\n")
    [plugin] = load_plugins(["versioned.py"], tmp_path)
    assert (plugin.name, plugin.version) == ("versioned.py", "2")
    require_plugins([plugin._asdict()], "here")
    with pytest.raises(InputError, match=r"here was planned with the plugin versioned.py 0000.* another version"):
        require_plugins([{**plugin._asdict(), "digest": "0" * 64}], "here")


# An algorithm


@pytest.mark.slow
def test_an_experiment_records_its_plugins(pqn):
    [recorded] = json.loads((pqn / "experiment.json").read_text())["plugins"]
    assert recorded["name"] == "pqn.py"
    assert recorded["source"] == str(EXAMPLES / "pqn.py")
    experiment = jaxmoe.load(pqn)
    assert set(experiment.results["algorithm"]) == {"ppo", "pqn"}
    assert not experiment.results["diverged"].any()
    assert {job.signature.plugins for job in experiment.contents.jobs} == {(f"pqn.py {recorded['digest'][:12]}",)}


@pytest.mark.slow
def test_a_plugin_may_be_moved_but_not_changed(pqn, tmp_path):
    asked = {**SMALL, **CONFIG, "baselines": ["random", "one_slot_optimum"]}
    text = (EXAMPLES / "pqn.toml").read_text()
    (tmp_path / "spec.toml").write_text(text)
    (tmp_path / "pqn.py").write_bytes((EXAMPLES / "pqn.py").read_bytes() + b"\n")
    with pytest.raises(InputError, match="an algorithm named 'pqn' is registered already"):
        jaxmoe.sweep(tmp_path / "spec.toml", pqn, overrides=asked)
    again = jaxmoe.sweep(EXAMPLES / "pqn.toml", pqn, overrides=asked)
    assert again.complete


@pytest.mark.slow
def test_who_only_reads_imports_no_plugin(pqn, tmp_path):
    assert "done; 8 of 8 agents trained" in alone("-m", "jaxmoe", "status", pqn)
    assert "report.html" in alone("-m", "jaxmoe", "report", pqn)
    assert "PQN" in alone("-m", "jaxmoe", "compare", pqn)
    agent = int(jaxmoe.load(pqn).results.query("algorithm == 'pqn'")["agent"].iloc[0])
    out = tmp_path / "policy.safetensors"
    alone("-m", "jaxmoe", "export", pqn, "--agent", agent, "--out", out)
    contract = json.loads((tmp_path / "policy.json").read_text())
    assert (contract["algorithm"], contract["preferences"]) == ("pqn", "action_values")
    said = alone(
        "-c", f"import jaxmoe, sys; print(jaxmoe.load_policy({str(out)!r}), 'jax' in sys.modules, 'pqn' in sys.modules)"
    )
    assert said.split()[-2:] == ["False", "False"]


@pytest.mark.slow
def test_who_goes_on_imports_it_only_if_it_is_named_or_trusted(pqn, tmp_path):
    copy = tmp_path / "copy"
    jaxmoe.load(pqn).save(copy)
    said = alone("-m", "jaxmoe.training.worker", copy, 1, code=2)
    assert "needs the plugin pqn.py, which is imported only if you name it" in said
    (copy / "jobs/000001/done.json").unlink()
    alone("-m", "jaxmoe.training.worker", copy, 1, "--trust-plugins")
    assert (copy / "jobs/000001/done.json").is_file()
    script = "import jaxmoe, sys; jaxmoe.load(sys.argv[1], plugins=sys.argv[2:]).extend(seeds=3)"
    alone("-c", script, copy, EXAMPLES / "pqn.py")
    assert len(jaxmoe.load(copy).results) == 12


# A scenario and a baseline


@pytest.mark.slow
def test_a_baseline_of_ones_own_is_evaluated_and_reported(own):
    experiment = jaxmoe.load(own)
    policies = experiment.comparison().query("metric == 'qos' and split == 'train'").set_index("policy")["mean"]
    assert policies["specialist"] > policies["random"]
    assert experiment.tables.families["specialist"].deployable
    assert "relevance, and who is idle" in experiment.report().files["report.html"].decode()


@pytest.mark.slow
def test_a_scenario_of_ones_own_is_read_where_nobody_has_registered_it(own, tmp_path, monkeypatch):
    known = {name: scenario for name, scenario in scenarios.SCENARIOS.items() if name != "campus"}
    monkeypatch.setattr(scenarios, "SCENARIOS", known)
    jaxmoe.load(own).policy().save(tmp_path / "policy.safetensors")
    policy = jaxmoe.load_policy(tmp_path / "policy.safetensors")
    assert policy.contract.scenario["name"] == "campus"
    assert policy.contract.num_replicas == 2
    assert "campus" in known


def test_baselines_of_ones_own_suit_some_scenarios(monkeypatch):
    monkeypatch.setattr("jaxmoe.env.baselines.BASELINES", dict(BASELINES))
    jaxmoe.register_baseline(
        "zero", random, knows="nothing", deployable=True, applies=lambda settings: settings.one_slot
    )
    assert "zero" in suited_baselines(settings_of("oneshot", {}))
    assert "zero" not in suited_baselines(settings_of("queueing", {}))


@pytest.mark.slow
def test_the_example_without_a_folder_learns(capsys, monkeypatch):
    plugins.load_plugins([str(EXAMPLES / "cartpole.py")])
    module = next(each for name, each in sys.modules.items() if name.startswith("jaxmoe_plugin_cartpole"))
    monkeypatch.setattr(sys, "argv", ["cartpole.py", "--agents", "2", "--steps", "20000"])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # gymnax mixes kinds of numbers
        module.main()
    said = capsys.readouterr().out
    assert float(said.split("episodes of ")[1].split()[0]) > 100  # a random policy falls after 22 steps


@pytest.mark.slow
def test_tables_of_both_are_one_table(pqn):
    frame = jaxmoe.load(pqn).curves
    assert isinstance(frame, pd.DataFrame)
    assert frame.groupby("algorithm")["train_qos"].count().min() > 0


ENDINGS = {
    "import sys\nsys.exit(0)": "SystemExit: 0",
    "class Odd(BaseException): pass\nraise Odd('x')": "Odd: x",
    "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute": "Mute:",
}


@pytest.mark.parametrize("code", ENDINGS)
def test_a_plugin_that_ends_the_process_or_says_nothing_is_one_sentence(tmp_path, code):
    path = tmp_path / "odd.py"
    path.write_text(code)
    with pytest.raises(InputError, match=f"odd.py cannot be imported: {ENDINGS[code]}"):
        load_plugins([str(path)])


def test_links_that_lead_to_each_other_are_no_plugin(tmp_path):
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    with pytest.raises(InputError, match=r"loop.py: .* leads nowhere"):
        load_plugins([str(tmp_path / "loop.py")])
