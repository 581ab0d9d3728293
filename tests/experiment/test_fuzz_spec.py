"""Bent specs and options: a plan, or one sentence before anything is written."""

import json
import shutil
import tomllib

import fuzzing
import pytest
import tomli_w

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import engines

FEW = {"env_steps": 64, "seeds": 2, "evaluations": 1, "requests": 64, "baselines": ["random"]}
SOUND = [
    {
        **FEW,
        "algorithm": "ppo",
        "hypers": {"learning_rate": [1e-3, 1e-2], "clip": 0.1},
        "config": {"num_envs": 4, "rollout_length": 8, "minibatches": 1, "hidden": [8]},
        "params": {"latency_weight": [0.0, 0.01], "seconds_per_word": [0.02, 0.03, 0.03, 0.08]},
        "settings": {"num_replicas": 1, "one_slot": [True, False]},
        "devices": {"agents_per_job": 4, "agents_per_device": "auto", "memory_gib": 4.0, "matmul_precision": "highest"},
        "objective": {"metric": "qos", "statistic": "iqm", "limits": {"latency_s": 12.0}},
    },
    {
        **FEW,
        "algorithm": ["ppo", "dqn"],
        "scenario": ["oneshot", "queueing"],
        "search": {"method": "random", "samples": 3, "seed": 1},
        "hypers": {"discount": {"uniform": [0.5, 0.9]}, "dqn": {"double_q": [True, False], "target_period": 2}},
        "config": {"hidden": {"grid": [[8]]}, "dqn": {"batch_size": 64, "warmup_steps": 32}},
        "params": {"latency_weight": {"uniform": [0.0, 0.05]}, "queueing": {"slot_s": [3.0, 4.0]}},
        "settings": {"queueing": {"fading": "rician"}},
        "stop": {"value": 0.9, "plateau": 3, "min_gain": 0.01},
        "keep": "best",
        "keep_states": True,
        "root_seed": 3,
        "schedule_steps": 128,
    },
    {
        **FEW,
        "algorithm": "dqn",
        "scenario": "fading",
        "seeds": [3, 5],
        "table": "mine.csv",
        "search": {"method": "sobol", "samples": 4},
        "hypers": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "epsilon_end": {"grid": [0.0, 0.1]}},
        "config": {"num_envs": 4, "rollout_length": 8, "replay_capacity": 320, "n_step": 2, "head": "dueling"},
        "params": {"tx_power_dbm": {"each_episode": {"uniform": [-5.0, 5.0]}, "observed": False}},
        "ray": {"num_cpus": 0.5, "resources": {"TPU": 4.0}},
        "relevance": "required",
        "init_from": "policy.safetensors",
        "plugins": ["mine.py"],
    },
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    jaxmoe.load_table().save(path)
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path, table):
    """Where a spec is, with the files that it may name."""
    (tmp_path / "mine.csv").write_bytes(table)
    (tmp_path / "mine.py").write_text("")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    def run(*_):
        raise InputError("it would be trained now")

    monkeypatch.setattr(engines, "run_job", run)


def sound(chance):
    """A spec that can be planned."""
    spec = chance.choice(SOUND)
    return {key: value for key, value in spec.items() if key != "init_from" or chance.random() < 0.1}


def sweep(folder, *arguments):
    done = fuzzing.keeps_the_rule("sweep", "spec.toml", "--out", "out", "--dry-run", *arguments, root=folder)
    assert not (folder / "out").exists()
    return done


def as_toml(spec):
    """A spec as a file has it; nothing where TOML has no such values."""
    try:
        content = tomli_w.dumps(spec).encode()
        tomllib.loads(content.decode())
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None
    return content


@pytest.mark.parametrize("spec", SOUND[:2], ids=["grid", "random"])
def test_what_is_bent_is_sound(folder, spec):
    (folder / "spec.toml").write_bytes(as_toml(spec))
    assert sweep(folder).code == 0


def test_what_is_bent_is_sound_but_for_the_policy(folder):
    (folder / "spec.toml").write_bytes(as_toml({key: SOUND[2][key] for key in SOUND[2] if key != "init_from"}))
    assert sweep(folder).code == 0


@fuzzing.cases(quick=15, whole=300)
def test_bent_files(folder, numbers):
    for chance in fuzzing.each(numbers, "file"):
        spec = sound(chance)
        content = as_toml(fuzzing.bent_document(spec, chance)) if chance.random() < 0.7 else None
        content = content or fuzzing.bent_bytes(as_toml(spec), chance)
        (folder / "spec.toml").write_bytes(content)
        sweep(folder)


@fuzzing.cases(quick=15, whole=300)
def test_bent_overrides(folder, numbers):
    keys = [
        "env_steps", "seeds", "evaluations", "requests", "search.samples", "search.method", "hypers.clip",
        "config.hidden", "config.num_envs", "params.slot_s", "params.ppo.slot_s", "settings.fading", "settings.split",
        "objective.limits.qos", "devices.count", "devices.agents_per_job", "ray.num_cpus", "table", "algorithm",
        "scenario", "keep", "stop", "plugins", "baselines", "hypers", "config", "", ".", "a.b.c",
    ]  # fmt: skip
    (folder / "spec.toml").write_bytes(as_toml(SOUND[0]))
    for chance in fuzzing.each(numbers, "override"):
        texts = [chance.choice(keys) + chance.choice(["=", "=", "=", "", ".", "=="]) + text(chance) for _ in range(2)]
        sweep(folder, *[word for each in texts for word in ("--set", each)])


@fuzzing.cases(quick=15, whole=300)
def test_bent_options(folder, numbers):
    options = [
        "--seeds", "--env-steps", "--evaluations", "--requests", "--root-seed", "--num-envs", "--rollout-length",
        "--hidden", "--minibatches", "--epochs", "--clip", "--learning-rate", "--scenario", "--table", "--init-from",
        "--baselines", "--engine", "--plugin", "--address", "--checkpoint-every", "--set", "--nonsense",
    ]  # fmt: skip
    for chance in fuzzing.each(numbers, "option"):
        words = [word for _ in range(chance.choice([1, 1, 2])) for word in (chance.choice(options), text(chance))]
        done = fuzzing.keeps_the_rule(
            "train", "ppo", "--baselines", "none", "--out", "out", *words, root=folder, out=folder / "out"
        )
        if "would be trained" not in done.error:
            assert not (folder / "out").exists()
        shutil.rmtree(folder / "out", ignore_errors=True)


@fuzzing.cases(quick=10, whole=300)
def test_bent_mappings(folder, numbers, monkeypatch):
    monkeypatch.chdir(folder)
    before = fuzzing.tree(folder)
    for chance in fuzzing.each(numbers, "mapping"):
        spec = fuzzing.bent_document(sound(chance), chance)
        with fuzzing.within_limits():
            try:
                jaxmoe.sweep(spec, folder / "out", compilation_cache=False)
            except InputError as error:
                planned = "would be trained" in str(error)
                fuzzing.assert_one_sentence(f"jaxmoe: {error}")
        assert planned or not (folder / "out").exists()
        shutil.rmtree(folder / "out", ignore_errors=True)
        assert fuzzing.tree(folder) == before


def text(chance):
    """A value as somebody may write it on a command line."""
    value = fuzzing.bent_value(chance)
    if not isinstance(value, str):
        value = json.dumps(value) if chance.random() < 0.8 else str(chance.choice(fuzzing.NUMBERS))
    return value.replace("\0", "")
