"""Which edge experts should write your text? Thousands of reinforcement-learning agents at once, in JAX.

The public names are imported on first use, so that ``import jaxmoe`` starts neither JAX nor openai.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmoe.algorithms.registry import register_algorithm as register_algorithm
    from jaxmoe.collect.collecting import collect_table as collect_table
    from jaxmoe.collect.collecting import estimate_collection as estimate_collection
    from jaxmoe.env.baselines import register_baseline as register_baseline
    from jaxmoe.env.edge_experts import EdgeExperts as EdgeExperts
    from jaxmoe.env.scenarios import make as make
    from jaxmoe.env.scenarios import register_scenario as register_scenario
    from jaxmoe.errors import InputError as InputError
    from jaxmoe.experiment.calls import compare as compare
    from jaxmoe.experiment.calls import evaluate as evaluate
    from jaxmoe.experiment.calls import export as export
    from jaxmoe.experiment.calls import load as load
    from jaxmoe.experiment.calls import report as report
    from jaxmoe.experiment.calls import sweep as sweep
    from jaxmoe.experiment.calls import train as train
    from jaxmoe.experiment.experiment import Experiment as Experiment
    from jaxmoe.policy.loading import load_policy as load_policy
    from jaxmoe.table import ExpertTable as ExpertTable
    from jaxmoe.table import load_table as load_table

__version__ = "0.2.0"

_HOMES = {
    "EdgeExperts": "jaxmoe.env.edge_experts",
    "Experiment": "jaxmoe.experiment.experiment",
    "ExpertTable": "jaxmoe.table",
    "InputError": "jaxmoe.errors",
    "collect_table": "jaxmoe.collect.collecting",
    "compare": "jaxmoe.experiment.calls",
    "estimate_collection": "jaxmoe.collect.collecting",
    "evaluate": "jaxmoe.experiment.calls",
    "export": "jaxmoe.experiment.calls",
    "load": "jaxmoe.experiment.calls",
    "load_policy": "jaxmoe.policy.loading",
    "load_table": "jaxmoe.table",
    "make": "jaxmoe.env.scenarios",
    "register_algorithm": "jaxmoe.algorithms.registry",
    "register_baseline": "jaxmoe.env.baselines",
    "register_scenario": "jaxmoe.env.scenarios",
    "report": "jaxmoe.experiment.calls",
    "sweep": "jaxmoe.experiment.calls",
    "train": "jaxmoe.experiment.calls",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxmoe' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
