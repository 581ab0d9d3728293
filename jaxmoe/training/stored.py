"""What is stored of a job: its files, the `done.json` that makes them count, and the plan that it is about."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field

from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.training.arrays import ReadRows, rows_of
from jaxmoe.training.documents import Document, Noted, Whole, read_document, read_noted
from jaxmoe.training.job import PLAN, Job, read_planned
from jaxmoe.training.storage import Content, Storage

TABLE = "table/table.parquet"
Given = TypeVar("Given")
Answer = TypeVar("Answer")
READERS = 16  # files that are read at once
_HASHED_BYTES = 64 * 2**20  # at once
_FILES = {"train": {"results.parquet", "curves.parquet", "evaluation.parquet", "policies.safetensors"}}
_FILES |= {"baselines": {"evaluation.parquet"}}
_DO_AGAIN = "delete it to have this job done again"
ANEW = "give the command of the experiment again, which does this job anew"


class _Baseline(Document):
    knows: str
    deployable: bool
    level: float | None


class _Done(Document):
    """What `done.json` says; the network is read by who needs it."""

    attempt: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]
    files: dict[Annotated[str, Field(pattern=r"^[a-z]+\.(parquet|safetensors)$")], Noted]
    state: Noted | None = None
    seconds: float = 0.0
    versions: dict[str, str] = Field(default_factory=dict)
    device: dict[str, str | int] = Field(default_factory=dict)
    env_steps_per_s: float | None = None
    diverged: Whole = 0


class _BaselinesDone(_Done):
    baselines: dict[str, _Baseline]


class _Trained(_Done):
    env_steps: Whole
    hypers: list[str]
    preferences: str
    network: dict[str, Any]


class _Progress(Document):
    env_steps: Whole
    env_steps_total: Annotated[int, Field(ge=1, le=2**53)]
    where: str = ""
    attempt: str = ""
    diverged: Whole | None = 0
    requests: Whole | None = 0
    requests_total: Whole | None = 0
    env_steps_per_s: float | None = None
    train_qos: float | None = None


_DONE: dict[str, type[_Done]] = {"train": _Trained, "baselines": _BaselinesDone}


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
    """What `done.json` of a job says; nothing where there is none.

    Raises:
        InputError: it is damaged.
    """
    name = f"{job.folder}/done.json"
    try:
        about = read_document(storage, name, _DONE[job.kind], _DO_AGAIN)
    except FileNotFoundError:
        return None
    if missing := _FILES[job.kind] - set(about["files"]):
        raise InputError(f"{storage.where}/{name} is damaged: it says nothing of {min(missing)}; {_DO_AGAIN}")
    return about


def result_name(job: Job, about: Mapping[str, Any], file: str) -> str:
    """A file of the attempt that counts."""
    return f"{job.folder}/{about['attempt']}/{file}"


def read_result(storage: Storage, job: Job, about: Mapping[str, Any], file: str) -> bytes:
    """A file of the attempt that counts, compared with its checksum.

    Raises:
        InputError: it is missing, or not what was written.
    """
    name = result_name(job, about, file)
    try:
        return read_noted(storage, name, about["files"][file], ANEW)
    except FileNotFoundError:
        raise InputError(f"{storage.where}/{name} is missing; {ANEW}") from None


def require_whole(storage: Storage, job: Job, about: Mapping[str, Any], file: str) -> str:
    """The name of a file of the attempt that counts, whose checksum is compared without reading it at once.

    Raises:
        InputError: it is missing, or not what was written.
    """
    name, expected = result_name(job, about, file), about["files"][file]
    if storage.size(name) != expected["bytes"] or checksum(storage, name) != expected["sha256"]:
        raise InputError(f"{storage.where}/{name} is damaged: it is not what was written; {ANEW}")
    return name


def progress_of(storage: Storage, job: Job) -> dict[str, Any] | None:
    """The last note of where a job stands; nothing where there is none that can be read."""
    try:
        return read_document(storage, f"{job.folder}/progress.json", _Progress, "")
    except (InputError, OSError):
        return None


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
    plan = pd.read_parquet(io.BytesIO(read_planned(storage, job.round, PLAN)))
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
        about = read_document(storage, f"{folder}/done.json", _Done, _DO_AGAIN)
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
