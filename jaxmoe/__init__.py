"""Which edge experts should write your text? Thousands of reinforcement-learning agents at once, in JAX.

The public names are imported on first use, so that ``import jaxmoe`` starts neither JAX nor openai.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmoe.collect.collecting import collect_table as collect_table
    from jaxmoe.collect.collecting import estimate_collection as estimate_collection
    from jaxmoe.env.edge_experts import EdgeExperts as EdgeExperts
    from jaxmoe.env.scenarios import make as make
    from jaxmoe.errors import InputError as InputError
    from jaxmoe.policy.loading import load_policy as load_policy
    from jaxmoe.study.report import report as report
    from jaxmoe.sweeps.best import best as best
    from jaxmoe.sweeps.evaluating import evaluate as evaluate
    from jaxmoe.sweeps.exporting import export as export
    from jaxmoe.sweeps.merging import merge as merge
    from jaxmoe.sweeps.sweeping import sweep as sweep
    from jaxmoe.sweeps.training import train as train
    from jaxmoe.table import ExpertTable as ExpertTable
    from jaxmoe.table import load_table as load_table

__version__ = "0.1.0"

_HOMES = {
    "EdgeExperts": "jaxmoe.env.edge_experts",
    "ExpertTable": "jaxmoe.table",
    "InputError": "jaxmoe.errors",
    "collect_table": "jaxmoe.collect.collecting",
    "estimate_collection": "jaxmoe.collect.collecting",
    "best": "jaxmoe.sweeps.best",
    "evaluate": "jaxmoe.sweeps.evaluating",
    "export": "jaxmoe.sweeps.exporting",
    "load_policy": "jaxmoe.policy.loading",
    "load_table": "jaxmoe.table",
    "make": "jaxmoe.env.scenarios",
    "merge": "jaxmoe.sweeps.merging",
    "report": "jaxmoe.study.report",
    "sweep": "jaxmoe.sweeps.sweeping",
    "train": "jaxmoe.sweeps.training",
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
