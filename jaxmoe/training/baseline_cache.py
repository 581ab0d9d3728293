"""What baselines brought, kept for the next experiment that asks for the same: `lookahead` alone can take minutes.

The key holds all on which the numbers depend: the environment, the expert table, the requests, the families, the source
of the physics, rules, baselines and evaluation, the versions and the platform.
"""

import functools
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib
import pandas as pd

import jaxmoe
from jaxmoe.devices import cache_in_use
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Folder
from jaxmoe.training.stored import parquet

_SOURCES = (
    "wireless.py",
    "env",
    "training/evaluation.py",
    "training/baselines.py",
    "training/inputs.py",
    "table/expert_table.py",
)


def read(job: Job, numbers: Mapping[str, Any]) -> pd.DataFrame | None:
    """What the baselines of a job brought in an environment, if it is known."""
    folder = cache_in_use()
    if folder is None:
        return None
    try:
        rows = pd.read_parquet(io.BytesIO((folder / "baselines" / f"{_key(job, numbers)}.parquet").read_bytes()))
    except (OSError, ValueError):  # none, or one that is damaged
        return None
    return rows if {"policy", "split", "by", "unit", "requests"} <= set(rows) else None


def write(job: Job, numbers: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Keep it; a cache that cannot be written is none."""
    folder = cache_in_use()
    if folder is None:
        return
    try:
        (folder / "baselines").mkdir(parents=True, exist_ok=True)
        Folder(folder).write(f"baselines/{_key(job, numbers)}.parquet", parquet(rows))
    except (OSError, ValueError):
        return


def _key(job: Job, numbers: Mapping[str, Any]) -> str:
    what = [
        job.signature.key, sorted(numbers.items()), job.requests, job.families, job.matmul_precision, job.platform,
        job.deterministic, jax.__version__, jaxlib.__version__, _source(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


@functools.cache
def _source() -> str:
    package, digest = Path(jaxmoe.__file__).parent, hashlib.sha256()
    for name in _SOURCES:
        path = package / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
