"""What the tests of training share: tiny experiments, planned in memory, and where their jobs are run."""

import pytest

from jaxmoe.experiment.creating import create
from jaxmoe.experiment.folder import read_round
from jaxmoe.experiment.spec import load_spec
from jaxmoe.table import load_table
from jaxmoe.training.storage import Memory

TINY = {
    "algorithm": "ppo",
    "env_steps": 256,
    "seeds": 5,
    "evaluations": 2,
    "requests": 64,
    "baselines": "none",
    "keep_states": True,
    "devices": {"agents_per_device": 2},
    "config": {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [[8]]},
}


@pytest.fixture(scope="session")
def planned():
    """Plans a tiny experiment with changes: a storage of its own, and its jobs."""
    plans = {}

    def plan(**changes):
        key = repr(sorted(changes.items()))
        if key not in plans:
            spec = load_spec(TINY, {name.replace("__", "."): value for name, value in changes.items()})
            plans[key] = create(spec, load_table())
        storage = Memory()
        storage.contents = dict(plans[key].contents)
        return storage, read_round(storage, 0).jobs

    return plan
