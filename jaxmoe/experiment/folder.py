"""The folder of an experiment (format 2), built to lose nothing.

    experiment.json        format, version, the whole spec with its defaults, the table's digest, the plan's devices
    spec.toml              the same for people; made, never read back
    table/                 the expert table
    start/                 the policy that agents go on from, if there is one
    rounds/000/            what was planned at once: plan.parquet, jobs.jsonl, round.json
    jobs/000000/           what was made of a job: its attempts, done.json, checkpoint/, progress.json
    results.parquet, curves.parquet, comparison.parquet, made.json    tables of what is complete; can be made again
    report/                report.html, its figures and their data

`experiment.json`, `round.json` and `done.json` are made only where none is, last of what they stand for, and never
changed. Files that jaxmoe has not made are never touched.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

import jaxmoe
from jaxmoe.errors import InputError, StorageError
from jaxmoe.experiment.reading import read_plan
from jaxmoe.experiment.rounds import Machine, Round, Settled
from jaxmoe.experiment.spec import RayJob, Spec, first_difference, load_spec
from jaxmoe.plugins import Plugin, recorded
from jaxmoe.strict_json import from_json
from jaxmoe.table import ExpertTable
from jaxmoe.training.arrays import pieces
from jaxmoe.training.compiled import GENERATOR
from jaxmoe.training.documents import RESTORE, Document, Noted, noted, read_document, read_noted, require_shape, sealed
from jaxmoe.training.job import JOBS, PLAN, Job, read_round_document, round_folder, write_jobs
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import TABLE, checksum, in_parallel, parquet, read_done, read_table, result_name

FORMAT = 2
EXPERIMENT = "experiment.json"
START = "start/policy.safetensors"
_OF_AN_ATTEMPT = {f"{name}.parquet" for name in ("results", "curves", "evaluation")} | {
    f"{name}.safetensors" for name in ("policies", "state")
}


class _Format(Document):
    format: int


class _Table(Document):
    digest: str


class _Devices(Document):
    platform: str
    devices: Annotated[int, Field(ge=1, le=10**6)]
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    processes: Annotated[int, Field(ge=1, le=10**6)] = 1


class _About(_Format):
    """What `experiment.json` says; the spec and the scenarios are read by who knows them."""

    jaxmoe: str
    spec: dict[str, Any]
    table: _Table
    scenarios: dict[str, Any]
    plugins: list[dict[str, str]]
    devices: _Devices
    keep_states: bool
    start: Literal["", "start/policy.safetensors"]
    files: dict[str, Noted] = Field(default_factory=dict)  # absent in what earlier versions wrote


def begin(
    storage: Storage, given: Settled, scenarios: Mapping[str, Any], plugins: Iterable[Plugin], start: Any = None
) -> bool:
    """Write who the experiment is, and say so; where another process has done so meanwhile, its version stays."""
    spec, table = given.spec, given.table
    about = {
        "format": FORMAT,
        "jaxmoe": jaxmoe.__version__,
        "spec": spec.model_dump(mode="json"),
        "table": {"digest": table.meta.digest, "provenance": table.meta.provenance},
        "scenarios": scenarios,
        "plugins": [each._asdict() for each in plugins],
        "devices": given.machine._asdict(),
        "generator": GENERATOR,
        "keep_states": given.keep_states,
        "start": given.start,
    }
    if start:
        about["files"] = {START: noted(_start_file(start))}
    begun = storage.create(EXPERIMENT, sealed(about))
    storage.create(TABLE, _table_file(table))
    if start:
        storage.create(START, _start_file(start))
    storage.create("spec.toml", spec.to_toml().encode())
    return begun


def read_about(storage: Storage) -> dict[str, Any]:
    """What `experiment.json` says, checked.

    Raises:
        InputError: there is none, it is damaged, or of another format.
    """
    name = f"{storage.where}/{EXPERIMENT}"
    try:
        about = read_document(storage, EXPERIMENT, _Format, RESTORE)
        if about["format"] != FORMAT:
            by = about.get("jaxmoe", "another version")
            raise InputError(
                f"{name} has format {about['format']}, and this version of jaxmoe reads format {FORMAT}; it was "
                f"written by jaxmoe {by}, which reads it"
            )
        require_shape(about, _About, name, RESTORE)
        return about
    except FileNotFoundError:
        raise InputError(f"{storage.where} {without_experiment(storage)}") from None
    except OSError as error:
        raise StorageError(f"{name} cannot be read: {error.strerror or error}") from None


def spec_of(about: Mapping[str, Any]) -> Spec:
    """The spec that an experiment was begun with."""
    return load_spec({name: value for name, value in about["spec"].items() if value is not None})


def settled(storage: Storage) -> Settled:
    """What is decided for an experiment: its spec, table and devices."""
    about = read_about(storage)
    spec = spec_of(about)
    devices = about["devices"]
    machine = Machine(
        devices["platform"], devices["devices"], float(devices["memory_gib"]), devices.get("processes", 1)
    )
    table = read_table(storage, about["table"]["digest"])
    return Settled(spec, table, machine, about["keep_states"], about["start"], plugins_of(about))


def plugins_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Names and digests of the plugins of an experiment."""
    return tuple(map(str, recorded(about["plugins"])))


def require_same(
    storage: Storage, spec: Spec, table: ExpertTable, plugins: Iterable[Plugin], start: Any = None
) -> None:
    """Refuse to go on in the folder of another experiment, with a sentence that says what differs."""
    about = read_about(storage)
    own = spec_of(about)
    if difference := first_difference(_without_paths(own), _without_paths(spec)):
        key = difference.split(" ")[0]
        more = {"seeds": "--seeds", "search.samples": "--samples", "env_steps": "--env-steps"}.get(key)
        hint = f"; jaxmoe extend {storage.where} {more} N adds to it" if more else ""
        raise InputError(f"{storage.where} holds another experiment: {difference}; choose another output folder{hint}")
    if plugins_of(about) != tuple(map(str, plugins)):
        raise InputError(
            f"{storage.where} was begun with other plugins, or other versions of them: "
            f"{', '.join(plugins_of(about)) or 'none'}; choose another output folder"
        )
    if about["table"]["digest"] != table.meta.digest:
        raise InputError(f"{storage.where} was begun with another expert table; choose another output folder")
    if start and storage.size(START) is not None and _read_start(storage, about) != _start_file(start):
        raise InputError(f"{storage.where} was begun from another policy; choose another output folder")


def write_round(storage: Storage, planned: Round) -> None:
    """Write a round; where another process has planned the same meanwhile, its version stays."""
    name = round_folder(planned.number)
    about: dict[str, Any] = {"number": planned.number, "kind": planned.kind, "why": planned.why}
    about |= {"agents": len(planned.agents), "files": {}}
    about |= {"jobs": [[job.number, len(job.rows), job.kind, job.env_steps] for job in planned.jobs]}
    for file, content in ((PLAN, parquet(planned.agents)), (JOBS, write_jobs(planned.jobs))):
        ours = storage.create(f"{name}/{file}", content)
        about["files"][file] = noted(content if ours else storage.read(f"{name}/{file}"))
    storage.create(f"{name}/round.json", sealed(about, indent=None))


def round_numbers(storage: Storage) -> list[int]:
    """Rounds that are planned, in order."""
    number = 0
    while storage.size(f"rounds/{number:03d}/round.json") is not None:
        number += 1
    return list(range(number))


def read_round(storage: Storage, number: int) -> Round:
    """A round that is planned."""
    about = read_round_document(storage, number)
    agents, jobs = read_plan(storage, number, about)
    return Round(number, about["kind"], about["why"], agents, jobs)


def set_aside_damaged(storage: Storage, jobs: list[Job]) -> list[str]:
    """Have jobs done again whose stored files are not what was written; what is to be said of them."""
    present = storage.files("jobs/")

    def damaged(job: Job) -> tuple[str, str] | None:
        """The attempt that counts, and its first file that is damaged."""
        about = read_done(storage, job)
        if about is None:
            return None
        for file, expected in about["files"].items():
            name = result_name(job, about, file)
            there = present.get(name)
            if there is None or there.bytes != expected["bytes"] or checksum(storage, name) != expected["sha256"]:
                return about["attempt"], name
        return None

    begun, said = [job for job in jobs if f"{job.folder}/done.json" in present], []
    for job, found in zip(begun, in_parallel(damaged, begun), strict=True):
        if found is not None:
            attempt, name = found
            storage.rename(f"{job.folder}/done.json", f"{job.folder}/done.json.damaged-{attempt}")
            said.append(f"{storage.where}/{name} is damaged or missing; job {job.number} is done again")
    return said


def clean_up(storage: Storage, jobs: list[Job], done: Mapping[int, Mapping[str, Any]]) -> None:
    """Remove what jobs that are done no longer need: checkpoints, notes of progress, attempts that do not count.

    Args:
        storage: of the experiment.
        jobs: of its plan.
        done: what `done.json` of each finished job says.
    """
    counts = {job.folder: str(done[job.number]["attempt"]) for job in jobs if job.number in done}
    drop = []
    for name in storage.list("jobs/"):
        folder, rest = _in_job(name)
        attempt, _, file = rest.partition("/")
        ours = file in _OF_AN_ATTEMPT
        stale = re.fullmatch(r"[0-9a-f]{8}", attempt) and attempt != counts.get(folder) and ours
        checkpoint = re.fullmatch(r"checkpoint/(state\.json|[0-9a-f]{8}-\d+\.safetensors)", rest)
        if folder in counts and (stale or checkpoint or rest == "progress.json"):
            drop.append(name)
    drop += [name for name in storage.unfinished("jobs/") if _in_job(name)[0] in counts]
    in_parallel(storage.delete, drop)


def _in_job(name: str) -> tuple[str, str]:
    """The folder of the job that a file belongs to, and its name there."""
    jobs, number, rest = (*name.split("/", 2), "")[:3]
    return f"{jobs}/{number}", rest


def _table_file(table: ExpertTable) -> bytes:
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as folder:
        path = Path(folder) / "table.parquet"
        table.save(path)
        return path.read_bytes()


def _read_start(storage: Storage, about: Mapping[str, Any]) -> bytes:
    return read_noted(storage, START, about.get("files", {}).get(START), RESTORE)


def _start_file(start: Mapping[str, Any]) -> bytes:
    return b"".join(pieces({name: np.asarray(tensor) for name, tensor in start.items()}))


def _without_paths(spec: Spec) -> Spec:
    """Two specs are the same if their tables and plugins are, wherever these lie, and whatever a job is given."""
    return spec.model_copy(
        update={
            "table": None,
            "plugins": [],
            "init_from": None if spec.init_from is None else "a policy",
            "ray": RayJob(),
        }
    )


def without_experiment(storage: Storage) -> str:
    """What to say of a place without `experiment.json`: it may hold results of the first edition."""
    try:
        manifest = from_json(storage.read("manifest.json"))
    except (OSError, ValueError):
        manifest = None
    if isinstance(manifest, dict) and ("run" in manifest or "spec" in manifest):
        return f"holds results of format 1, which jaxmoe 0.1 wrote and reads; this is jaxmoe {jaxmoe.__version__}"
    return f"holds no experiment: there is no {EXPERIMENT} in it"
