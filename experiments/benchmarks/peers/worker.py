"""What all workers share: the sizes they train with, and the protocol between driver and worker.

A worker reads commands from stdin, one a line, and answers each with one line of JSON on stdout.
"""

import importlib.metadata
import json
import resource
import sys
from collections.abc import Callable

from peers.machine import timed

AGENTS = 64  # trained at once; Stable-Baselines3 trains one
NUM_ENVS = 8  # of one agent
ROLLOUT_LENGTH = 32
EPOCHS = 4
MINIBATCHES = 4
HIDDEN = (64, 64)  # tanh, of actor and critic each
LEARNING_RATE = 3e-4
DISCOUNT = 0.99
GAE_LAMBDA = 0.95
CLIP = 0.2
ENTROPY_COEF = 0.01
VALUE_COEF = 0.5
MAX_GRAD_NORM = 0.5

STEPS = 8192  # of each environment where environments are stepped without learning


def serve(packages: tuple[str, ...], commands: dict[str, Callable[[], dict[str, float]]]) -> None:
    """Say the versions of the packages, then time commands until stdin ends.

    A command returns at least `env_steps`, how many environment steps it made, and returns only once they are made.
    """
    _say({name: importlib.metadata.version(name) for name in packages})
    for line in sys.stdin:
        result, times = timed(commands[line.strip()])
        _say({**result, **times, "peak_mib": _peak_mib()})


def _peak_mib() -> float:
    """Largest resident set so far; Linux counts it in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _say(what: dict[str, float] | dict[str, str]) -> None:
    print(json.dumps(what), flush=True)
