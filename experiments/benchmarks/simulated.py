"""A simulated engine: jobs of a real plan that only sleep and write, on workers and under drivers that die at random.

Everything but the training is the product's: plan, driver, storage, finish and clean-up. `play` begins an experiment,
kills its driver at random moments, and begins it again until it is complete; the driver is this file as a program. What
workers do is in `peers/simulated_worker.py`.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from peers.simulated_worker import ASLEEP, WRITES, Order, work

from jaxmoe.devices import start_jax
from jaxmoe.experiment.creating import create, this_machine
from jaxmoe.experiment.driving import Ended, drive
from jaxmoe.experiment.experiment import Experiment
from jaxmoe.experiment.rounds import Machine
from jaxmoe.experiment.spec import Spec, load_spec
from jaxmoe.table import load_table
from jaxmoe.training.events import Callback, Event, JobFailed, Noted
from jaxmoe.training.job import Job
from jaxmoe.training.remote import storage_at
from jaxmoe.training.storage import Storage

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parents[1]
SEEDS = 10
WAITING = 4  # times as many jobs are handed out as there are workers
LOOK_S = 0.2  # s, between two looks at how many jobs are done
LATER_S = 2.0  # s, at most, that a driver lives on after it has got so far

Stop = Callable[[], bool]


class Play(NamedTuple):
    """How an experiment is played."""

    jobs: int
    workers: int = 16
    seconds: float = 0.25  # that a job sleeps on average
    worker_deaths: float = 0.0  # share of the jobs handed out whose worker dies
    driver_deaths: int = 0  # one of them in the planning, and one in the end
    seed: int = 0


class Played(NamedTuple):
    """How it went."""

    drivers: list[dict[str, Any]]  # what each said of its times, as far as it came
    lost: int  # workers, of which drivers have told
    failed: list[str]  # jobs
    driver_deaths: int


class Workers:
    """Processes on this machine, that are made anew when they die; a `Pool`."""

    def __init__(self, storage: Storage, play: Play) -> None:
        self._play, self._where = play, storage.where
        self._chance = random.Random(play.seed)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["peers.simulated_worker", "simulated"])  # forked, not imported again
        self._idle: list[Connection] = []
        self._at_work: dict[Connection, int] = {}
        self._waiting: deque[Job] = deque()
        self._stopped: list[Ended] = []
        for _ in range(play.workers):
            self._idle.append(self._begin())

    @property
    def most(self) -> int:
        """Jobs that may be handed out at once: more than there are workers, so that none waits for the driver."""
        return WAITING * self._play.workers

    def submit(self, job: Job) -> None:
        """Hand out a job."""
        self._waiting.append(job)
        self._hand_out()

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; wait so long for the first one."""
        ended, self._stopped = self._stopped, []
        for connection in wait(list(self._at_work), timeout=seconds):
            assert isinstance(connection, Connection)
            number = self._at_work.pop(connection)
            try:
                ended.append(Ended(*connection.recv()))
                self._idle.append(connection)
            except (EOFError, OSError):
                connection.close()
                self._idle.append(self._begin())
                ended.append(Ended(number, "lost", "it was killed"))
        self._hand_out()
        return ended

    def stop(self) -> None:
        """Have all workers end what they do, and hand out nothing that waits."""
        self._stopped += [Ended(job.number, "stopped") for job in self._waiting]
        self._waiting.clear()
        for connection in self._at_work:
            with contextlib.suppress(OSError):
                connection.send(None)

    def close(self) -> None:
        """Let all workers end."""
        for connection in (*self._idle, *self._at_work):
            connection.close()

    def _begin(self) -> Connection:
        ours, theirs = self._processes.Pipe()
        self._processes.Process(target=work, args=(theirs, self._where), daemon=True).start()
        theirs.close()
        return ours

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            connection, job = self._idle.pop(), self._waiting.popleft()
            dies = self._chance.randint(ASLEEP, WRITES) if self._chance.random() < self._play.worker_deaths else None
            with contextlib.suppress(OSError):  # `wait` finds out
                connection.send(Order(job.number, self._play.seconds, dies))
            self._at_work[connection] = job.number


class Simulated:
    """The engine made of such workers."""

    alone = True

    def __init__(self, play: Play) -> None:
        self.play = play
        self.times: list[tuple[float, float]] = []  # when it was called and when it was done, and processor time then

    def machine(self, spec: Spec) -> Machine:
        """What the experiment is planned for."""
        return this_machine(spec)._replace(devices=1)

    def __call__(
        self, jobs: Sequence[Job], storage: Storage, callback: Callback, stop: Stop, checkpoint_every_s: float
    ) -> list[int]:
        """Have the jobs done."""
        del checkpoint_every_s
        self.times.append(_now())
        workers = Workers(storage, self.play)
        try:
            return drive(workers, jobs, storage, callback, stop)
        finally:
            workers.close()
            self.times.append(_now())

    def close(self) -> None:
        """Nothing was begun."""


def spec_of(jobs: int) -> Spec:
    """A search whose jobs have an agent each."""
    return load_spec(
        {
            "algorithm": "ppo",
            "env_steps": 4096,
            "seeds": SEEDS,
            "evaluations": 4,
            "baselines": "none",
            "objective": {"metric": "qos"},
            "search": {"method": "random", "samples": max(1, jobs // SEEDS)},
            "hypers": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
            "devices": {"agents_per_job": 1, "agents_per_device": 1, "platform": "cpu", "count": 1},
        }
    )


def drive_to_the_end(where: str, play: Play) -> None:
    """What a driver does; it says how it goes, a line of JSON each time."""
    began = _now()
    start_jax()
    engine = Simulated(play)
    spec = spec_of(play.jobs)
    storage = create(spec, load_table(), where, engine.machine(spec))
    planned = _now()
    _say(plan_s=planned[0] - began[0])
    experiment = Experiment(storage).run(engine, callback=_tell, compilation_cache=False)
    ended, (begun, done) = _now(), engine.times
    _say(
        complete=experiment.complete, jobs=len(experiment.contents.jobs), look_s=begun[0] - planned[0],
        drive_s=done[0] - begun[0], finish_s=ended[0] - done[0], drive_cpu_s=done[1] - begun[1],
    )  # fmt: skip


def play(where: str, what: Play, log: Path) -> Played:
    """Have an experiment done, whatever dies.

    Args:
        where: folder or address.
        what: how.
        log: file for what the drivers say.
    """
    chance, left = random.Random(what.seed), _moments(what)
    number = 0
    while True:
        with _driver(where, what._replace(seed=what.seed + number), log) as driver:
            if left and _killed(driver, where, what.jobs, left[0], chance.uniform(0, LATER_S)):
                left.pop(0)
            elif driver.wait():
                raise SystemExit(f"a driver ended with {driver.returncode}; {log} has what it said")
        number += 1
        said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line[-1] == "}"]
        if any(each.get("complete") for each in said) and not left:
            drivers = [each for each in said if "plan_s" in each or "complete" in each]
            lost = sum("worker is lost" in each.get("noted", "") for each in said)
            return Played(drivers, lost, [each["failed"] for each in said if "failed" in each], what.driver_deaths)


def _moments(what: Play) -> list[float]:
    """Shares of the jobs that are done when a driver is killed, a little later."""
    chance, count = random.Random(what.seed + 1), what.driver_deaths
    return sorted([0.0, 1.0, *(chance.random() for _ in range(count - 2))])[:count] if count > 1 else [0.5] * count


def _killed(driver: "subprocess.Popen[bytes]", where: str, jobs: int, share: float, later_s: float) -> bool:
    """Kill a driver some seconds after so many jobs are done, if it is still there; whether it was."""
    while driver.poll() is None and _done(where) < share * jobs:
        time.sleep(LOOK_S)
    try:
        driver.wait(later_s)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
    return driver.returncode < 0


def _done(where: str) -> int:
    """Jobs that are done."""
    if "://" in where:
        return sum(name.endswith("/done.json") for name in storage_at(where).list("jobs/"))
    return sum(1 for _ in Path(where).glob("jobs/*/done.json"))


@contextmanager
def _driver(where: str, what: Play, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A driver's process, that ends with the block."""
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    variables["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, BENCHMARKS)))  # of what is forked, too
    command = [sys.executable, __file__, where, json.dumps(what._asdict())]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=variables, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _now() -> tuple[float, float]:
    """Time, and processor time of this process."""
    return time.perf_counter(), time.process_time()


def _tell(event: Event) -> None:
    if isinstance(event, Noted) and not event.progress:
        _say(noted=event.text)
    if isinstance(event, JobFailed):
        _say(failed=f"job {event.job}: {event.error}")


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", help="folder or address of the experiment")
    parser.add_argument("play", help="how it is played, in JSON")
    arguments = parser.parse_args()
    drive_to_the_end(arguments.where, Play(**json.loads(arguments.play)))
