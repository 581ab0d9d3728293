"""The programs of the next job, compiled while the present one trains: on an accelerator the host has time for it.

A process that leaves a thread alone in the compiler aborts: where somebody wants the end, it comes after the program
that is just being compiled.
"""

import contextlib
import threading
from collections.abc import Iterable

from jaxmoe.training.attempt import Stop, leaves_host_idle
from jaxmoe.training.compiled import pinned
from jaxmoe.training.events import SILENT, Advanced, Callback, Compiled, Event
from jaxmoe.training.job import Job
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import is_done
from jaxmoe.training.training_run import TrainingRun


def compiling_ahead(job: Job, later: Iterable[Job], storage: Storage, callback: Callback, stop: Stop) -> Callback:
    """A callback for a job that passes on what it is told, and has the next programs compiled once the job advances.

    Args:
        job: the present one.
        later: those after it; the first of them that is not done and has other programs is meant.
        storage: of the experiment.
        callback: is told what this one is told.
        stop: whether somebody wants the end.
    """
    if not leaves_host_idle(job.platform):
        return callback
    others = (each for each in later if each.kind == "train" and each.signature.key != job.signature.key)
    waiting = [each for each in [next((each for each in others if not is_done(storage, each)), None)] if each]

    def tell(event: Event) -> None:
        callback(event)
        if waiting and isinstance(event, Compiled | Advanced):  # its own programs are compiled by then
            threading.Thread(target=_compile, args=(waiting.pop(), storage, stop)).start()

    return tell


def _compile(job: Job, storage: Storage, stop: Stop) -> None:
    """Compile what a job needs; what goes wrong is met, and said, by the job itself."""
    with contextlib.suppress(Exception), pinned(job.matmul_precision, job.deterministic):
        TrainingRun(job, storage, SILENT, 0.0, stop, job.agents_per_device).compile()
