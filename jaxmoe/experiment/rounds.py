"""What an experiment is made of: what is settled once, and the rounds in which it is planned. Plain values, no JAX."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from jaxmoe.experiment.spec import Spec, load_spec
from jaxmoe.table import ExpertTable
from jaxmoe.training.job import Job


class Machine(NamedTuple):
    """The devices that a plan is made for."""

    platform: str
    devices: int  # of one process
    memory_gib: float  # of one device; of a CPU, of all cores together
    processes: int = 1  # that share the jobs


class Settled(NamedTuple):
    """What is decided once for an experiment."""

    spec: Spec
    table: ExpertTable
    machine: Machine
    keep_states: bool
    start: str = ""  # a file of the experiment with the policy that agents go on from
    plugins: tuple[str, ...] = ()  # names and digests


class Round(NamedTuple):
    """What is planned at once."""

    number: int
    kind: str  # "spec", "extension" or "confirmation"
    why: dict[str, Any]  # what was asked for, beside the spec
    agents: pd.DataFrame  # one row per agent, as plan.parquet has it
    jobs: list[Job]


def current_spec(spec: Spec, rounds: Iterable[Round]) -> Spec:
    """The spec with all that extensions have changed."""
    for each in rounds:
        if each.kind == "extension":
            spec = load_spec(spec, each.why["set"])
    return spec
