"""Who runs the jobs: engines decide their order and place, never their content."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxmoe.errors import InputError
from jaxmoe.experiment.rounds import Machine
from jaxmoe.experiment.spec import RayJob, Spec
from jaxmoe.names import short
from jaxmoe.training.ahead import compiling_ahead
from jaxmoe.training.events import Callback, JobFailed
from jaxmoe.training.job import Job
from jaxmoe.training.running import run_job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import is_done

Stop = Callable[[], bool]


NAMES = ("local", "ray")


class Engine(Protocol):
    """Who runs jobs."""

    @property
    def alone(self) -> bool:
        """Whether no other driver is to work in the folder at the same time."""

    def machine(self, spec: Spec) -> Machine:
        """The devices that an experiment is planned for."""

    def __call__(
        self, jobs: Sequence[Job], storage: Storage, callback: Callback, stop: Stop, checkpoint_every_s: float
    ) -> list[int]:
        """Run jobs that are not done yet; numbers of those that failed with an error of their own."""

    def close(self) -> None:
        """End what was begun for it; it may be done."""


@dataclass(frozen=True)
class Shard:
    """Every n-th job, from the i-th on."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """The shard `i/n`, i from 0 to n - 1; with `auto`, that of the task of SLURM which this process is.

    >>> parse_shard("0/4")
    Shard(index=0, count=4)
    """
    if text == "auto":
        return shard_of_task(os.environ)
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not index < count:
        raise InputError(f"--shard {short(text)} is not of the form i/n with i from 0 to n - 1, as in 0/4, nor auto")
    return Shard(index, count)


def shard_of_task(variables: Mapping[str, str]) -> Shard:
    """The shard of a task of SLURM: its place in the array, or else its rank among the tasks that `srun` has started.

    >>> shard_of_task({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"})
    Shard(index=1, count=4)

    Raises:
        InputError: the variables are not there, or make no sense.
    """
    array = "SLURM_ARRAY_TASK_ID" in variables
    needed = ("ID", "MIN", "COUNT", "STEP") if array else ("PROCID", "NTASKS")
    names = [f"SLURM_ARRAY_TASK_{name}" if array else f"SLURM_{name}" for name in needed]
    said = {name: variables.get(name, "") for name in names}
    if array:
        said["SLURM_ARRAY_TASK_MAX"] = variables.get("SLURM_ARRAY_TASK_MAX", "")
    if not any(said.values()):
        raise InputError("--shard auto is for tasks of SLURM, and this process is none; say which, as in --shard 0/8")
    wrong = InputError(
        f"--shard auto cannot be told from {', '.join(f'{name}={value}' for name, value in said.items())}: it takes "
        "arrays with even steps, as 0-7, and tasks of srun; or say which, as in --shard 0/8"
    )
    if not all(value.isdecimal() for value in said.values()):
        raise wrong
    if array:
        task, first, count, step, last = map(int, said.values())
        if step < 1 or last != first + (count - 1) * step or task not in range(first, last + 1, step):
            raise wrong
        return Shard((task - first) // step, count)
    index, count = map(int, said.values())
    if index >= count:
        raise wrong
    return Shard(index, count)


class Local:
    """One job after the other, on all devices of this process; of several such processes, each with a part of them.

    Processes with parts of the same plan share a folder.
    """

    def __init__(self, part: Shard = Shard()) -> None:
        self.part = part

    @property
    def alone(self) -> bool:
        """Parts share a folder."""
        return self.part.count == 1

    def machine(self, spec: Spec) -> Machine:
        """This one, as often as there are parts."""
        from jaxmoe.experiment.creating import this_machine  # it plans, with JAX

        return this_machine(spec, self.part.count)

    def __call__(
        self, jobs: Sequence[Job], storage: Storage, callback: Callback, stop: Stop, checkpoint_every_s: float
    ) -> list[int]:
        """Run the jobs of this part."""
        own = [job for job in jobs if job.number % self.part.count == self.part.index]
        return _in_turn(own, jobs, storage, callback, stop, checkpoint_every_s)

    def close(self) -> None:
        """Nothing was begun."""


def _in_turn(
    own: Sequence[Job], jobs: Sequence[Job], storage: Storage, callback: Callback, stop: Stop, checkpoint_every_s: float
) -> list[int]:
    """Some of the jobs of a plan, one after the other."""
    failed: list[int] = []
    planned = {job.number: job for job in jobs}
    for position, job in enumerate(own):
        if stop():
            break
        if is_done(storage, job) or not _can_begin(job, planned, storage):
            continue
        try:
            tell = compiling_ahead(job, own[position + 1 :], storage, callback, stop)
            run_job(job, storage, tell, checkpoint_every_s, stop)
        except (InputError, OSError):
            raise  # the folder or the machine, which the next job meets as well
        except Exception as error:  # the job's own: the others go on
            failed.append(job.number)
            callback(JobFailed(job.number, str(job.signature), f"{type(error).__name__}: {error}"))
    return failed


def _can_begin(job: Job, planned: Mapping[int, Job], storage: Storage) -> bool:
    """Whether the jobs are done whose agents a job goes on with; one of them may have failed."""
    return all(is_done(storage, planned[number]) for number in {number for number, _ in job.start.rows})


def engine_named(name: str, address: str | None = None, each: RayJob | None = None, part: Shard = Shard()) -> Engine:
    """The engine of a name.

    Args:
        name: "local", all devices of this process; or "ray", the workers of a Ray cluster.
        address: of a Ray cluster that is there; if absent one is started on this machine.
        each: what each job takes of a Ray cluster.
        part: of the jobs, that a process does which shares them with others.

    Raises:
        InputError: there is no such engine, it has workers of its own that share the jobs, or what it needs is not
            installed.
    """
    if name not in NAMES:
        raise InputError(f"engine = {short(name)} is not one of {', '.join(NAMES)}")
    if part.count > 1 and name != "local":
        raise InputError(
            f"shard = {part} and engine = {short(name)}: the workers of an engine share the jobs themselves"
        )
    if name == "ray":
        from jaxmoe.experiment.cluster import Cluster

        return Cluster(address, each)
    if address is not None:
        raise InputError(f"address = {short(address)} is that of a Ray cluster: say engine ray, too")
    return Local(part)
