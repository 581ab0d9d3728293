"""Starting workers, giving them commands, and keeping what they say."""

import csv
import json
import os
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from peers.tasks import Task

_BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = _BENCHMARKS.parents[1]


class Contender(NamedTuple):
    """One line of the tables."""

    name: str
    peer: str  # its worker, and its virtual environment unless it is jaxmoe
    devices: int  # of JAX, on the host
    form: str = ""  # which of several forms of the worker


class Worker:
    """A contender's process."""

    def __init__(
        self, contender: Contender, python: str, task: Task, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start it, on the CPU unless variables of its environment say otherwise."""
        self.name = contender.name
        environment = os.environ | {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "JAX_NUM_CPU_DEVICES": str(contender.devices),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            **(variables or {}),
        }
        command = [python, "-m", f"peers.{contender.peer}_worker", json.dumps(task._asdict()), contender.form]
        self.process = subprocess.Popen(
            command, cwd=_BENCHMARKS, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @cached_property
    def versions(self) -> str:
        """Of its packages, once it is ready."""
        return ", ".join(f"{name} {version}" for name, version in self._answer().items())

    def run(self, command: str) -> dict[str, Any]:
        """What the worker says of a command."""
        assert self.versions  # it is ready
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return {**answer, "env_steps_per_s": answer["env_steps"] / answer["seconds"]}

    def end(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker of {self.name} has ended; its error is above")
        return json.loads(line)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line per row; what a row lacks stays empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict.fromkeys(name for row in rows for name in row)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def print_aligned(table: list[list[str]]) -> None:
    """A blank line, then columns: names flush left, numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for name, *cells in table:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip())
