"""What Ray costs: the same sweep by the local engine, and by a Ray cluster on this machine, in turn.

    python experiments/benchmarks/ray_overhead.py [--rounds 3]

Both use all cores: the local engine runs one job after the other on all of them, Ray as many jobs at once, each on its
own. Compiled programs and baselines are in the cache from a run before. Prints the seconds of each, and their ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import pandas as pd
from ray import __version__ as ray_version

from jaxmoe.devices import num_cores

SPEC = """
algorithm = "ppo"
env_steps = 131_072
seeds = 32
requests = 1024
baselines = ["random", "one_slot_optimum"]
[hypers]
learning_rate = [1e-3, 3e-3]
[devices]
agents_per_job = 16
"""
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--env-steps", type=int, default=131_072)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ray_overhead.csv")
    said = parser.parse_args()
    versions = f"jax {jax.__version__}, Ray {ray_version}"
    print(f"{num_cores()} cores, {versions}; 64 agents, {said.env_steps:,} env steps each")
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as folder:
        spec = Path(folder) / "spec.toml"
        spec.write_text(SPEC.replace("131_072", str(said.env_steps)))
        for engine in ("local", "ray"):
            seconds(spec, Path(folder) / f"warm-{engine}", engine)
        rows = [
            {"round": number, "engine": engine, "seconds": seconds(spec, Path(folder) / f"{engine}-{number}", engine)}
            for number in range(said.rounds)
            for engine in ("local", "ray")
        ]
    table = pd.DataFrame(rows).pivot_table(index="round", columns="engine", values="seconds")
    table["ratio"] = table["ray"] / table["local"]
    table["ray - local"] = table["ray"] - table["local"]
    print(table.round(2).to_string())
    print("median", table.median().round(2).to_dict())
    table.to_csv(said.out)


def seconds(spec: Path, out: Path, engine: str) -> float:
    """Of the whole command, in a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "jaxmoe", "sweep", spec, "--out", out, "--engine", engine, "--quiet", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
