"""What an agent costs, and how much memory it takes, when more and more are trained at once; jaxmoe alone.

Every point is a process of its own: the largest resident set of a process never shrinks.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from peers.driver import Contender, Worker, write_csv
from peers.machine import CORES, describe, undisturbed
from peers.tasks import Task

RESULTS = Path(__file__).resolve().parent / "results"
JAXMOE = Contender("jaxmoe", "jaxmoe", CORES)
AGENTS = {"ppo": (1, 16, 256, 1_024, 4_096), "dqn": (1, 16, 256, 1_024), "sac": (1, 16, 256, 1_024)}
REPLAY_CAPACITY = 10_000
# Environment steps of all agents in a round, for some seconds on two cores; and the least iterations of an agent.
ROUND_STEPS = {"ppo": 2_000_000, "dqn": 500_000, "sac": 200_000}
LEAST_ITERATIONS = {"ppo": 2, "dqn": 32, "sac": 16}
FEW_AGENTS = 16  # a round of fewer has as many iterations
PRICED_STEPS = 1_000_000  # of one agent: what the tables and the figure give the cost of

# Safe for colour-blind readers, and told apart by marker and line in grey.
STYLES = {
    "ppo": {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    "dqn": {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    "sac": {"color": "#009e73", "marker": "^", "linestyle": ":"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=4_096, help="leave out what has more agents")
    parser.add_argument("--scale", type=float, default=1.0, help="of the length of rounds")
    parser.add_argument("--patience", type=int, default=0, help="repetitions of a round that other programs disturb")
    parser.add_argument("--out", type=Path, default=RESULTS / "agents_scaling.csv", help="table; figures go beside it")
    arguments = parser.parse_args()

    machine = describe()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    points = [(name, agents) for name in AGENTS for agents in AGENTS[name] if agents <= arguments.most]
    tasks = [make_task(algorithm, agents, arguments.scale) for algorithm, agents in points]
    rows = [{**measure(task, arguments.patience), **machine} for task in tasks]
    write_csv(arguments.out, rows)
    table = pd.DataFrame(rows)
    show(table)
    figure = draw(table)
    with rc_context({"pdf.fonttype": 42}):  # TrueType, as journals ask
        figure.savefig(arguments.out.with_suffix(".png"), dpi=300)
        figure.savefig(arguments.out.with_suffix(".pdf"), metadata={"CreationDate": None})


def make_task(algorithm: str, agents: int, scale: float) -> Task:
    """A round of about the same length, whatever the number of agents."""
    task = Task(algorithm, algorithm, 1, 1, 0 if algorithm == "ppo" else REPLAY_CAPACITY, agents)
    fitting = int(scale * ROUND_STEPS[algorithm]) // (max(agents, FEW_AGENTS) * task.env_steps)
    return task._replace(iterations=max(fitting, LEAST_ITERATIONS[algorithm]))


def measure(task: Task, patience: int) -> dict[str, Any]:
    """One row: a round after one that is not counted, in which everything is compiled."""
    worker = Worker(JAXMOE, sys.executable, task)
    worker.run("begin")
    worker.run("train")
    answer = undisturbed(partial(worker.run, "train"), patience)
    worker.end()
    cost_s = PRICED_STEPS * answer["seconds"] / answer["env_steps"]
    about = {"algorithm": task.algorithm, "agents": task.agents, "replay_capacity": task.replay_capacity}
    return {**about, "seconds_per_agent": cost_s, "iterations": task.iterations, **answer, "versions": worker.versions}


def show(table: pd.DataFrame) -> None:
    """Print what the figure draws, and the rest."""
    formats = {
        "seconds_per_agent": "{:,.2f}",
        "env_steps_per_s": "{:,.0f}",
        "peak_mib": "{:,.0f}",
        "compile_s": "{:.1f}",
        "others": "{:.2f}",
    }
    shown = table[["algorithm", "agents", *formats]].copy()
    for column, form in formats.items():
        shown[column] = shown[column].map(form.format)
    print(f"\nseconds_per_agent: for {PRICED_STEPS:,} environment steps of each agent")
    print(shown.to_string(index=False))


def draw(table: pd.DataFrame) -> Figure:
    """Cost of an agent and memory of the process against the number of agents, one column wide."""
    figure = Figure(figsize=(3.5, 3.6), layout="constrained")
    cost, memory = figure.subplots(2, 1, sharex=True)
    for algorithm, points in table.groupby("algorithm", sort=False):
        style = {**STYLES[str(algorithm)], "markersize": 4, "linewidth": 1, "label": str(algorithm).upper()}
        cost.plot(points["agents"], points["seconds_per_agent"], **style)
        memory.plot(points["agents"], points["peak_mib"] / 1024, **style)
    cost.set_ylabel("s per agent and\n$10^6$ environment steps", fontsize=8)
    memory.set_ylabel("peak memory (GiB)", fontsize=8)
    memory.set_xlabel("agents trained at once", fontsize=8)
    counts = sorted(table["agents"].unique())
    for axes in (cost, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.tick_params(labelsize=8)
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    cost.set_yscale("log")
    cost.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    cost.yaxis.set_major_formatter("{x:g}")
    cost.yaxis.set_minor_formatter(NullFormatter())
    memory.set_ylim(bottom=0)
    figure.legend(*cost.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
