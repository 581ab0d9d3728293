"""One process at work on a job: it tells how it goes, stops when somebody wants that, and stores what it finds."""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from jaxmoe.training.documents import sealed
from jaxmoe.training.events import Advanced, Callback, JobStarted
from jaxmoe.training.job import Job
from jaxmoe.training.prepared import experiment_table
from jaxmoe.training.provenance import device, versions
from jaxmoe.training.storage import Content, Storage
from jaxmoe.training.stored import finite, plan_rows, write_noted

PROGRESS_S = 5.0  # s, between two notes of where a job stands

Stop = Callable[[], bool]


def leaves_host_idle(platform: str) -> bool:
    """Whether the host has cores for other work while the devices of a platform compute."""
    return platform != "cpu"


class StoppedError(Exception):
    """Somebody wants the end."""


class Attempt:
    """One process at work on a job."""

    def __init__(
        self, job: Job, storage: Storage, tell: Callback, checkpoint_every_s: float, stop: Stop, width: int
    ) -> None:
        self.job, self.storage, self.tell, self.stop, self.width = job, storage, tell, stop, width
        self.checkpoint_every_s = checkpoint_every_s
        self.name = secrets.token_hex(4)
        self.table = experiment_table(storage, job.signature.table)
        self.rows = plan_rows(storage, job)
        self.began = time.monotonic()
        self._noted = float("-inf")

    def check(self) -> None:
        """End here if somebody wants the end."""
        if self.stop():
            raise StoppedError

    def started(self, event: JobStarted, in_all: int) -> None:
        """Tell that the job begins or goes on, and leave a note of it.

        Args:
            event: what to tell.
            in_all: env steps of each agent in the end; of baselines, environments.
        """
        self.tell(event)
        agents = event.rows if self.job.kind == "train" else 0
        self._note(Advanced(self.job.number, agents, event.env_steps_done, in_all, float("nan"), float("nan"), 0))

    def advanced(self, event: Advanced) -> None:
        """Tell where the job stands, and leave a note for whoever looks into the folder."""
        self.tell(event)
        if time.monotonic() - self._noted > PROGRESS_S:
            self._note(event)

    def _note(self, event: Advanced) -> None:
        self._noted = time.monotonic()
        about = {
            **event._asdict(),
            "time": time.time(),
            "attempt": self.name,
            "where": f"{socket.gethostname()} (process {os.getpid()})",
        }
        self.storage.write(f"{self.job.folder}/progress.json", json.dumps(finite(about)).encode())

    def store(self, files: Mapping[str, Content], about: Mapping[str, Any], state: Content | None = None) -> None:
        """Store the results; the first attempt of a job that comes so far is the one that counts."""
        folder = f"{self.job.folder}/{self.name}"
        written = {name: write_noted(self.storage, f"{folder}/{name}", content) for name, content in files.items()}
        kept = None if state is None else write_noted(self.storage, f"{folder}/state.safetensors", state)
        done = {
            "attempt": self.name,
            "files": written,
            "state": kept,
            "agents_per_device": self.width,
            "seconds": round(time.monotonic() - self.began, 3),
            "versions": versions(),
            "device": device(),
            **about,
        }
        self.storage.create(f"{self.job.folder}/done.json", sealed(finite(done)))
