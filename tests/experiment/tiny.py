"""A small experiment, and what is in folders."""

import json
from pathlib import Path

import pandas as pd
from command_line import run as command
from command_line import start as process
from snapshot import contents

import jaxmoe
from jaxmoe.experiment.spec import load_spec

__all__ = ["command", "contents", "process"]

TABLES = ("results", "curves", "comparison")
CONFIG = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [8]}
SPEC = {  # 12 agents in one job, and two environments
    "algorithm": "ppo",
    "env_steps": 512,
    "seeds": 3,
    "evaluations": 2,
    "requests": 256,
    "baselines": ["random", "one_slot_optimum"],
    "hypers": {"learning_rate": [1e-3, 1e-2]},
    "config": CONFIG,
    "params": {"latency_weight": [0.0, 0.01]},
    "devices": {"agents_per_job": 16},
}
ALONE = {  # one configuration in one environment, of the same program
    "seeds": 3,
    "env_steps": 512,
    "config": {**CONFIG, "hidden": (8,)},
    "params": {"latency_weight": 0.0},
    "evaluations": 2,
    "requests": 256,
    "baselines": ["random", "one_slot_optimum"],
}


def sweep(out=None, overrides=(), spec=SPEC, **options):
    return jaxmoe.sweep(spec, out, overrides=overrides, **options)


def train(out=None, **options):
    return jaxmoe.train("ppo", "oneshot", out=out, **{**ALONE, **options})


def spec_file(path, spec=SPEC):
    path.write_text(load_spec(spec).to_toml())
    return path


def train_options(given=None):
    """What `train` is given in Python, as options of the command."""
    given = {**ALONE, **(given or {})}
    named = ("seeds", "env_steps", "evaluations", "requests")
    found = [text for name in named for text in (f"--{name.replace('_', '-')}", str(given[name]))]
    for name, value in given["config"].items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        found += [f"--{name.replace('_', '-')}", shown]
    found += [text for name, value in given["params"].items() for text in ("--set", f"params.{name}={value}")]
    baselines = given["baselines"]
    return [*found, "--baselines", baselines if isinstance(baselines, str) else ",".join(baselines)]


def policies(folder):
    """Weights of each training job, as its `done.json` names them."""
    found = {}
    for path in sorted(Path(folder).glob("jobs/*/done.json")):
        about = json.loads(path.read_text())
        weights = path.parent / about["attempt"] / "policies.safetensors"
        if weights.exists():
            found[path.parent.name] = weights.read_bytes()
    return found


def assert_same(one, other):
    """Tables and policies of two folders are equal, bit for bit."""
    for name in TABLES:
        assert (Path(one) / f"{name}.parquet").read_bytes() == (Path(other) / f"{name}.parquet").read_bytes(), name
    mine, theirs = policies(one), policies(other)
    assert mine.keys() == theirs.keys()
    assert mine
    for job, weights in mine.items():
        assert weights == theirs[job], job


def assert_equal_tables(one, other, but=("agent", "job")):
    """Tables of two experiments are equal but for the numbers that stand for the order of planning."""
    for name in ("results", "curves"):
        mine, theirs = (getattr(each, name).drop(columns=list(but)) for each in (one, other))
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    pd.testing.assert_frame_equal(one.comparison(), other.comparison(), check_exact=True)
