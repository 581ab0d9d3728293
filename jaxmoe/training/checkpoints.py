"""Where the training of a job stands, on disk, so that it survives whatever ends the process.

    jobs/000000/checkpoint/ATTEMPT-ITERATION.safetensors   the agents, and their curves so far
    jobs/000000/checkpoint/state.json                      which of these is whole: its checksum and size

Agents lie along the leading axis, without padding, so that a job can go on with another number of devices. A file that
cannot be read for a passing reason is kept, and the error is raised; one that is provably corrupt is set aside.
"""

import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.training.arrays import CorruptFileError, Parts, ReadRows, pieces, read_array, read_header, rows_of
from jaxmoe.training.batches import batch_from
from jaxmoe.training.job import Job
from jaxmoe.training.program import Batch
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import checksum
from jaxmoe.training.trainer import Trainer

_FILE = re.compile(r"[0-9a-f]{8}-\d+\.safetensors")


class Restored(NamedTuple):
    """What a checkpoint holds."""

    batches: list[Batch]
    reached: int
    measured: int
    curves: list[pd.DataFrame]


class Saver:
    """Saves where a job stands, in the name of one attempt."""

    def __init__(self, storage: Storage, job: Job, attempt: str) -> None:
        self.storage, self.attempt, self.folder = storage, attempt, f"{job.folder}/checkpoint"
        self._own: list[str] = []  # files of this attempt

    def save(self, trainer: Trainer, curves: list[pd.DataFrame]) -> None:
        """Write the agents and their curves; then drop older ones of this attempt."""
        name = f"{self.attempt}-{trainer.reached}.safetensors"
        rows = io.BytesIO()
        pd.concat(curves, ignore_index=True).to_parquet(rows, index=False)
        state = state_arrays(trainer.batches, trainer.engine.agents)
        arrays: dict[str, np.ndarray | Parts] = {f"agents/{key}": leaf for key, leaf in state.items()}
        arrays["curves"] = np.frombuffer(rows.getvalue(), np.uint8)
        digest, size = hashlib.sha256(), 0

        def noted() -> Iterator[bytes]:
            nonlocal size
            for piece in pieces(arrays):
                digest.update(piece)
                size += len(piece)
                yield piece

        self.storage.write(f"{self.folder}/{name}", noted())
        about = {"file": name, "sha256": digest.hexdigest(), "bytes": size}
        about |= {"reached": trainer.reached, "measured": trainer.measured}
        self.storage.write(f"{self.folder}/state.json", json.dumps(about).encode())
        for older in self._own:
            if older != name:
                self.storage.delete(f"{self.folder}/{older}")
        self._own = [name]

    def drop(self) -> None:
        """Remove this attempt's own file: the job is done."""
        for name in self._own:
            self.storage.delete(f"{self.folder}/{name}")


def restore(storage: Storage, job: Job, fresh: Any, agents_per_device: int) -> tuple[Restored | None, str]:
    """Where the last checkpoint was taken, if there is one; and what is to be said of one that was set aside.

    Args:
        storage: of the experiment.
        job: whose checkpoint.
        fresh: shapes of a batch of agents, as `Program.shape` gives them.
        agents_per_device: of the batches to be made.

    Raises:
        OSError: it cannot be read now; it is kept.
    """
    name = f"{job.folder}/checkpoint/state.json"
    try:
        content = storage.read(name)
        about = _about(content)
    except FileNotFoundError:
        return None, ""
    except CorruptFileError as error:
        return None, _set_aside(storage, name, "", str(error))
    file = f"{job.folder}/checkpoint/{about['file']}"
    try:
        near = storage.at_hand(file)
        if near.size(file) != about["bytes"] or checksum(near, file) != about["sha256"]:
            raise CorruptFileError("its checksum differs")
        places, _ = read_header(near, file)
        curves = pd.read_parquet(io.BytesIO(read_array(near, file, places["curves"]).tobytes()))
        parts = batches_from(fresh, len(job.rows), agents_per_device, rows_of(near, file, "agents/"))
    except (CorruptFileError, FileNotFoundError, KeyError) as error:
        if _is_replaced(storage, name, content):  # by another process that is at work on the job
            return restore(storage, job, fresh, agents_per_device)
        return None, _set_aside(storage, name, file, str(error))
    return Restored(parts, about["reached"], about["measured"], [curves]), ""


def state_arrays(parts: list[Batch], agents: int) -> dict[str, Parts]:
    """All that agents carry, by names such as `state/policy/params/Dense_0/kernel`, without padding.

    The parts are those on each device, so that no second copy of all is made.
    """
    plain = [_without_keys(part) for part in parts]
    leaves = zip(*(jax.tree.leaves(part) for part in plain), strict=True)
    return {name: _in_parts(of, agents) for name, of in zip(_names(plain[0]), leaves, strict=True)}


def batches_from(fresh: Any, agents: int, agents_per_device: int, read: ReadRows) -> list[Batch]:
    """Inverse of `state_arrays`, array by array and device by device, so that no second copy of all is made.

    Args:
        fresh: shapes of a batch of agents, as `Program.shape` gives them.
        agents: how many.
        agents_per_device: of the batches.
        read: rows of the array of a name.

    Raises:
        CorruptFileError: an array is missing, or of another shape or type.
    """
    plain = jax.eval_shape(_without_keys, fresh)
    shapes, structure = jax.tree.leaves(plain), jax.tree.structure(plain)
    width = agents_per_device * jax.local_device_count()
    found = []
    for begin in range(0, agents, width):

        def read_leaf(name: str, like: Any, begin: int = begin) -> jax.Array:
            def read_part(positions: np.ndarray) -> np.ndarray:
                leaf = read(name, np.minimum(begin + positions, agents - 1).tolist())
                if (leaf.shape, leaf.dtype) != ((len(positions), *like.shape[1:]), like.dtype):
                    raise CorruptFileError(f"{name} has another shape or type than these agents have")
                return leaf

            return batch_from(read_part, like.shape)

        leaves = [read_leaf(name, shape) for name, shape in zip(_names(plain), shapes, strict=True)]
        found.append(_with_keys(fresh, jax.tree.unflatten(structure, leaves)))
    return found


def _names(tree: Any) -> list[str]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def _in_parts(leaves: Sequence[jax.Array], agents: int) -> Parts:
    def parts() -> Iterator[np.ndarray]:
        left = agents
        for leaf in leaves:
            for shard in sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0):
                rows = np.asarray(shard.data)[:left]
                left -= len(rows)
                yield rows

    return Parts(np.dtype(leaves[0].dtype), (agents, *leaves[0].shape[1:]), parts)


def _is_replaced(storage: Storage, name: str, content: bytes) -> bool:
    try:
        return storage.read(name) != content
    except FileNotFoundError:
        return True


def _about(content: bytes) -> dict[str, Any]:
    try:
        about = json.loads(content)
        whole = all(isinstance(about[name], int) and about[name] >= 0 for name in ("bytes", "reached", "measured"))
        if not whole or not _FILE.fullmatch(about["file"]) or not isinstance(about["sha256"], str):
            raise ValueError("an entry is of another kind")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptFileError(f"state.json is not what was written ({error})") from None
    return about


def _set_aside(storage: Storage, name: str, file: str, why: str) -> str:
    """Give a corrupt checkpoint another name; what to say of it."""
    ending = f".corrupt-{secrets.token_hex(4)}"
    for each in (name, file):
        if each and storage.size(each) is not None:
            storage.rename(each, each + ending)
    whole = file or name
    return (
        f"the checkpoint {storage.where}/{whole} is corrupt ({why}); it is kept as {whole.split('/')[-1]}{ending}, and "
        "its job starts again"
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(tree: Any) -> Any:
    """Random keys as the numbers that they are."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _with_keys(like: Any, tree: Any) -> Any:
    """Inverse of `_without_keys`."""
    return jax.tree.map(lambda old, leaf: jax.random.wrap_key_data(leaf) if _is_key(old) else leaf, like, tree)
