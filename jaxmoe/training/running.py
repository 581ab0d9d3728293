"""`run_job`: trains and evaluates the agents of a job, or evaluates baselines, and stores what it finds.

It needs the job and the folder of the experiment, and nothing else: whoever runs it, in whatever process, gets the same
results, bit for bit. It goes on from the job's checkpoint if there is one. A job counts once its `done.json` is there.
"""

import contextlib
import time
from typing import NamedTuple

import jax

from jaxmoe.devices import start_devices
from jaxmoe.errors import InputError
from jaxmoe.training.attempt import Stop, StoppedError
from jaxmoe.training.baseline_run import BaselineRun
from jaxmoe.training.compiled import pinned
from jaxmoe.training.events import SILENT, Callback, Noted, guarded
from jaxmoe.training.job import Job, require_same_evaluation
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import is_done
from jaxmoe.training.training_run import TrainingRun

CHECKPOINT_S = 300.0  # s, between two checkpoints of a job


class Finished(NamedTuple):
    """What is stored of a job."""

    job: int
    complete: bool  # or stopped on the way, with a checkpoint
    seconds: float


def run_job(
    job: Job,
    storage: Storage,
    callback: Callback = SILENT,
    checkpoint_every_s: float = CHECKPOINT_S,
    stop: Stop = lambda: False,
) -> Finished:
    """Train, evaluate and store a job, from its checkpoint on if there is one.

    Args:
        job: what to do.
        storage: of the experiment.
        callback: told how it goes.
        checkpoint_every_s: seconds between two checkpoints; at most a tenth of the time goes into them.
        stop: asked between segments whether to save and stop.

    Raises:
        InputError: the job is for another kind of device, or a file cannot be written.
        OSError: a file cannot be read now.
    """
    start_devices()  # what else a variable could change is pinned below
    if is_done(storage, job):
        return Finished(job.number, True, 0.0)
    if job.platform != jax.default_backend():
        raise InputError(
            f"job {job.number} of {storage.where} is planned for {job.platform}, and this process has "
            f"{jax.default_backend()}; results would differ"
        )
    require_same_evaluation([job], f"job {job.number} of {storage.where}")
    began, tell = time.monotonic(), guarded((callback,))
    runner = TrainingRun if job.kind == "train" else BaselineRun
    width = job.agents_per_device
    with pinned(job.matmul_precision, job.deterministic):
        while True:
            try:
                with contextlib.suppress(StoppedError):
                    runner(job, storage, tell, checkpoint_every_s, stop, width).run()
                    return Finished(job.number, True, time.monotonic() - began)
                return Finished(job.number, False, time.monotonic() - began)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or width == 1:
                    raise
                width //= 2
                tell(Noted(f"job {job.number} does not fit the memory: training {width} agents per device at once"))
