"""Made-up sweeps, written once for all tests that only read them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import synthetic


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Six settings of PPO in one environment, eight seeds each."""
    return synthetic.make(tmp_path_factory.mktemp("study") / "finished")


@pytest.fixture(scope="session")
def crossed(tmp_path_factory):
    """Two algorithms in two scenarios with two environments each; a few agents diverged."""
    return synthetic.make(
        tmp_path_factory.mktemp("study") / "crossed",
        algorithms=("ppo", "dqn"),
        scenarios=("oneshot", "queueing"),
        weights=(0.0, 0.04),
        seeds=6,
        diverged=0.05,
    )
