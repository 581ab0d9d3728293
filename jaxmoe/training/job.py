"""A job: agents of one signature that are trained, evaluated and stored together; the unit of work for every engine.

A job is plain values, JSON both ways, and holds all that fixes the bits of its results, but for the versions and the
kind of device: who its agents are stands in the plan (`rounds/NNN/plan.parquet`), and the expert table in `table/`.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from jaxmoe.errors import InputError
from jaxmoe.training.documents import RESTORE, Document, Noted, read_document, read_noted
from jaxmoe.training.storage import Storage

PLAN, JOBS = "plan.parquet", "jobs.jsonl"  # files of a round
LONGEST_LINE = 256 * 2**20  # bytes of jobs.jsonl that are read at once
_OF_ROUND = re.compile(rf"rounds/(\d{{3,6}})/{re.escape(JOBS)}")
Count = Annotated[int, Field(ge=1, le=2**53)]
Whole = Annotated[int, Field(ge=0, le=2**53)]
Precision = Literal["default", "high", "highest", "bfloat16", "tensorfloat32", "float32"]  # as JAX calls them


class Signature(NamedTuple):
    """What shapes a compiled program."""

    algorithm: str  # "" of baselines
    config: dict[str, Any]  # complete
    scenario: str
    settings: dict[str, Any]  # static ones that the spec gives
    static_numbers: dict[str, Any]  # and how those are drawn that episodes draw
    table: str  # digest
    plugins: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Equal where programs are."""
        return json.dumps(self, sort_keys=True)

    def __str__(self) -> str:
        return f"{self.algorithm} in {self.scenario}" if self.algorithm else f"baselines in {self.scenario}"


class Phase(NamedTuple):
    """A part of the training: until so many env steps of each agent, schedules run over an interval of them."""

    until: Count  # env steps
    schedule_begin: Whole = 0  # env steps
    schedule_steps: Count = 1
    hypers: Mapping[str, tuple[float, ...]] = {}  # that change in this phase: one value per row


class Stop(NamedTuple):
    """What ends an agent's learning; nothing, if neither is said."""

    value: float | None = None  # QoS that it has reached
    plateau: int | None = None  # evaluations at equal distances in a row without a better one
    min_gain: float = 0.0  # QoS by which an evaluation must exceed the best one before it, to be a better one

    @property
    def stops(self) -> bool:
        """Whether anything ends it."""
        return self.value is not None or self.plateau is not None


class Keeping(NamedTuple):
    """What is kept, and what ends it; the same for all agents of a job."""

    keep: Literal["last", "best"] = "last"
    stop: Stop = Stop()
    split: str = ""  # the prompts that choose; validation where there are some, else train, if it is ""

    @property
    def looks(self) -> bool:
        """Whether evaluations decide anything."""
        return self.keep == "best" or self.stop.stops


KEEP_LAST = Keeping()
EVALUATION = 2  # rises with the requests that evaluations serve, or where their draws come from


class Start(NamedTuple):
    """What agents begin with."""

    kind: Literal["fresh", "policy", "states"] = "fresh"
    policy: str = ""  # a file of the experiment with the policy that all of them go on from
    rows: tuple[tuple[int, int], ...] = ()  # of other jobs' final states: (job, row) for each row of the job


class Job(NamedTuple):
    """Who is trained, how, for how long, and what is stored."""

    number: Whole
    round: Whole
    kind: Literal["train", "baselines"]
    signature: Signature
    rows: tuple[Whole, ...]  # agents of the plan; of baselines, environments
    numbers: tuple[str, ...]  # columns of the plan that are numbers of each row's own environment
    agents_per_device: Count
    root_seed: Whole
    purpose: Whole  # of its agents' keys
    phases: tuple[Phase, ...]
    evaluate_at: tuple[Whole, ...]  # env steps of each agent
    requests: Count
    families: tuple[str, ...]  # of baselines
    start: Start
    keep_states: bool
    matmul_precision: Precision
    platform: str
    evaluation: int = 1  # which requests are served: `EVALUATION` of the version that planned it
    keeping: Keeping = KEEP_LAST  # which policies are kept, and what ends an agent's training early
    deterministic: bool = False  # no kernel is chosen by its speed

    @property
    def env_steps(self) -> int:
        """Of each agent, in the end."""
        return self.phases[-1].until if self.phases else 0

    @property
    def begins_at(self) -> int:
        """Env steps of each agent that it has behind it when the job begins."""
        return self.evaluate_at[0] if self.start.kind == "states" else 0

    @property
    def evaluation_distance(self) -> int:
        """Env steps between two evaluations, but for the early ones, which are closer."""
        return self.evaluate_at[-1] - self.evaluate_at[-2] if len(self.evaluate_at) > 1 else 0

    @property
    def folder(self) -> str:
        """Where its results are."""
        return f"jobs/{self.number:06d}"

    def to_json(self) -> str:
        """One line."""
        return json.dumps(_plain(self), separators=(",", ":"), allow_nan=False)


_ADAPTER = TypeAdapter(Job)


class _Round(Document):
    """What `round.json` says."""

    number: Whole
    kind: Literal["spec", "extension", "confirmation"]
    why: dict[str, Any]
    jobs: list[list[int | str]]
    files: dict[str, Noted] = Field(default_factory=dict)  # absent in what earlier versions wrote


def parse_job(line: str | bytes, source: str) -> Job:
    """A job from its line. Raises `InputError` for anything that no job can be."""
    try:
        job = _ADAPTER.validate_python(_named(json.loads(line)))
        if why := _inconsistent(job):
            raise ValueError(why)
        return job
    except ValidationError as error:
        found = error.errors()[0]
        why = f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise InputError(f"{source} does not describe a job ({why})")


def _inconsistent(job: Job) -> str:
    """What the parts of a job say against each other; nothing if they agree."""
    if not job.rows or len(set(job.rows)) < len(job.rows):
        return "rows must be different numbers, at least one"
    if job.kind == "baselines":
        return "" if job.families else "families is empty"
    ends = [phase.until for phase in job.phases]
    if not ends or ends != sorted(set(ends)):
        return "phases must be one or more, each longer than the one before"
    if not job.evaluate_at or job.evaluate_at[-1] < ends[-1] or list(job.evaluate_at) != sorted(set(job.evaluate_at)):
        return "evaluate_at must grow, to the end of the last phase"
    if job.start.kind == "states" and len(job.start.rows) != len(job.rows):
        return f"start.rows must be {len(job.rows)}, one for each row"
    if any(len(values) != len(job.rows) for phase in job.phases for values in phase.hypers.values()):
        return f"hypers of a phase must be {len(job.rows)} numbers, one for each row"
    return ""


def require_same_evaluation(jobs: Iterable[Job], what: str) -> None:
    """Refuse to add to what an earlier version has evaluated on other requests."""
    if any(job.evaluation != EVALUATION for job in jobs):
        raise InputError(
            f"{what} was planned by an earlier version, whose evaluations serve other requests: scores would not be "
            "comparable; plan it anew in another folder"
        )


def write_jobs(jobs: Iterable[Job]) -> bytes:
    """The content of `jobs.jsonl`."""
    return b"".join(f"{job.to_json()}\n".encode() for job in jobs)


def round_folder(number: int) -> str:
    """Where a round is."""
    return f"rounds/{number:03d}"


def read_round_document(storage: Storage, number: int) -> dict[str, Any]:
    """What `round.json` says of what was planned at once.

    Raises:
        InputError: it is damaged.
    """
    return read_document(storage, f"{round_folder(number)}/round.json", _Round, RESTORE)


def read_planned(storage: Storage, number: int, file: str, about: Mapping[str, Any] | None = None) -> bytes:
    """A file of a round, compared with the checksum that its `round.json` says, which is read unless it is given.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is not what was written.
    """
    try:
        about = read_round_document(storage, number) if about is None else about
    except FileNotFoundError:  # it is being planned, or was so until a process was killed
        about = {}
    return read_noted(storage, f"{round_folder(number)}/{file}", about.get("files", {}).get(file), RESTORE)


def read_jobs(storage: Storage, number: int, about: Mapping[str, Any] | None = None) -> list[Job]:
    """The jobs of a round."""
    where = f"{storage.where}/{round_folder(number)}/{JOBS}"
    return [parse_job(line, f"{where}, line {at}") for at, line in enumerate(_lines(storage, number, about), 1)]


def find_job(storage: Storage, number: int) -> Job:
    """The job of a number, in whatever round it is planned; other lines are only read where none begins with it."""
    begins = f'{{"number":{number},'.encode()  # as `Job.to_json` writes it
    rounds = [int(found[1]) for name in storage.list("rounds/") if (found := _OF_ROUND.fullmatch(name))]
    for each in rounds:
        for at, line in enumerate(_lines(storage, each), 1):
            if line.startswith(begins):
                return parse_job(line, f"{storage.where}/{round_folder(each)}/{JOBS}, line {at}")
    for job in (job for each in rounds for job in read_jobs(storage, each)):
        if job.number == number:
            return job
    raise InputError(f"{storage.where} has no job {number}")


def _lines(storage: Storage, number: int, about: Mapping[str, Any] | None = None) -> list[bytes]:
    name = f"{round_folder(number)}/{JOBS}"
    if (storage.size(name) or 0) > LONGEST_LINE:
        raise InputError(f"{storage.where}/{name} is larger than any list of jobs")
    return read_planned(storage, number, JOBS, about).splitlines()


def even_sizes(count: int, largest: int, multiple: int = 1) -> list[int]:
    """Cut a number into parts of equal size, as few as `largest` allows, each a multiple of a number but the last.

    >>> even_sizes(36, 16, 8), even_sizes(5, 16, 8)
    ([16, 16, 4], [5])
    """
    parts = -(-count // max(1, largest))
    whole = -(-count // parts)
    size = -(-whole // multiple) * multiple
    return [min(size, count - begin) for begin in range(0, count, size)]


def _plain(value: Any) -> Any:
    """Named tuples as mappings."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return {name: _plain(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _named(tree: Any) -> Any:
    """Inverse of `_plain`, as far as pydantic needs it: a signature's lists are tuples."""
    signature = tree.get("signature") if isinstance(tree, dict) else None
    config = signature.get("config") if isinstance(signature, dict) else None
    if isinstance(config, dict):
        tree["signature"]["config"] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
        }
    return tree


def batched(items: list[int], sizes: list[int]) -> list[list[int]]:
    """The items in parts of these sizes."""
    ends = list(itertools.accumulate(sizes))
    return [items[end - size : end] for size, end in zip(sizes, ends, strict=True)]
