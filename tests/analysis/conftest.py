"""Made-up experiments, made once for all tests that only read them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import synthetic


@pytest.fixture(scope="session")
def finished():
    """Six configurations of PPO in one environment, eight seeds each."""
    return synthetic.make(name="finished")


@pytest.fixture(scope="session")
def crossed():
    """Two algorithms in two scenarios with two environments each; a few agents diverged."""
    scenarios = ("oneshot", "queueing")
    return synthetic.make(
        name="crossed", algorithms=("ppo", "dqn"), scenarios=scenarios, weights=(0.0, 0.04), seeds=6, diverged=0.05
    )


@pytest.fixture(scope="session")
def drawn():
    """Forty points of configuration and environment, drawn together, four seeds each."""
    return synthetic.make(name="drawn", drawn=40, seeds=4)
