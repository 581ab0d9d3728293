"""What happens while an experiment runs, for whoever wants to be told."""

import logging
from collections.abc import Callable
from typing import NamedTuple


class Planned(NamedTuple):
    """The plan is made, or found."""

    jobs: int  # in all
    done: int  # of these, from earlier on
    agents: int  # in all
    agents_done: int
    env_steps_to_do: float  # of all agents together
    requests_to_do: float = 0.0  # that all agents together serve in evaluations, about


class JobStarted(NamedTuple):
    """A job begins, or goes on."""

    job: int
    what: str  # in words
    rows: int
    env_steps_done: int  # of each agent, by its checkpoint
    requests_done: int = 0  # that each agent has served in evaluations, by its checkpoint


class Compiled(NamedTuple):
    """The first segment of a job has compiled and run."""

    job: int
    seconds: float


class Advanced(NamedTuple):
    """A job has trained for a segment; or, of baselines, has served a part of the requests."""

    job: int
    agents: int
    env_steps: int  # of each agent so far
    env_steps_total: int
    env_steps_per_s: float  # of all agents of the job
    train_qos: float  # mean over agents, at the last evaluation
    diverged: int  # agents
    requests: int = 0  # that each agent served in that evaluation, of `requests_total`
    requests_total: int = 0  # that each serves in the end


class Evaluated(NamedTuple):
    """A job's agents were evaluated: on the way on a part of the requests, in the end on all."""

    job: int
    env_steps: int
    train_qos: float  # mean over agents
    best_qos: float  # of an agent, on train prompts
    requests: int = 0  # that each agent served, of `requests_total`
    requests_total: int = 0
    last: bool = False  # what it found is stored as the job's results


class CheckpointSaved(NamedTuple):
    """It is on disk where a job stands."""

    job: int
    env_steps: int


class JobFinished(NamedTuple):
    """A job's results are stored."""

    job: int
    agents: int  # 0 of baselines
    diverged: int
    seconds: float
    env_steps_per_s: float


class JobFailed(NamedTuple):
    """A job ended with an error of its own; the others go on."""

    job: int
    what: str
    error: str


class Noted(NamedTuple):
    """A sentence that a user should read."""

    text: str
    progress: bool = False  # it only says how it goes


class Finished(NamedTuple):
    """Nothing more is done."""

    complete: bool


Event = (
    Planned
    | JobStarted
    | Compiled
    | Advanced
    | Evaluated
    | CheckpointSaved
    | JobFinished
    | JobFailed
    | Noted
    | Finished
)
Callback = Callable[[Event], None]


def SILENT(event: Event) -> None:  # noqa: N802
    """Tell nobody; only that a job failed goes to the log, because results lack it."""
    if isinstance(event, JobFailed):
        logging.getLogger("jaxmoe").error("job %d, %s, failed: %s", *event)


def guarded(callbacks: tuple[Callback, ...]) -> Callback:
    """All of them; one that raises is reported once, to the others or in the log, and dropped; none changes results."""
    alive = list(callbacks)

    def tell(event: Event) -> None:
        for callback in list(alive):
            if callback not in alive:  # it failed when it was told that another one has
                continue
            try:
                callback(event)
            except Exception as error:
                alive.remove(callback)
                said = f"a callback failed and is not called again: {type(error).__name__}: {error}"
                if not alive:
                    logging.getLogger("jaxmoe").warning(said)
                tell(Noted(said))

    return tell
