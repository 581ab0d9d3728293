"""What baselines bring in an environment, kept for whoever asks for the same next: `lookahead` alone can take a minute.

The key holds all on which the numbers depend: the environment with its numbers, the expert table, the requests, the
families, the source of the physics, rules, baselines and evaluation, how JAX is set up, the versions and the kind of
device. Baselines that others have registered are evaluated anew each time: nothing tells what they depend on.
"""

import functools
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jaxlib
import numpy as np
import pandas as pd

import jaxmoe
from jaxmoe.devices import cache_in_use
from jaxmoe.env import baselines
from jaxmoe.env.baselines import BASELINES
from jaxmoe.table import ExpertTable
from jaxmoe.training.baselines import BaselineEvaluation
from jaxmoe.training.compiled import in_force
from jaxmoe.training.evaluation import EVALUATION_SEED, Check, Schedule, Splits, evaluation_rows
from jaxmoe.training.prepared import kept
from jaxmoe.training.storage import Folder
from jaxmoe.training.stored import parquet

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

_SOURCES = (
    "wireless.py",
    "env",
    "training/evaluation.py",
    "training/policies.py",
    "training/baselines.py",
    "training/keys.py",
    "table/expert_table.py",
)
_PROGRAMS: dict[str, BaselineEvaluation] = {}  # by all that shapes them


class Asked(NamedTuple):
    """What is asked of baselines."""

    env: "EdgeExperts"
    splits: Splits
    table: ExpertTable
    requests: int
    families: tuple[str, ...]
    seed: int = EVALUATION_SEED

    @property
    def key(self) -> str:
        """Equal where the numbers are, to the last bit."""
        digest = hashlib.sha256()
        for split, params in self.splits.items():
            digest.update(split.encode())
            for name, leaf in sorted(vars(params.replace(table=None)).items()):
                digest.update(f"{name} {np.shape(leaf)}".encode())
                digest.update(b"" if leaf is None else np.asarray(leaf, np.float64).tobytes())
        what = [
            repr(self.env.settings), digest.hexdigest(), self.table.meta.digest, self.requests, self.families,
            self.seed, in_force(), jax.__version__, jaxlib.__version__,
            jax.default_backend(), jax.local_devices()[0].device_kind, _source(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def baseline_rows(
    asked: Asked, check: Check = lambda: None, tell: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """What each baseline brings, as `evaluation_rows` has it, from the cache as far as it is known."""
    ours = tuple(
        name for name in asked.families if getattr(BASELINES[name].make, "__module__", "") == baselines.__name__
    )
    others = tuple(name for name in asked.families if name not in ours)
    frames = []
    schedule = Schedule.of(asked.env, asked.splits["train"], asked.requests)
    if ours:
        own = asked._replace(families=ours)
        found = _read(own)
        if found is None:
            shapes = jax.tree.map(np.shape, own.splits["train"].replace(table=None))
            shaped_by = repr((own.env.settings, shapes, own.table.meta.digest, schedule, ours, own.seed))
            found = _evaluate(own, shaped_by, check, tell)
            _write(own, found)
        frames.append(found)
    if others:
        own = asked._replace(families=others)  # whose rules may be made of any number of the environment
        frames.append(_evaluate(own, repr((own.key, [BASELINES[name].make for name in others])), check, tell))
    return pd.concat(frames, ignore_index=True)


def _evaluate(asked: Asked, shaped_by: str, check: Check, tell: Callable[[str], None]) -> pd.DataFrame:
    """What each baseline brings on each split, by a program that is kept for whoever asks for one of the same shape."""

    def make() -> BaselineEvaluation:
        return BaselineEvaluation(asked.env, asked.splits["train"], asked.requests, asked.families, asked.seed)

    run = kept(_PROGRAMS, f"{shaped_by} {jax.local_device_count()}", make)
    frames = [
        evaluation_rows({"policy": [name]}, {split: brought}, asked.table.experts)
        for split, policies in run(asked.splits, check, tell).items()
        for name, brought in policies.items()
    ]
    return pd.concat([frame.astype({"split": str, "by": str}) for frame in frames], ignore_index=True)


def _read(asked: Asked) -> pd.DataFrame | None:
    """What baselines brought, if it is known."""
    folder = cache_in_use()
    if folder is None:
        return None
    try:
        rows = pd.read_parquet(io.BytesIO((folder / "baselines" / f"{asked.key}.parquet").read_bytes()))
    except (OSError, ValueError):  # none, or one that is damaged
        return None
    return rows if {"policy", "split", "by", "unit", "requests"} <= set(rows) else None


def _write(asked: Asked, rows: pd.DataFrame) -> None:
    """Keep it; a cache that cannot be written is none."""
    folder = cache_in_use()
    if folder is None:
        return
    try:
        (folder / "baselines").mkdir(parents=True, exist_ok=True)
        Folder(folder).write(f"baselines/{asked.key}.parquet", parquet(rows))
    except (OSError, ValueError):
        return


@functools.cache
def _source() -> str:
    package, digest = Path(jaxmoe.__file__).parent, hashlib.sha256()
    for name in _SOURCES:
        path = package / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
