"""Where the training of a chunk stands, on disk, so that a long chunk survives a crash (Orbax)."""

import io
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.sweeps.lanes import blocks, joined
from jaxmoe.sweeps.loop import Trainer


def save(folder: Path, trainer: Trainer, curves: list[pd.DataFrame]) -> None:
    """Write the agents and their curves so far into a new folder, named after the iteration; then drop older ones."""
    rows = io.BytesIO()
    pd.concat(curves, ignore_index=True).to_parquet(rows)
    tree = {
        "agents": _plain(joined([_without_keys(block) for block in trainer.blocks], trainer.engine.agents)),
        "curves": np.frombuffer(rows.getvalue(), np.uint8),
        "measured": np.int64(trainer.measured),
    }
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save((folder / str(trainer.reached)).absolute(), tree)
    except (OSError, ValueError) as error:  # so Orbax says that the disk is full
        raise InputError(
            f"{folder} cannot be written: {error}; the chunks that are finished are kept, and the same command goes on"
        ) from error
    for older in set(_complete(folder)) - {trainer.reached}:
        shutil.rmtree(folder / str(older))


def restore(folder: Path, trainer: Trainer) -> list[pd.DataFrame] | None:
    """Put the trainer where the newest checkpoint was taken; its curves, or nothing if there is none to be used."""
    if not (iterations := _complete(folder)):
        return None
    newest = max(iterations)
    fresh = joined([_without_keys(block) for block in trainer.blocks], trainer.engine.agents)
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore((folder / str(newest)).absolute())
        agents = _like(fresh, tree["agents"])
        curves = pd.read_parquet(io.BytesIO(tree["curves"].tobytes()))
    except Exception:  # whatever a damaged file makes Orbax or pandas say: the chunk begins anew
        shutil.rmtree(folder)
        return None
    keyed = [_with_keys(*pair) for pair in zip(trainer.blocks, blocks(agents), strict=True)]
    trainer.blocks, trainer.reached, trainer.measured = keyed, newest, int(tree["measured"])
    return [curves]


def _complete(folder: Path) -> list[int]:
    """Iterations of the checkpoints that were written to their end; Orbax renames a folder once it is whole."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _checkpointer() -> Any:
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step
    import orbax.checkpoint

    return orbax.checkpoint.PyTreeCheckpointer()


def _plain(tree: Any) -> dict[str, np.ndarray]:
    return {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(tree))}


def _like(tree: Any, plain: dict[str, np.ndarray]) -> Any:
    """Inverse of `_plain`; refuses arrays of other shapes or types."""
    leaves = [plain[name] for name in sorted(plain)]
    for leaf, wanted in zip(leaves, jax.tree.leaves(tree), strict=True):
        if (leaf.shape, leaf.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError("the checkpoint is of other agents")
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(tree: Any) -> Any:
    """Random keys as the numbers that they are."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _with_keys(like: Any, tree: Any) -> Any:
    """Inverse of `_without_keys`."""
    return jax.tree.map(lambda old, leaf: jax.random.wrap_key_data(leaf) if _is_key(old) else leaf, like, tree)
