"""Training speed of jaxmoe, rejax and Stable-Baselines3, side by side: same environment, sizes, cores and hour.

Each contender is a worker process (`peers/`) in its own virtual environment, which this script makes if need be. The
workers stay alive and take turns, so that whatever else the machine does strikes all of them; a first round that is not
counted takes care of compilation. Only the standard library is needed here, and jaxmoe for its own worker.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from peers.machine import CORES, describe, undisturbed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

_JAX = ("jax==0.10.2", "flax==0.12.8", "numpy==2.4.6", "jaxtyping==0.3.11", "pyarrow==26.0.1")
REQUIREMENTS = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "distrax==0.1.9", *_JAX),
    "sb3": ("stable-baselines3==2.9.2", "torch==2.13.0", "gymnasium==1.3.0", "gymnax==1.0.1", "six==1.17.0", *_JAX),
}


class Contender(NamedTuple):
    """One line of the table."""

    name: str
    peer: str  # its worker, and its virtual environment unless it is jaxmoe
    devices: int  # of JAX, on the host


CONTENDERS = (
    Contender("jaxmoe", "jaxmoe", CORES),
    Contender("rejax", "rejax", 1),
    Contender("rejax, sharded by hand", "rejax", 1 << CORES.bit_length() - 1),  # a power of two divides the agents
    Contender("Stable-Baselines3, one agent", "sb3", 1),
)
# Steps without learning, all on one device: what the environment costs, and whether rejax's adapter costs more.
STEPPERS = (Contender("jaxmoe", "jaxmoe", 1), CONTENDERS[1], CONTENDERS[3])


class Worker:
    """A contender's process."""

    def __init__(self, contender: Contender, python: str, iterations: int) -> None:
        self.name = contender.name
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(contender.devices),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
        }
        command = [python, "-m", f"peers.{contender.peer}_worker", str(iterations)]
        self.process = subprocess.Popen(
            command, cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = ", ".join(f"{name} {version}" for name, version in self._answer().items())

    def run(self, command: str) -> dict[str, Any]:
        """What the worker says of one round of a command."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--iterations", type=int, default=64, help="of each agent in a round, 256 steps each")
    parser.add_argument("--patience", type=int, default=0, help="repetitions of a round that other programs disturb")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers", help="folder of the peers' environments")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()

    pythons = {"jaxmoe": sys.executable}
    pythons |= {peer: _prepare(arguments.venvs.resolve() / peer, REQUIREMENTS[peer]) for peer in REQUIREMENTS}
    machine = describe()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    rows = {}
    for command, contenders in (("train", CONTENDERS), ("step", STEPPERS)):
        workers = [Worker(contender, pythons[contender.peer], arguments.iterations) for contender in contenders]
        rows[command] = _race(workers, command, arguments.rounds, arguments.patience)
        for worker in workers:
            worker.end()
    rewards = {row["contender"]: row["mean_reward"] for row in rows["step"]}
    if abs(rewards["jaxmoe"] - rewards["rejax"]) > 1e-3:
        raise SystemExit(
            f"rejax does not train in the same environment: the mean rewards of random steps are {rewards}"
        )
    for name, versions in {row["contender"]: row["versions"] for row in rows["train"]}.items():
        print(f"{name}: {versions}")
    _print_training(rows["train"])
    _print_stepping(rows["step"], rows["train"])
    if arguments.out:
        _write(arguments.out, [{**row, **machine} for row in rows["train"] + rows["step"]])


def _prepare(folder: Path, requirements: tuple[str, ...]) -> str:
    """Python of a virtual environment that holds the requirements; it is made anew if it holds others."""
    python, mark = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not mark.is_file() or mark.read_text() != wanted:
        print(f"installing {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        installed = subprocess.run([python, "-m", "pip", "install", *requirements], capture_output=True, text=True)
        if installed.returncode:
            raise SystemExit(installed.stdout + installed.stderr)
        mark.write_text(wanted)
    return str(python)


def _race(workers: list[Worker], command: str, rounds: int, patience: int) -> list[dict[str, Any]]:
    """One row per round and worker; what the first, uncounted round took longer goes into `compile_s`."""
    first = {worker.name: worker.run(command)["seconds"] for worker in workers}
    rows = []
    for number in range(1, rounds + 1):
        answers = {worker.name: undisturbed(partial(worker.run, command), patience) for worker in workers}
        for worker in workers:
            answer = answers[worker.name]
            ratio = answers["jaxmoe"]["env_steps_per_s"] / answer["env_steps_per_s"]
            about = {"command": command, "contender": worker.name, "round": number}
            rows.append({**about, **answer, "jaxmoe_ratio": ratio, "versions": worker.versions})
    for row in rows:
        row["compile_s"] = first[row["contender"]] - _median(rows, row["contender"], "seconds")
    return rows


def _print_training(rows: list[dict[str, Any]]) -> None:
    rounds = [f"round {number}" for number in range(1, max(row["round"] for row in rows) + 1)]
    speeds = [["env steps/s", *rounds, "median", "per CPU second", "cores", "others", "compile s", "peak MiB"]]
    ratios = [["jaxmoe is faster than", *rounds, "median", "per CPU second"]]
    for name in dict.fromkeys(row["contender"] for row in rows):
        own = [row for row in rows if row["contender"] == name]
        cores = statistics.median(row["cpu_seconds"] / row["seconds"] for row in own)
        per_cpu_s = 1.0 / _cpu_seconds(rows, name)
        numbers = [*(row["env_steps_per_s"] for row in own), _median(rows, name, "env_steps_per_s"), per_cpu_s]
        ends = [
            f"{cores:.2f}",
            f"{_median(own, name, 'others'):.2f}",
            f"{own[0]['compile_s']:.1f}",
            f"{own[-1]['peak_mib']:.0f}",
        ]
        speeds.append([name, *(f"{number:,.0f}" for number in numbers), *ends])
        cpu_ratio = _cpu_seconds(rows, name) / _cpu_seconds(rows, "jaxmoe")
        numbers = [*(row["jaxmoe_ratio"] for row in own), _median(rows, name, "jaxmoe_ratio"), cpu_ratio]
        ratios.append([name, *(f"{number:.2f} x" for number in numbers)])
    _print_aligned(speeds)
    _print_aligned([ratios[0], *ratios[2:]])


def _print_stepping(step_rows: list[dict[str, Any]], train_rows: list[dict[str, Any]]) -> None:
    """The environment alone, and what it takes of the processor time of training."""
    table = [["environment alone", "env steps/s", "per CPU second", "share of training", "adapter's share"]]
    for name in dict.fromkeys(row["contender"] for row in step_rows):
        each, training = _cpu_seconds(step_rows, name), _cpu_seconds(train_rows, name)
        adapter = (each - _cpu_seconds(step_rows, "jaxmoe")) / training
        ends = [f"{each / training:.1%}", f"{adapter:.1%}" if name == "rejax" else ""]
        table.append([name, f"{_median(step_rows, name, 'env_steps_per_s'):,.0f}", f"{1.0 / each:,.0f}", *ends])
    _print_aligned(table)


def _cpu_seconds(rows: list[dict[str, Any]], contender: str) -> float:
    """Processor time of one environment step, which other programs on the machine hardly change."""
    return statistics.median(row["cpu_seconds"] / row["env_steps"] for row in rows if row["contender"] == contender)


def _median(rows: list[dict[str, Any]], contender: str, column: str) -> float:
    return statistics.median(row[column] for row in rows if row["contender"] == contender)


def _print_aligned(table: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for name, *numbers in table:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]).rstrip())


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


if __name__ == "__main__":
    main()
