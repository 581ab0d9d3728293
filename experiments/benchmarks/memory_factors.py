"""Memory of training over that of the agents' states, as the compiled programs have it: what a plan reckons with.

A replay of 10,000 transitions is smaller than the default's, so that the factors of DQN and SAC are on the safe side.
"""

import os
import sys

from peers.driver import Contender, Worker, print_aligned
from peers.machine import CORES, describe
from peers.tasks import Task

JAXMOE = Contender("jaxmoe", "jaxmoe", CORES)
AGENTS = (1, 16, 64)
REPLAY_CAPACITY = {"ppo": 0, "dqn": 10_000, "sac": 10_000}


def main() -> None:
    print(", ".join(f"{name} {value}" for name, value in describe().items()))
    table = [["algorithm, agents", "at once on a device", "MiB of an agent", "memory factor"]]
    for algorithm, capacity in REPLAY_CAPACITY.items():
        for agents in AGENTS:
            task = Task(algorithm, algorithm, 1, 1, capacity, agents)
            worker = Worker(JAXMOE, sys.executable, task, {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")})
            found = worker.run("memory")
            worker.end()
            cells = (found["agents_per_device"], f"{found['mib_per_agent']:.3f}", f"{found['memory_factor']:.2f}")
            table.append([f"{algorithm}, {agents}", *map(str, cells)])
    print_aligned(table)


if __name__ == "__main__":
    main()
