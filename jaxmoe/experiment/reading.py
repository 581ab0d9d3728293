"""The plan and the tables of jobs, compared with their checksums and with what they must hold as they are read."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaxmoe.errors import InputError
from jaxmoe.table.splits import SPLITS
from jaxmoe.training.documents import damaged
from jaxmoe.training.job import PLAN, Job, read_jobs, read_planned, round_folder
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import numbers_in, read_result, result_name

Kind = Callable[[pa.DataType], bool]
UNITS = ("prompts", "episodes", "look")  # what sums of an evaluation are by
CELLS, CELLS_PER_BYTE = 2**25, 16  # of a table, at most: so many, and so many more for each byte of its file
TEXT = 4_096  # characters of a text in a table


def _text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _plain(kind: pa.DataType) -> bool:
    return _text(kind) or _number(kind)


_WHOLE: Kind = pa.types.is_integer
_TRAINED: dict[str, Kind] = {"agent": _WHOLE, "env_steps": _WHOLE, "diverged": pa.types.is_boolean}
_EVALUATED: dict[str, Kind] = {"split": _text, "by": _text, "unit": _WHOLE, "requests": _WHOLE, "qos": _number}
_PLANNED: dict[str, Kind] = dict.fromkeys(("agent", "configuration", "environment", "seed"), _WHOLE)
_PLANNED |= {"algorithm": _text, "scenario": _text}
_NEEDED: dict[tuple[str, str], dict[str, Kind]] = {  # by the kind of the job, and the file
    ("train", "results.parquet"): _TRAINED,
    ("train", "curves.parquet"): _TRAINED,
    ("train", "evaluation.parquet"): {"agent": _WHOLE, **_EVALUATED},
    ("baselines", "evaluation.parquet"): {"environment": _WHOLE, "policy": _text, **_EVALUATED},
}


def read_plan(storage: Storage, number: int, about: Mapping[str, Any]) -> tuple[pd.DataFrame, list[Job]]:
    """Who is planned in a round, of which `round.json` says this, and its jobs.

    Raises:
        InputError: a file is missing, not what was written, or its parts do not fit each other.
    """
    where = f"{storage.where}/{round_folder(number)}"
    try:
        rows = _table(read_planned(storage, number, PLAN, about), f"{where}/{PLAN}", _PLANNED, _plain)
        jobs = read_jobs(storage, number, about)
    except FileNotFoundError as error:
        raise InputError(f"{storage.where} lacks a file of its plan: {error.filename}") from None
    agents = rows.to_pandas()
    known = {"train": set(agents["agent"].tolist()), "baselines": set(agents["environment"].tolist())}
    numbers = set(map(str, agents.columns))
    if len(known["train"]) < len(agents) or (agents[["agent", "environment", "configuration", "seed"]] < 0).any(
        axis=None
    ):
        raise damaged(f"{where}/{PLAN}", "agents are numbered otherwise")
    for job in jobs:
        if job.round != number or not known[job.kind].issuperset(job.rows) or not numbers.issuperset(job.numbers):
            raise damaged(where, f"the plan and job {job.number} do not fit each other")
    rows_of = {"train": agents.set_index("agent"), "baselines": agents.drop_duplicates("environment")}
    rows_of["baselines"] = rows_of["baselines"].set_index("environment")
    for job in (job for job in jobs if job.numbers):
        own = rows_of[job.kind].loc[list(job.rows)]
        for name in job.numbers:
            try:
                numbers_in(own[name].unique())
            except (ValueError, TypeError):
                raise damaged(f"{where}/{PLAN}", f"{name} holds something else than numbers") from None
    return agents, jobs


def read_rows(
    storage: Storage, job: Job, about: Mapping[str, Any], file: str, columns: Collection[str] | None = None
) -> pa.Table:
    """A table of a finished job; if columns are said, those of them that it has.

    Args:
        storage: of the experiment.
        job: whose table.
        about: what its `done.json` says.
        file: the table's.
        columns: that are wanted; all if absent.

    Raises:
        InputError: it is missing, not what was written, or lacks what it must hold.
    """
    name, needed = f"{storage.where}/{result_name(job, about, file)}", _NEEDED[job.kind, file]
    rows = _table(read_result(storage, job, about, file), name, needed, _number, columns)
    who = "agent" if job.kind == "train" else "environment"
    if who in rows.column_names:
        _require_theirs(rows[who], job.rows, file, name)
    for column, known in (("split", SPLITS), ("by", UNITS)):
        if column in rows.column_names and not set(pc.unique(rows[column]).to_pylist()) <= set(known):
            raise damaged(name, f"{column} holds something else than {', '.join(known)}")
    if "requests" in needed and "requests" in rows.column_names and len(rows) and pc.min(rows["requests"]).as_py() < 0:
        raise damaged(name, "requests are negative")
    return rows


def metrics_of(results: pd.DataFrame, name: str) -> set[str]:
    """The metrics that results hold of each split. Raises `InputError` where one lacks what another has."""
    of_split = {
        split: {str(column).removeprefix(f"{split}_") for column in results if str(column).startswith(f"{split}_")}
        for split in SPLITS
    }
    found = set().union(*of_split.values())
    for split, metrics in of_split.items():
        if metrics and (missing := sorted(found - metrics)):
            raise damaged(name, f"the metric {missing[0]} is missing on {split} prompts")
    return found - {"normalised"}


def require_metrics(rows: pd.DataFrame, metrics: Collection[str], name: str) -> None:
    """Raise unless sums of an evaluation are there for each metric that the results have."""
    if missing := sorted(set(metrics) - set(map(str, rows.columns))):
        raise damaged(name, f"the metric {missing[0]} is missing")


def read_watched(content: bytes, name: str, experts: Sequence[str]) -> pd.DataFrame:
    """What confirmed agents did, as it was kept. Raises `InputError` where it is of other experts, or no such table."""
    needed: dict[str, Kind] = {"scenario": _text, "subset": _text}
    for expert in experts:
        needed |= dict.fromkeys((f"snr_db_{expert}", f"relevance_{expert}", f"asked_{expert}"), _number)
    return _table(content, name, needed, _plain).to_pandas()


def _table(
    content: bytes, name: str, needed: Mapping[str, Kind], others: Kind, columns: Collection[str] | None = None
) -> pa.Table:
    """A table whose columns are of the kinds that are needed, and of another one at most."""
    try:
        schema = pq.read_schema(io.BytesIO(content))
        texts = [field.name for field in schema if _text(field.type)]
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)  # or one text could be copied for each row
        kinds = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
        for column, kind in needed.items():
            if column not in kinds or not kind(kinds[column]):
                raise damaged(name, f"the column {column} is missing or of another kind")
        for column, found in kinds.items():
            if column not in needed and not others(found):
                raise damaged(name, f"the column {column} is of another kind")
        most = CELLS + CELLS_PER_BYTE * len(content)
        if len(kinds) < len(file.schema_arrow.names) or file.metadata.num_rows * len(kinds) > most:
            raise damaged(name, "it is larger than any that jaxmoe writes")
        rows = file.read(None if columns is None else [each for each in kinds if each in columns])
        rows.validate(full=True)
        for column in (name for name in texts if name in rows.column_names):
            longest = (pc.max(pc.binary_length(batch[column].dictionary)).as_py() for batch in rows.to_batches())
            if max((length or 0 for length in longest), default=0) > TEXT:
                raise damaged(name, f"a text in the column {column} is too long")
            own = schema.field(column).type
            rows = rows.set_column(rows.column_names.index(column), column, rows[column].cast(own))
    except InputError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own exceptions are of these
        raise InputError(f"{name} cannot be read: {error}") from None
    if any(rows[column].null_count for column in needed if column in rows.column_names):
        raise damaged(name, "there are gaps in it")
    return rows


def _require_theirs(found: pa.ChunkedArray, rows: Sequence[int], file: str, name: str) -> None:
    """Raise unless a table is about those of the job: the results with one row about each, curves about who learned."""
    theirs, about = set(rows), set(pc.unique(found).to_pylist())
    whole = about <= theirs if file == "curves.parquet" else about == theirs
    if not whole or (file == "results.parquet" and len(found) != len(rows)):
        raise damaged(name, "it is about others than its job")
