"""What jobs of a signature share: its environment, algorithm and compiled programs; and the experiment's table."""

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxmoe.algorithms.algorithm import Algorithm
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.table import ExpertTable
from jaxmoe.training.evaluation import AgentEvaluation
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.job import KEEP_LAST, Keeping, Signature
from jaxmoe.training.program import Program, make_program
from jaxmoe.training.starting import started_from, warmed_up
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import read_table

PROGRAMS = 16  # compiled programs that are kept at once
_TABLES: dict[str, ExpertTable] = {}  # by digest
_LOCK = threading.Lock()  # the next job may be prepared while one trains

Key = TypeVar("Key")
Programs = TypeVar("Programs")


class Prepared(NamedTuple):
    """A compiled program with what surrounds it, for any jobs of its signature."""

    algorithm: Algorithm
    module: Any
    env: Any
    splits: dict[str, Any]
    table: ExpertTable
    program: Program
    evaluate: AgentEvaluation
    warming_up: Program  # the same for agents that go on from a policy, whose critics are fresh

    def iterations(self, env_steps: int) -> int:
        """Iterations that make at least so many env steps of an agent."""
        return -(-env_steps // self.algorithm.env_steps)


_PREPARED: dict[str, Prepared] = {}


def prepare(signature: Signature, table: ExpertTable, requests: int, keeping: Keeping = KEEP_LAST) -> Prepared:
    """The program of a signature; compiled once for all jobs that this process runs."""
    key = json.dumps([signature.key, table.meta.digest, requests, keeping, jax.local_device_count()])

    def make() -> Prepared:
        env, splits = environments(signature.scenario, table, signature.settings, signature.static_numbers)
        module = registered_algorithm(signature.algorithm)
        algorithm = module.make(env, checked_config(module.Config, signature.config), splits["train"])
        program = make_program(algorithm, splits["train"], keeping)
        evaluate = AgentEvaluation(algorithm, env, splits, requests)
        slow = algorithm.critics_begin is not None
        warming_up = make_program(warmed_up(algorithm), splits["train"], keeping) if slow else program
        return Prepared(algorithm, module, env, splits, table, program, evaluate, warming_up)

    return kept(_PREPARED, key, make)


def kept(programs: dict[Key, Programs], key: Key, make: Callable[[], Programs]) -> Programs:
    """What is kept under a key, made if it is not there; of `PROGRAMS` the oldest goes."""
    with _LOCK:
        if key not in programs:
            while len(programs) >= PROGRAMS:
                programs.pop(next(iter(programs)))
            programs[key] = make()
        return programs[key]


def started(prepared: Prepared, tensors: dict[str, np.ndarray]) -> Prepared:
    """The same, with fresh agents that act by a policy, and hold it while their critics learn."""
    algorithm = started_from(prepared.algorithm, tensors)
    begun = make_program(algorithm, prepared.splits["train"], prepared.program.keeping)
    return prepared._replace(algorithm=algorithm, program=prepared.warming_up._replace(init=begun.init))


def experiment_table(storage: Storage, digest: str) -> ExpertTable:
    """The expert table of an experiment, read once for all jobs that this process runs."""
    if digest not in _TABLES:
        _TABLES[digest] = read_table(storage, digest)
    return _TABLES[digest]
