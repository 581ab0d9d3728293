"""The benchmark for GPUs, tried on the CPU with few agents."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "tasks", "others"),
    [
        ("ppo", ["ppo"], {"learning", "repetition in two processes", "whole training"}),
        ("replay", ["dqn-10k", "sac-10k"], set()),
    ],
)
def test_a_dry_run_writes_every_row(what, tasks, others, tmp_path):
    variables = {"PYTHON": sys.executable, "WHEELS": str(tmp_path), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [BENCHMARKS / "gpu.sh", what, "--dry-run", "--seconds", "1000", "--out", tmp_path]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
    rows = pd.read_csv(tmp_path / f"gpu_{what}.csv")
    speeds = rows[rows["measured"] == "speed"]
    assert speeds["contender"].tolist() == ["jaxmoe, as planned", "jaxmoe, one batch"] * len(tasks)
    assert (speeds[["env_steps_per_s", "tflops", "training_131k_s"]] > 0).all(axis=None)
    assert rows.loc[rows["measured"] == "limits", "task"].tolist() == tasks
    assert others <= set(rows["measured"])
    if what == "ppo":
        verdicts = rows.dropna(subset="verdict").set_index("measured")["verdict"]
        assert verdicts["repetition in two processes"] == "equal bits"
        assert (verdicts.filter(like="evaluation") == "agree").all()
        cold, warm, _ = rows.loc[rows["measured"] == "whole training", "digest"]
        assert cold == warm


def test_arithmetic_is_counted_as_by_hand():
    variables = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    subprocess.run([sys.executable, "-m", "doctest", BENCHMARKS / "peers" / "flops.py"], env=variables, check=True)
