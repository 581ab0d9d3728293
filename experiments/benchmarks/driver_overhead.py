"""What plan, driver, storage and finish cost for each job, where jobs only sleep and write; and what dies costs no job.

Each number of jobs is played twice (`simulated.py`): undisturbed, which is timed, and with workers and drivers that are
killed at random; the tables of the two must be equal, byte for byte. `--s3` plays one on a real S3 server on this
machine, with a proxy before it that lets every request wait.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers.driver import ROOT, print_aligned, write_csv
from peers.machine import describe
from peers.simulated_worker import seconds_of
from simulated import Play, Played, play

from jaxmoe.training.remote import storage_at

TABLES = ("results.parquet", "curves.parquet", "comparison.parquet")
COLUMNS = {  # of the table that is printed, and how
    "storage": "{}", "jobs": "{:,}", "plan_s": "{:.1f}", "drive_s": "{:.1f}", "finish_s": "{:.1f}", "again_s": "{:.1f}",
    "status_s": "{:.1f}", "ideal_s": "{:.1f}", "overhead_ms": "{:.1f}", "driver_ms": "{:.1f}", "files": "{:,}",
    "requests_per_job": "{:.1f}", "workers_died": "{}", "drivers_died": "{}",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1_000, 10_000], help="in a folder")
    parser.add_argument("--s3", type=int, default=0, help="jobs on an S3 server")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="that each request to it waits")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.5, help="that a job sleeps on average")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()
    about = {**describe(), "jaxmoe": importlib.metadata.version("jaxmoe")}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as temporary:
        scratch = Path(temporary)
        rows += [measure("folder", str(scratch / str(jobs)), scratch, jobs, arguments) for jobs in arguments.jobs]
        if arguments.s3:
            with slow_bucket(arguments.delay_ms / 1000) as (address, asked):
                rows.append(measure("S3", f"{address}/{arguments.s3}", scratch, arguments.s3, arguments, asked))
    print_aligned([list(COLUMNS), *([form.format(row[name]) for name, form in COLUMNS.items()] for row in rows)])
    if arguments.out:
        write_csv(arguments.out, [{**row, **about} for row in rows])


def measure(
    storage: str, where: str, scratch: Path, jobs: int, arguments: argparse.Namespace, asked: Sized = ()
) -> dict[str, Any]:
    """One row; `asked` are all requests that a server has had so far."""
    how = Play(jobs, arguments.workers, arguments.seconds)
    first = _play(where, how, scratch / "first.log").drivers
    requests = len(asked)
    timed = {**first[0], **first[-1]}
    again = _play(where, how, scratch / "again.log").drivers
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jaxmoe", "status", where], env=_variables(), check=True, capture_output=True)
    status_s = time.perf_counter() - began
    there = storage_at(where)
    disturbed = _play(f"{where}-killed", how._replace(worker_deaths=0.02, driver_deaths=4), scratch / "killed.log")
    if differing := [name for name in TABLES if there.read(name) != storage_at(f"{where}-killed").read(name)]:
        raise SystemExit(f"{', '.join(differing)} of {jobs} jobs differ where workers and drivers were killed")
    if disturbed.failed:
        raise SystemExit(f"jobs failed: {disturbed.failed}")
    ideal_s = sum(seconds_of(job, arguments.seconds) for job in range(jobs)) / arguments.workers
    row = {
        "storage": storage,
        "jobs": timed["jobs"],
        "workers": arguments.workers,
        "plan_s": timed["plan_s"],
        "drive_s": timed["drive_s"],
        "finish_s": timed["finish_s"],
        "again_s": again[0]["plan_s"] + again[-1]["look_s"] + again[-1]["drive_s"] + again[-1]["finish_s"],
        "status_s": status_s,
        "ideal_s": ideal_s,
        "overhead_ms": 1000 * (timed["drive_s"] - ideal_s) / jobs,
        "driver_ms": 1000 * timed["drive_cpu_s"] / jobs,
        "files": len(there.list()),
        "requests_per_job": requests / jobs,
        "workers_died": disturbed.lost,
        "drivers_died": disturbed.driver_deaths,
    }
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def _play(where: str, how: Play, log: Path) -> Played:
    log.unlink(missing_ok=True)
    return play(where, how, log)


def _variables() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@contextmanager
def slow_bucket(delay_s: float) -> Iterator[tuple[str, Sized]]:
    """The address of a bucket whose server answers late, and what it was asked."""
    sys.path.insert(0, str(ROOT / "tests"))
    from object_store import s3_server

    with s3_server() as (address, trouble):
        trouble.decide = lambda *_: delay_s
        yield address, trouble.requests


if __name__ == "__main__":
    main()
