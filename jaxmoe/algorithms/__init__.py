"""Reinforcement learning in any gymnax environment: pure functions of one agent."""

import importlib

from jaxmoe.algorithms.alone import train
from jaxmoe.algorithms.registry import register_algorithm, registered_algorithm, registered_algorithms

for _name in ("ppo", "dqn", "sac"):  # each registers itself; in the order of help and tables
    importlib.import_module(f"{__name__}.{_name}")

__all__ = ["register_algorithm", "registered_algorithm", "registered_algorithms", "train"]
