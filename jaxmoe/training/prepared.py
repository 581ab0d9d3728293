"""What jobs of a signature share: its environment, algorithm and compiled programs; and the experiment's table."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmoe.algorithms.algorithm import Algorithm
from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.training.evaluation import AgentEvaluation
from jaxmoe.training.inputs import algorithm_module, checked_config, environments
from jaxmoe.training.job import Signature
from jaxmoe.training.program import Program, make_program
from jaxmoe.training.starting import started_from
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import TABLE

PROGRAMS = 16  # compiled programs that are kept at once
_TABLES: dict[str, ExpertTable] = {}  # by digest


class Prepared(NamedTuple):
    """A compiled program with what surrounds it, for any jobs of its signature."""

    algorithm: Algorithm
    module: Any
    env: Any
    splits: dict[str, Any]
    table: ExpertTable
    program: Program
    evaluate: AgentEvaluation


_PREPARED: dict[str, Prepared] = {}


def prepare(signature: Signature, table: ExpertTable, requests: int) -> Prepared:
    """The program of a signature; compiled once for all jobs that this process runs."""
    key = json.dumps([signature.key, table.meta.digest, requests, jax.local_device_count()])
    if key not in _PREPARED:
        env, splits = environments(signature.scenario, table, signature.settings, signature.static_numbers)
        module = algorithm_module(signature.algorithm)
        algorithm = module.make(env, checked_config(module.Config, signature.config), splits["train"])
        program = make_program(algorithm, splits["train"])
        evaluate = AgentEvaluation(algorithm, env, splits, requests)
        while len(_PREPARED) >= PROGRAMS:
            _PREPARED.pop(next(iter(_PREPARED)))
        _PREPARED[key] = Prepared(algorithm, module, env, splits, table, program, evaluate)
    return _PREPARED[key]


def started(prepared: Prepared, tensors: dict[str, np.ndarray]) -> Prepared:
    """The same, with fresh agents that act by a policy."""
    algorithm = started_from(prepared.algorithm, tensors)
    begun = make_program(algorithm, prepared.splits["train"])
    return prepared._replace(algorithm=algorithm, program=prepared.program._replace(init=begun.init))


def experiment_table(storage: Storage, digest: str) -> ExpertTable:
    """The expert table of an experiment."""
    if digest in _TABLES:
        return _TABLES[digest]
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as folder:
        path = Path(folder) / "table.parquet"
        path.write_bytes(storage.read(TABLE))
        table = load_table(path)
    if table.meta.digest != digest:
        raise InputError(f"{storage.where}/{TABLE} is not the expert table that the experiment was planned with")
    _TABLES[digest] = table
    return table
