"""Training speed of jaxmoe, rejax and Stable-Baselines3, side by side: same environment, sizes, cores and hour.

Each contender is a worker process (`peers/`) in its own virtual environment, which this script makes if need be. The
workers of a task stay alive and take turns, so that whatever else the machine does strikes all of them; before rounds
that count, each begins its agents and makes one round, which compiles. Only the standard library is needed here, and
jaxmoe for its own worker.
"""

import argparse
import statistics
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path
from typing import Any

from peers.driver import ROOT, Contender, Worker, print_aligned, write_csv
from peers.machine import CORES, describe, undisturbed
from peers.tasks import TASKS, Task

_JAX = ("jax==0.10.2", "flax==0.12.8", "numpy==2.4.6", "jaxtyping==0.3.11", "pyarrow==26.0.1", "platformdirs==4.14.8")
REQUIREMENTS = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "distrax==0.1.9", *_JAX),
    "sb3": ("stable-baselines3==2.9.2", "torch==2.13.0", "gymnasium==1.3.0", "gymnax==1.0.1", "six==1.17.0", *_JAX),
}

JAXMOE = Contender("jaxmoe", "jaxmoe", CORES)
REJAX = (
    Contender("rejax", "rejax", 1),
    Contender("rejax, sharded by hand", "rejax", 1 << CORES.bit_length() - 1),  # a power of two divides the agents
)
SB3 = (
    Contender("Stable-Baselines3", "sb3", 1, "gymnasium"),
    Contender("Stable-Baselines3, compiled steps", "sb3", 1, "compiled"),
)
# Steps without learning, all on one device: what the environment costs, and whether rejax's adapter costs more.
STEPPERS = (JAXMOE._replace(devices=1), REJAX[0], *SB3)
COMPILING = 0.01  # share of its time that compiling may take of a round that counts

Row = dict[str, Any]


def main() -> None:
    arguments = parse()
    tasks = [TASKS[name] for name in arguments.tasks]
    tasks = [task._replace(agents=arguments.agents) for task in tasks]
    if number := arguments.iterations:
        tasks = [task._replace(iterations=number, lone_iterations=number) for task in tasks]
    pythons = {"jaxmoe": sys.executable}
    pythons |= {peer: prepare(arguments.venvs.resolve() / peer, REQUIREMENTS[peer]) for peer in REQUIREMENTS}
    machine = describe()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), f"{arguments.agents} agents", sep=", ")
    rows = []
    for task in tasks:
        rows += race(task, "train", contenders(task), pythons, arguments.rounds, arguments.patience)
        print_training(task, of(rows, task=task.name))
    steps = race(tasks[0], "step", STEPPERS, pythons, arguments.rounds, arguments.patience)
    check_same_environment(steps)
    print_stepping(steps, rows)
    print_summary(rows)
    print()
    for name, versions in {row["contender"]: row["versions"] for row in rows}.items():
        print(f"{name}: {versions}")
    if arguments.out:
        write_csv(arguments.out, [{**row, **machine} for row in rows + steps])


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=task_names, default=list(TASKS), help=f"some of {','.join(TASKS)}; or all")
    parser.add_argument("--agents", type=int, default=64, help="trained at once, but by Stable-Baselines3")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--iterations", type=int, help="of each agent in a round, instead of each task's own number")
    parser.add_argument("--patience", type=int, default=0, help="repetitions of a round that other programs disturb")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers", help="folder of the peers' environments")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    return parser.parse_args()


def task_names(text: str) -> list[str]:
    """The names in a list with commas."""
    names = text.split(",")
    if unknown := set(names) - set(TASKS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is unknown; choose some of {','.join(TASKS)}")
    return names


def contenders(task: Task) -> tuple[Contender, ...]:
    """Who can do a task: Stable-Baselines3 has no discrete soft actor-critic, and one agent cannot be split."""
    divided = task.agents % REJAX[1].devices == 0
    return (JAXMOE, *(REJAX if divided else REJAX[:1]), *(SB3 if task.algorithm != "sac" else ()))


def prepare(folder: Path, requirements: tuple[str, ...]) -> str:
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


def race(
    task: Task,
    command: str,
    entered: tuple[Contender, ...],
    pythons: dict[str, str],
    rounds: int,
    patience: int,
) -> list[Row]:
    """One row per round and contender, and with training in PPO one more on what the machine can compute."""
    workers = [Worker(contender, pythons[contender.peer], task) for contender in entered]
    compile_s = {}
    for worker in workers:
        if command == "train":
            worker.run("begin")
        compile_s[worker.name] = worker.run(command)["compile_s"]
    rows = []
    for number in range(1, rounds + 1):
        answers = {worker.name: undisturbed(partial(worker.run, command), patience) for worker in workers}
        for worker in workers:
            answer = answers[worker.name]
            if answer["compile_s"] - compile_s[worker.name] > COMPILING * answer["seconds"]:
                raise SystemExit(
                    f"{worker.name} compiles again in round {number} of {task.name}: its speed says little"
                )
            ratio = answers["jaxmoe"]["env_steps_per_s"] / answer["env_steps_per_s"]
            about = {"task": task.name, "command": command, "contender": worker.name, "round": number}
            rows.append({**about, **answer, "jaxmoe_ratio": ratio, "versions": worker.versions})
    if command == "train" and task.algorithm == "ppo":
        about = {"task": task.name, "command": "gemm", "contender": workers[0].name, "versions": workers[0].versions}
        rows.append({**about, **undisturbed(partial(workers[0].run, "gemm"), patience)})
    for worker in workers:
        worker.end()
    return rows


def check_same_environment(steps: list[Row]) -> None:
    """Random actions must bring the same reward through rejax's adapter."""
    rewards = {row["contender"]: row["mean_reward"] for row in steps}
    if abs(rewards["jaxmoe"] - rewards["rejax"]) > 1e-3:
        raise SystemExit(
            f"rejax does not train in the same environment: the mean rewards of random steps are {rewards}"
        )


def print_training(task: Task, rows: list[Row]) -> None:
    """Speeds and ratios of a task, and how much arithmetic that is."""
    trained = of(rows, command="train")
    rounds = [f"round {number}" for number in range(1, max(row["round"] for row in trained) + 1)]
    ends = ["cores", "others", "compile s", "peak MiB"]
    speeds = [[f"{task.name}: env steps/s", *rounds, "median", "per CPU second", *ends]]
    ratios = [["jaxmoe is faster than", *rounds, "median", "per CPU second"]]
    cpu_seconds = {name: cpu_seconds_per_step(trained, name) for name in names(trained)}
    for name, cpu_s in cpu_seconds.items():
        own = of(trained, contender=name)
        numbers = [*(row["env_steps_per_s"] for row in own), median(own, "env_steps_per_s"), 1.0 / cpu_s]
        cores = statistics.median(row["cpu_seconds"] / row["seconds"] for row in own)
        ends = [f"{cores:.2f}", f"{median(own, 'others'):.2f}"]
        ends += [f"{own[-1]['compile_s']:.1f}", f"{own[-1]['peak_mib']:.0f}"]
        speeds.append([name, *(f"{number:,.0f}" for number in numbers), *ends])
        numbers = [*(row["jaxmoe_ratio"] for row in own), median(own, "jaxmoe_ratio"), cpu_s / cpu_seconds["jaxmoe"]]
        ratios.append([name, *(f"{number:.2f} x" for number in numbers)])
    print_aligned(speeds)
    print_aligned([ratios[0], *ratios[2:]])
    for row in of(rows, command="gemm"):
        flops, peak = row["ppo_flops_per_env_step"], row["gemm_gflops"]
        gflops = 1e-9 * flops * median(of(trained, contender="jaxmoe"), "env_steps_per_s")
        print(f"\nPPO in jaxmoe computes {gflops:.0f} GFLOP/s = {gflops / peak:.0%} of the measured peak {peak:.0f}")
        print(f"({flops:,} floating-point operations per environment step; peak: float32 matrix products on all cores)")


def print_stepping(steps: list[Row], trained: list[Row]) -> None:
    """The environment alone, and what it takes of the processor time of training."""
    tasks = list(dict.fromkeys(row["task"] for row in trained))
    table = [["environment alone", "env steps/s", "per CPU second", *(f"share of {task}" for task in tasks)]]
    for name in names(steps):
        each = cpu_seconds_per_step(steps, name)
        training = [of(trained, task=task, command="train", contender=name) for task in tasks]
        shares = [f"{each / cpu_seconds_per_step(own, name):.1%}" if own else "" for own in training]
        table.append([name, f"{median(of(steps, contender=name), 'env_steps_per_s'):,.0f}", f"{1.0 / each:,.0f}"])
        table[-1] += shares
    print_aligned(table)
    adapter = cpu_seconds_per_step(steps, "rejax") - cpu_seconds_per_step(steps, "jaxmoe")
    shares = [adapter / cpu_seconds_per_step(of(trained, task=task, command="train"), "rejax") for task in tasks]
    share = ", ".join(f"{share:.1%} in {task}" for share, task in zip(shares, tasks, strict=True))
    print(f"what its adapter costs of rejax's training: {share}")


def print_summary(rows: list[Row]) -> None:
    """The median ratios of all tasks."""
    trained = of(rows, command="train")
    tasks = list(dict.fromkeys(row["task"] for row in trained))
    table = [["jaxmoe is faster than", *tasks]]
    for name in names(trained)[1:]:
        own = [of(trained, task=task, contender=name) for task in tasks]
        table.append([name, *(f"{median(part, 'jaxmoe_ratio'):.2f} x" if part else "" for part in own)])
    print_aligned(table)


def of(rows: list[Row], **wanted: str) -> list[Row]:
    """The rows that hold all these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def names(rows: list[Row]) -> list[str]:
    """The contenders, in order."""
    return list(dict.fromkeys(row["contender"] for row in rows))


def median(rows: list[Row], column: str) -> float:
    """Of one number over the rows."""
    return statistics.median(row[column] for row in rows)


def cpu_seconds_per_step(rows: list[Row], contender: str) -> float:
    """Processor time of one environment step, which other programs on the machine hardly change."""
    return statistics.median(row["cpu_seconds"] / row["env_steps"] for row in of(rows, contender=contender))


if __name__ == "__main__":
    main()
