"""The benchmark for GPUs, tried on the CPU with few agents."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


def dry_run(what, folder):
    """What a dry run prints, and its table."""
    variables = {"PYTHON": sys.executable, "WHEELS": str(folder), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [BENCHMARKS / "gpu.sh", what, "--dry-run", "--seconds", "1000", "--out", folder]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
    return done.stdout, pd.read_csv(folder / f"gpu_{what}.csv")


@pytest.mark.slow
@pytest.mark.parametrize(("what", "tasks"), [("ppo", ["ppo"]), ("replay", ["dqn-10k", "sac-10k"])])
def test_contenders_are_raced(what, tasks, tmp_path):
    printed, rows = dry_run(what, tmp_path)
    assert "rejax is not there: jaxmoe is measured alone" in printed
    speeds = rows[rows["measured"] == "speed"]
    assert speeds["contender"].tolist() == ["jaxmoe"] * len(tasks)
    assert (speeds[["env_steps_per_s", "tflops", "training_131k_s"]] > 0).all(axis=None)
    assert (speeds["memory_factor"] > 1).all()
    assert rows.loc[rows["measured"] == "limits", "task"].tolist() == tasks


@pytest.mark.slow
def test_results_repeat_and_whole_trainings_are_timed(tmp_path):
    _, rows = dry_run("train", tmp_path)
    verdicts = rows.dropna(subset="verdict").set_index("measured")["verdict"]
    assert verdicts["learning"] == "NOT LEARNED"  # in a few steps
    assert verdicts["repetition in two processes"] == "equal bits"
    assert verdicts["deterministic, in two processes"] == "equal bits"
    assert rows["times_fastest"].count() == 1
    assert (verdicts.filter(like="evaluation") == "agree").all()
    trainings = rows[rows["measured"] == "whole training"].set_index("contender")
    assert trainings.index.tolist() == ["jaxmoe, cold", "jaxmoe, warm"]
    assert (trainings["first_metrics_s"] <= trainings["seconds"]).all()
    assert trainings["digest"]["jaxmoe, cold"] == trainings["digest"]["jaxmoe, warm"]


def test_arithmetic_is_counted_as_by_hand():
    variables = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    subprocess.run([sys.executable, "-m", "doctest", BENCHMARKS / "peers" / "flops.py"], env=variables, check=True)
