"""A stand-in for SLURM on this machine: `sbatch` and `scontrol requeue`, and a cluster that runs what they are told.

What is like SLURM's: lines for sbatch are read until the first command, and what the command line says counts more; a
script is copied when it is submitted; each task of an array is a process group of its own with SLURM's variables, and
logs are relative to --chdir. Limits are not kept: tests send the signals.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SPOOL = "SLURM_STAND_IN"
PYTHON = sys.executable


def sbatch(arguments):
    spool = Path(os.environ[SPOOL])
    *options, script = arguments
    text = Path(script).read_text()
    said = []
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            said += shlex.split(line.removeprefix("#SBATCH"))
        elif line.strip() and not line.startswith("#"):
            break
    told = dict(option.partition("=")[::2] for option in (*said, *options))
    number = 100 + len(list(spool.glob("*.json")))
    (spool / f"{number}.sh").write_text(text)
    about = {"told": told, "cwd": told.get("--chdir", str(Path.cwd())), "variables": dict(os.environ)}
    (spool / f"{number}.partial").write_text(json.dumps(about))
    (spool / f"{number}.partial").replace(spool / f"{number}.json")
    print(number if "--parsable" in told else f"Submitted batch job {number}")


def scontrol(arguments):
    verb, task = arguments
    assert verb == "requeue"
    (Path(os.environ[SPOOL]) / f"{task}.again").touch()


@dataclass
class Task:
    """A task of an array, or a job that is none."""

    job: int
    index: int | None
    process: subprocess.Popen | None = None
    lost: bool = False  # its node is
    codes: list[int] = field(default_factory=list)  # as it ended, time after time
    ended: float = 0.0

    @property
    def name(self):
        return str(self.job) if self.index is None else f"{self.job}_{self.index}"

    @property
    def over(self):
        return self.process is None and bool(self.codes)


class Cluster:
    """Runs what has been submitted."""

    def __init__(self, folder):
        self.spool, self.commands = folder / "spool", folder / "bin"
        self.jobs, self.tasks = {}, {}
        for path in (self.spool, self.commands):
            path.mkdir(parents=True)
        for name in ("sbatch", "scontrol"):
            command = self.commands / name
            command.write_text(f'#!/bin/sh\nexec {shlex.join([PYTHON, __file__, name])} "$@"\n')
            command.chmod(0o755)

    @property
    def variables(self):
        return {"PATH": f"{self.commands}{os.pathsep}{os.environ['PATH']}", SPOOL: str(self.spool)}

    def submit(self, *arguments):
        """What sbatch says."""
        command, variables = [self.commands / "sbatch", *map(str, arguments)], os.environ | self.variables
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()

    def run(self, watch=lambda: None, seconds=900):
        """Run all jobs to their end, in the order that they ask for; meanwhile somebody may do harm."""
        until = time.monotonic() + seconds
        try:
            while self._begin() or any(task.process for task in self.tasks.values()):
                assert time.monotonic() < until, "the cluster is still at work"
                watch()
                for task in self.tasks.values():
                    self._look_at(task)
                time.sleep(0.05)
        finally:
            for task in self.tasks.values():
                if task.process is not None:
                    os.killpg(task.process.pid, signal.SIGKILL)
                    task.process.wait()

    def lose(self, task):
        """The node of a task goes: all that runs there is dead, and SLURM queues the task again."""
        task.lost = True
        os.killpg(task.process.pid, signal.SIGKILL)

    def _begin(self):
        """Start what may start; whether anything is left to do."""
        for path in sorted(self.spool.glob("*.json")):
            number = int(path.stem)
            self.jobs.setdefault(number, json.loads(path.read_text()))
        waiting = [number for number in self.jobs if number not in {task.job for task in self.tasks.values()}]
        for number in waiting:
            after = self.jobs[number]["told"].get("--dependency", "afterany:").removeprefix("afterany:")
            if not after or all(task.over for task in self.tasks.values() if task.job == int(after)):
                array = self.jobs[number]["told"].get("--array")
                first, _, last = (array or "").partition("-")
                for index in range(int(first), int(last) + 1) if array else [None]:
                    task = Task(number, index)
                    self.tasks[task.name] = task
                    self._start(task)
        return bool(waiting)

    def _start(self, task):
        about = self.jobs[task.job]
        told, variables = about["told"], {**about["variables"], "SLURM_JOB_ID": str(1000 * task.job + len(self.tasks))}
        variables |= {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
        if task.index is not None:
            first, _, last = told["--array"].partition("-")
            own = {"ID": task.index, "MIN": first, "MAX": last, "COUNT": int(last) - int(first) + 1, "STEP": 1}
            variables |= {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in own.items()}
            variables["SLURM_ARRAY_JOB_ID"] = str(task.job)
        if task.codes:
            variables["SLURM_RESTART_COUNT"] = str(len(task.codes))
        log = Path(about["cwd"]) / told["--output"].replace("%a", str(task.index))
        with log.open("ab" if told.get("--open-mode") == "append" else "wb") as output:
            task.process = subprocess.Popen(
                ["/bin/bash", self.spool / f"{task.job}.sh"],
                cwd=about["cwd"],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _look_at(self, task):
        if task.process is None or task.process.poll() is None:
            return
        task.codes.append(task.process.returncode)
        task.process, task.ended = None, time.monotonic()
        asked = self.spool / f"{task.name}.again"
        if task.lost or asked.exists():
            asked.unlink(missing_ok=True)
            task.lost = False
            self._start(task)


if __name__ == "__main__":
    {"sbatch": sbatch, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:])
