"""jaxmoe and its peers on one GPU: what training costs there, whether agents learn, whether results repeat.

`ppo` and `replay` (DQN and SAC) race jaxmoe, rejax and in PPO, where `PUREJAXRL` names a checkout of it, PureJaxRL, as
`train_speed.py` does on a CPU, at the same sizes and in the same environment; ratios are of this card alone. `train`
calls `jaxmoe.train`, as users do. Each takes less than four minutes on a large card. Each row is printed and written as
soon as it is measured, and what there is no time for is left out and named. `gpu.sh` calls this script and brings the
packages that the machine lacks.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from peers.driver import ROOT, Contender, Worker, print_aligned, write_csv
from peers.machine import describe, describe_gpu, gpu_joules
from peers.tasks import TASKS, Task

JAXMOE = Contender("jaxmoe", "jaxmoe", 1)
REJAX = Contender("rejax", "rejax", 1)
PUREJAXRL = Contender("PureJaxRL", "purejaxrl", 1)
ROUNDS = 3
LEARNED = 0.98  # normalised score on train prompts
AGREED = 1e-5  # relative, of means above 1, where CPU and GPU evaluate the same policy

SIZES = {1_024: 128, 4_096: 64, 16_384: 32}  # agents, and iterations in a round of PPO: some seconds on a large card
REPLAY = {"agents": 1_024, "iterations": 640}
WHOLE = Task("131k env steps", "ppo", 512, 0, agents=1_024)
LEARNING = Task("524k env steps", "ppo", 2_048, 0, agents=128)
MEMORY = ("agents_per_device", "mib_per_agent", "memory_factor")
TINY = {"agents": 8, "iterations": 2}  # with --dry-run

Row = dict[str, Any]
Step = tuple[str, Callable[[], None]]  # what it is, and how it is taken


class Bench:
    """What is measured on this machine, the time that is left for it, and how workers are started."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.began = arguments, time.monotonic()
        self.rows: list[Row] = []
        self.failed = False
        self.machine = {**describe(), **describe_gpu()}
        self.scratch = tempfile.TemporaryDirectory()
        with_rejax = (arguments.sites / "rejax").is_dir()
        self.purejaxrl = os.environ.get("PUREJAXRL", "") if with_rejax else ""  # it takes the packages of rejax
        self.contenders = (JAXMOE, *([REJAX] if with_rejax else []))
        print(", ".join(f"{name} {value}" for name, value in self.machine.items()), flush=True)
        if not with_rejax:
            print("rejax is not there: jaxmoe is measured alone", flush=True)

    def start(self, contender: Contender, task: Task, **variables: str) -> Worker:
        """A worker on the card, with packages of its own and nothing compiled, unless variables say otherwise."""
        sites = self.arguments.sites
        path = [sites / "rejax"] if contender.peer in ("rejax", "purejaxrl") else []
        checkout = Path(self.purejaxrl).resolve()
        path += [checkout, checkout / "purejaxrl"] if contender.peer == "purejaxrl" else []  # its modules say either
        path += [ROOT, sites / "jaxmoe"]
        own = {"JAX_PLATFORMS": "cpu" if self.arguments.dry_run else "cuda,cpu", "JAXMOE_CACHE": "off"}
        own |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": os.pathsep.join(map(str, path))}
        return Worker(contender, sys.executable, task, own | variables)

    def trainer(self, name: str, task: Task, kernels: str = "fastest", **variables: str) -> Worker:
        """A worker that calls `jaxmoe.train`, with a folder of its own unless one of this name is there."""
        form = f"{kernels} {Path(self.scratch.name) / name}"
        return self.start(Contender(name, "train", 1, form), task, **variables)

    def sized(self, task: Task) -> Task:
        """The task, tiny in a dry run."""
        if not self.arguments.dry_run:
            return task
        return task._replace(**TINY, replay_capacity=min(task.replay_capacity, 512))

    def keep(self, row: Row) -> None:
        """Print a row, and write it with all others."""
        self.rows.append(row | self.machine)
        print(", ".join(f"{name} {shown(value)}" for name, value in row.items() if name != "versions"), flush=True)
        write_csv(self.arguments.out / f"gpu_{self.arguments.what}.csv", self.rows)

    def attempt(self, what: str, step: Callable[[], None]) -> None:
        """Take a step, unless the time is up."""
        begins = time.monotonic() - self.began
        if begins > self.arguments.seconds:
            print(f"left out for lack of time: {what}", flush=True)
            return
        try:
            step()
        except SystemExit as error:  # a worker has ended; the next step has others
            self.failed = True
            print(f"{what} has failed: {error}", flush=True)
        ends = time.monotonic() - self.began
        print(f"[{what}: {ends - begins:.0f} s, {ends:.0f} s so far]", flush=True)


def main() -> None:
    bench = Bench(parse())
    with bench.scratch:
        for what, step in STEPS[bench.arguments.what](bench):
            bench.attempt(what, step)
    if speeds := [row for row in bench.rows if row["measured"] == "speed"]:
        print_speeds(speeds)
    raise SystemExit(int(bench.failed))


def parse() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(STEPS))
    parser.add_argument("--seconds", type=float, default=200.0, help="begin no step after so many")
    parser.add_argument("--dry-run", action="store_true", help="few agents, on the CPU")
    parser.add_argument("--sites", type=Path, default=Path("sites"), help="folder of the packages that are brought")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the tidy table")
    arguments = parser.parse_args()
    arguments.sites = arguments.sites.resolve()
    return arguments


def ppo(bench: Bench) -> Iterator[Step]:
    """Races at all sizes."""
    contenders = (*bench.contenders, *([PUREJAXRL] if bench.purejaxrl else []))
    for agents, iterations in SIZES.items():
        task = bench.sized(TASKS["ppo"]._replace(agents=agents, iterations=iterations))
        yield f"PPO, {agents} agents", partial(race, bench, task, contenders)
        if bench.arguments.dry_run:
            return


def replay(bench: Bench) -> Iterator[Step]:
    """Races of DQN and SAC."""
    for name in ("dqn-10k", "sac-10k"):
        task = bench.sized(TASKS[name]._replace(**REPLAY))
        yield f"{name}, {task.agents} agents", partial(race, bench, task, bench.contenders)


def train(bench: Bench) -> Iterator[Step]:
    """Whether agents learn and results repeat, and how long a whole training takes."""
    yield "learning", partial(learn, bench)
    yield "learning, deterministic", partial(learn_deterministic, bench)
    yield "a whole training", partial(whole, bench, "cold")
    yield "a whole training, compiled before", partial(whole, bench, "warm")


STEPS = {"ppo": ppo, "replay": replay, "train": train}


def race(bench: Bench, task: Task, contenders: tuple[Contender, ...]) -> None:
    """One row per contender; all compile first, one after the other, and then take turns."""
    with ended([bench.start(contender, task) for contender in contenders]) as workers:
        begun = [(worker.run("begin"), worker.run("train")) for worker in workers]
        rounds = [[with_energy(worker) for worker in workers] for _ in range(ROUNDS)]
        limits, memory = workers[0].run("limits"), workers[0].run("memory")
    about = {"measured": "speed", "task": task.name, "agents": task.agents}
    speeds = [[answers[number]["env_steps_per_s"] for answers in rounds] for number in range(len(workers))]
    medians = dict(zip(contenders, map(statistics.median, speeds), strict=True))
    for number, (contender, worker) in enumerate(zip(contenders, workers, strict=True)):
        (begin, first), last, speed = begun[number], rounds[-1][number], medians[contender]
        joules = [answers[number]["joules"] / answers[number]["env_steps"] for answers in rounds]
        left = WHOLE.iterations * WHOLE.env_steps * task.agents - begin["env_steps"] - first["env_steps"]
        row = {
            "contender": worker.name,
            "env_steps_per_s": speed,
            "slowest": min(speeds[number]),
            "fastest": max(speeds[number]),
            "times_rejax": speed / medians[REJAX] if REJAX in medians else None,
            "tflops": 1e-12 * speed * limits["flops_per_env_step"],
            "arithmetic_share": 1e-12 * speed * limits["flops_per_env_step"] / limits["tflops_float32"],
            "traffic_share": 1e-9 * speed * limits["bytes_per_env_step"] / limits["copy_gb_per_s"],
            "device_mib": last.get("device_mib"),
            "host_mib": last["peak_mib"],
            **({name: memory[name] for name in MEMORY} if contender == JAXMOE else {}),
            "joules_per_million": 1e6 * statistics.median(joules),
            "begin_s": begin["seconds"],
            "first_round_s": first["seconds"],
            "compile_s": last["compile_s"],
            "training_131k_s": begin["seconds"] + first["seconds"] + left / speed,
            "versions": worker.versions,
        }
        bench.keep(about | row)
    names = ("tflops_float32", "tflops_default", "copy_gb_per_s", "flops_per_env_step", "bytes_per_env_step")
    bench.keep({"measured": "limits", "task": task.name} | {name: limits[name] for name in names})


def with_energy(worker: Worker) -> Row:
    """A round, and the energy that the card took meanwhile."""
    before = gpu_joules()
    answer = worker.run("train")
    return answer | {"joules": gpu_joules() - before}


def learn(bench: Bench) -> None:
    """Whether PPO learns, whether two processes end with the same bits, whether a CPU evaluates an agent alike."""
    task = bench.sized(LEARNING)
    one, other = (bench.trainer(name, task) for name in ("one", "other"))
    cpu = bench.trainer("one", task, JAX_PLATFORMS="cpu")
    with ended([one, other, cpu]), ThreadPoolExecutor() as threads:
        found, again = threads.map(lambda worker: worker.run("short"), (one, other))
        score, digests = found["train_normalised"], (found["digest"], again["digest"])
        about = {"task": task.name, "agents": task.agents, "versions": one.versions}
        verdict = "learned" if score >= LEARNED else "NOT LEARNED"
        scored = {"seconds": found["seconds"], "train_normalised": score, "verdict": verdict}
        bench.keep({"measured": "learning", **about, **scored})
        repeated = {"difference": abs(score - again["train_normalised"]), "digest": " ".join(dict.fromkeys(digests))}
        repeated["verdict"] = "equal bits" if digests[0] == digests[1] else "OTHER BITS"
        bench.keep({"measured": "repetition in two processes", **about, **repeated})
        expected = cpu.run("evaluate_highest")["means"]
        for precision, command in (("highest", "evaluate_highest"), ("default", "evaluate")):
            means = one.run(command)["means"]
            difference = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(means, expected, strict=True))
            compared = {"difference": difference, "verdict": "agree" if difference <= AGREED else "DIFFER"}
            bench.keep({"measured": f"evaluation on CPU and here, {precision} precision here", **about, **compared})


def learn_deterministic(bench: Bench) -> None:
    """Whether two processes end with the same bits where no kernel is chosen by its speed, and what that costs.

    Nothing that is compiled is kept, and they train one after the other: speeds are those of a card of their own.
    """
    task = bench.sized(LEARNING)
    kernels = {
        "fastest kernels": "fastest",
        "one deterministic": "deterministic",
        "other deterministic": "deterministic",
    }
    with ended([bench.trainer(name, task, kernels=each) for name, each in kernels.items()]) as workers:
        fastest, one, other = (worker.run("short") for worker in workers)
    speed, versions = "training_env_steps_per_s", workers[0].versions
    equal = one["digest"] == other["digest"]
    row = {
        "measured": "deterministic, in two processes",
        "task": task.name,
        "agents": task.agents,
        "env_steps_per_s": statistics.mean((one[speed], other[speed])),
        "times_fastest": statistics.mean((one[speed], other[speed])) / fastest[speed],
        "compile_s": one["compile_s"],
        "difference": abs(one["train_normalised"] - other["train_normalised"]),
        "digest": " ".join(dict.fromkeys((one["digest"], other["digest"]))),
        "verdict": "equal bits" if equal else "OTHER BITS",
    }
    bench.keep(row | {"versions": versions})


def whole(bench: Bench, form: str) -> None:
    """A training as users call it, with baselines and evaluations: without anything compiled, or after another one."""
    task = bench.sized(WHOLE)
    caches = {"JAXMOE_CACHE": "on", "JAX_ENABLE_COMPILATION_CACHE": "true"}
    caches["JAXMOE_CACHE_DIR"] = str(Path(bench.scratch.name) / "cache")
    with ended([bench.trainer(form, task, **caches)]) as [worker]:
        found = worker.run("train")
    names = (
        "width",
        "seconds",
        "training_begins_s",
        "first_metrics_s",
        "training_env_steps_per_s",
        "compile_s",
        "device_mib",
    )
    about = {"measured": "whole training", "task": task.name, "agents": task.agents, "contender": f"jaxmoe, {form}"}
    scores = {name: found[name] for name in ("train_normalised", "test_normalised", "digest")}
    bench.keep(about | {name: found.get(name) for name in names} | scores | {"versions": worker.versions})


@contextmanager
def ended(workers: list[Worker]) -> Iterator[list[Worker]]:
    """Workers that end with the block, however it ends; all are ready before it begins."""
    try:
        for worker in workers:
            assert worker.versions
        yield workers
    finally:
        for worker in workers:
            worker.end()


def print_speeds(rows: list[Row]) -> None:
    """The table of all races."""
    names = ("env_steps_per_s", "times_rejax", "tflops", "arithmetic_share", "traffic_share", "device_mib")
    names += ("joules_per_million", "compile_s", "training_131k_s")
    table = [["", *names]]
    for row in rows:
        name = f"{row['task']}, {row['agents']:,} agents: {row['contender']}"
        table.append([name, *(shown(row[name]) for name in names)])
    print_aligned(table)
    for contender, versions in {row["contender"]: row["versions"] for row in rows}.items():
        print(f"{contender}: {versions}")


def shown(value: Any) -> str:
    """Three to four digits of a number; thousands apart."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
