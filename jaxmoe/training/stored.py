"""What is stored of a job: its files, the `done.json` that makes them count, and the plan that it is about."""

import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.training.arrays import ReadRows, rows_of
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Content, Storage

TABLE = "table/table.parquet"
Given = TypeVar("Given")
Answer = TypeVar("Answer")
READERS = 16  # files that are read at once
_HASHED_BYTES = 64 * 2**20  # at once


def is_done(storage: Storage, job: Job) -> bool:
    """Whether the results of a job are stored, and are of the size that was written."""
    return _finished(storage, job, storage.size) is not None


def finished(storage: Storage, jobs: Iterable[Job]) -> dict[int, dict[str, Any]]:
    """What `done.json` says of each job whose results are stored, of the size that was written."""
    files = storage.files("jobs/")
    begun = [job for job in jobs if f"{job.folder}/done.json" in files]
    sizes = {name: file.bytes for name, file in files.items()}
    found = in_parallel(lambda job: _finished(storage, job, sizes.get), begun)
    return {job.number: about for job, about in zip(begun, found, strict=True) if about is not None}


def _finished(storage: Storage, job: Job, size: Callable[[str], int | None]) -> dict[str, Any] | None:
    about = read_done(storage, job)
    whole = about is not None and all(
        size(f"{job.folder}/{about['attempt']}/{name}") == file["bytes"] for name, file in about["files"].items()
    )
    return about if whole else None


def read_done(storage: Storage, job: Job) -> dict[str, Any] | None:
    """What `done.json` of a job says; nothing where there is none."""
    name = f"{job.folder}/done.json"
    try:
        about = json.loads(storage.read(name))
        if (
            not isinstance(about["attempt"], str)
            or not about["attempt"].isalnum()
            or not isinstance(about["files"], dict)
        ):
            raise ValueError("an entry is of another kind")
        if any("/" in file or not isinstance(of["bytes"], int) for file, of in about["files"].items()):
            raise ValueError("a file is described otherwise")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{storage.where}/{name} is not what was written ({error}); delete it to have this job done again"
        ) from None
    return about


def progress_of(storage: Storage, job: Job) -> dict[str, Any] | None:
    """The last note of where a job stands; nothing where there is none that can be read."""
    try:
        at = json.loads(storage.read(f"{job.folder}/progress.json"))
        whole = {name: int(at[name]) for name in ("env_steps", "env_steps_total")}
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return {**at, **whole} if whole["env_steps_total"] > 0 else None


def in_parallel(read: Callable[[Given], Answer], each: Iterable[Given]) -> list[Answer]:
    """What is read for each, in order; many files at once, because an object store answers slowly and often."""
    wanted = list(each)
    if len(wanted) < 2:
        return list(map(read, wanted))
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, wanted))


def read_table(storage: Storage, digest: str) -> ExpertTable:
    """The expert table of an experiment."""
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as folder:
        path = Path(folder) / "table.parquet"
        try:
            path.write_bytes(storage.read(TABLE))
        except FileNotFoundError:
            raise InputError(f"{storage.where} lacks its expert table, {TABLE}") from None
        try:
            table = load_table(path, missing="keep")  # of one with gaps a scenario may need only what is there
        except InputError as error:
            raise InputError(f"{storage.where}/{TABLE}: {str(error).removeprefix(f'{path}: ')}") from None
    if table.meta.digest != digest:
        raise InputError(f"{storage.where}/{TABLE} is not the expert table that the experiment was begun with")
    return table


def plan_rows(storage: Storage, job: Job) -> pd.DataFrame:
    """The rows of the plan that a job is about, in its order; of baselines, one agent's in each environment."""
    plan = pd.read_parquet(io.BytesIO(storage.read(f"rounds/{job.round:03d}/plan.parquet")))
    by = "agent" if job.kind == "train" else "environment"
    rows = plan.drop_duplicates(by).set_index(by, drop=False)
    if missing := set(job.rows) - set(rows.index):
        raise InputError(f"{storage.where}: the plan has no {by} {min(missing)}, which job {job.number} is about")
    return rows.loc[list(job.rows)]


def numbers_in(cells: Iterable[Any]) -> list[Any]:
    """Numbers of a scenario out of cells of the plan: floats, or lists of one for each device.

    >>> numbers_in([0.5, "0.5", "0.1,0.2"])
    [0.5, 0.5, [0.1, 0.2]]
    """
    return [
        list(map(float, cell.split(","))) if isinstance(cell, str) and "," in cell else float(cell) for cell in cells
    ]


def state_rows(storage: Storage, number: int) -> ReadRows:
    """Reads rows of the kept states of a finished job."""
    folder = f"jobs/{number:06d}"
    try:
        about = json.loads(storage.read(f"{folder}/done.json"))
    except FileNotFoundError:
        raise InputError(f"{storage.where}: job {number}, whose agents go on, is not done yet") from None
    name = f"{folder}/{about['attempt']}/state.safetensors"
    if about.get("state") is None or storage.size(name) != about["state"]["bytes"]:
        raise InputError(
            f"{storage.where}: the final states of job {number} were not kept, so that its agents cannot go on; plan "
            "with keep_states = true"
        )
    near = storage.at_hand(name)
    if checksum(near, name) != about["state"]["sha256"]:
        raise InputError(f"{storage.where}/{name} is not what was written; restore it from a copy")
    return rows_of(near, name)


def parquet(rows: pd.DataFrame) -> bytes:
    """A table as the content of a file."""
    content = io.BytesIO()
    rows.to_parquet(content, index=False)
    return content.getvalue()


def write_noted(storage: Storage, name: str, content: Content) -> dict[str, Any]:
    """Write a file; its checksum and size."""
    digest, size = hashlib.sha256(), 0

    def noted() -> Iterator[bytes]:
        nonlocal size
        for piece in [content] if isinstance(content, bytes) else content:
            digest.update(piece)
            size += len(piece)
            yield piece

    storage.write(name, noted())
    return {"sha256": digest.hexdigest(), "bytes": size}


def finite(about: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold: a number without limit, or none, is null."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in about.items()
    }


def checksum(storage: Storage, name: str) -> str:
    """sha256 of a file, read in parts."""
    digest, size = hashlib.sha256(), storage.size(name) or 0
    for begin in range(0, size, _HASHED_BYTES):
        digest.update(storage.read(name, begin, _HASHED_BYTES))
    return digest.hexdigest()
