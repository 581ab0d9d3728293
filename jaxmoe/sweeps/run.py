"""A finished training run: what was trained, its tidy tables and policies, and its folder."""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from jaxmoe.agents.algorithm import Algorithm
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.evaluation import Tallies
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.files import claim_folder, write_whole
from jaxmoe.study.figures import learning_curve
from jaxmoe.sweeps.inputs import algorithm_module, checked_config
from jaxmoe.sweeps.lanes import lanes
from jaxmoe.sweeps.provenance import versions

MANIFEST = "manifest.json"
POLICIES = "policies.safetensors"


@dataclass(frozen=True)
class Run:
    """What was trained; enough to rebuild the environment and the policies."""

    algorithm: str
    scenario: str
    settings: dict[str, Any]  # static settings of the scenario that differ
    params: dict[str, float]  # numbers of the scenario that differ
    hypers: dict[str, float]
    config: dict[str, Any]
    seeds: list[int]
    root_seed: int
    env_steps: int  # of each agent, as trained
    table_digest: str
    init_from: str | None = None  # checksum of the weights that all agents went on from, if they did

    @property
    def agents_name(self) -> str:
        """The agents' name in comparisons."""
        return f"{self.algorithm} ({len(self.seeds)} agent{'s' if len(self.seeds) > 1 else ''})"

    def bind(self, env: EdgeExperts, env_params: EnvParams) -> Algorithm:
        """The algorithm, bound to the environment that it was trained in."""
        module = algorithm_module(self.algorithm)
        return module.make(env, checked_config(module.Config, self.config), env_params)


@dataclass(frozen=True)
class Training:
    """A training run with all that it found."""

    run: Run
    results: pd.DataFrame  # one row per agent
    curves: pd.DataFrame  # one row per agent and evaluation
    comparison: pd.DataFrame  # one row per split, policy and metric, with intervals
    policies: Any  # parameters of the acting networks, agents along the leading axis
    tallies: Tallies  # what `comparison` is computed from
    interrupted: bool
    env_steps_per_s: float  # of all agents, median over segments after the first

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write tables, policies, figures and, when all is there, the manifest into an empty folder."""
        folder = claim_folder(out)
        for name in ("results", "curves", "comparison"):
            _write(folder / f"{name}.parquet", getattr(self, name).to_parquet)
        flat = {name: np.asarray(leaf) for name, leaf in named_leaves(self.policies)}
        _write(folder / POLICIES, lambda path: save_file(flat, path))
        figure = learning_curve(self.curves, self.comparison, self.run.agents_name)
        _write(folder / "learning_curve.png", lambda path: figure.savefig(path, format="png", dpi=150))
        _write(folder / "learning_curve.pdf", lambda path: figure.savefig(path, format="pdf"))
        manifest = {"run": dataclasses.asdict(self.run), "interrupted": self.interrupted, **_provenance()}
        manifest |= {"env_steps_per_s": round(self.env_steps_per_s)}
        _write(folder / MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=2) + "\n"))


def load_run(folder: str | os.PathLike[str]) -> Run:
    """What was trained in a folder, from its manifest."""
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{folder} holds no finished training run: there is no {MANIFEST} in it")
    try:
        content = json.loads(manifest.read_text())
        run = Run(**content["run"]) if "spec" not in content else None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} is not the manifest of a training run ({error})") from None
    if run is None:
        raise InputError(f"{folder} holds a sweep, and its tables the evaluation; give the folder of a training run")
    return run


def load_policies(folder: str | os.PathLike[str], run: Run, algorithm: Algorithm, env_params: EnvParams) -> Any:
    """The acting networks' parameters of all agents of a run, agents along the leading axis."""
    path = Path(folder) / POLICIES
    flat = read_arrays(path)
    hypers = algorithm_module(run.algorithm).Hypers(**run.hypers)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0), hypers, env_params).policy
    expected = {name: (len(run.seeds), *leaf.shape) for name, leaf in named_leaves(shapes)}
    if expected != {name: array.shape for name, array in flat.items()}:
        raise InputError(f"{path} does not hold the networks that {MANIFEST} beside it describes")
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(flat[name]) for name in expected])


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file. Raises `InputError` if it cannot be read."""
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own exceptions beside the operating system's
        raise InputError(f"{path} cannot be read ({error})") from None


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with names such as `params/Dense_0/kernel`."""
    return [
        ("/".join(str(getattr(key, "key", key)) for key in path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def _provenance() -> dict[str, Any]:
    """Where the numbers come from: versions, device, and the width on which their last bits depend."""
    device = jax.devices()[0]
    return {
        "versions": versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.local_device_count()},
        "lanes": lanes(),
    }


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    write_whole(path, write, overwrite=False)
