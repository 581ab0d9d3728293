"""The examples run, where the libraries that they show are there."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_stable_baselines3_learns_in_the_gymnasium_environment():
    pytest.importorskip("stable_baselines3")
    command = [sys.executable, EXAMPLES / "stable_baselines3_dqn.py", "--steps", "200", "--episodes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("QoS per request on test prompts: ")
