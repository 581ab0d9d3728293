"""Speed of `EdgeExperts` alone: a random policy through gymnax' `step` with auto-reset, on one device."""

import argparse
import importlib.metadata
import time
from pathlib import Path

import jax
import pandas as pd
from peers.machine import describe
from peers.stepping import random_stepper

from jaxmoe.env.scenarios import SCENARIOS, make

STEPS = {1: 262_144, 1_024: 2_048, 65_536: 64}  # of each environment, by the number of parallel environments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()

    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "gymnax")}
    about = {**describe(), "device": jax.devices()[0].device_kind, **versions}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    rows = [
        {"scenario": scenario, "num_envs": num_envs, "round": number, **measured, **about}
        for scenario in SCENARIOS
        for num_envs in STEPS
        for number, measured in enumerate(measure(scenario, num_envs, arguments.rounds), start=1)
    ]
    table = pd.DataFrame(rows)
    table["parallel"] = table["num_envs"].map("{:,} parallel".format)
    speeds = table.pivot_table("env_steps_per_s", "scenario", "parallel", aggfunc="median", sort=False)
    print("\nenv steps/s, median of rounds")
    print(speeds.rename_axis(index=None, columns=None).map("{:,.0f}".format).to_string())
    if arguments.out:
        partial = arguments.out.with_name(f".{arguments.out.name}.partial")
        table.drop(columns="parallel").to_csv(partial, index=False)
        partial.replace(arguments.out)


def measure(scenario: str, num_envs: int, rounds: int) -> list[dict[str, float]]:
    """Time of each round; the first, which compiles, is not counted."""
    env, params = make(scenario)
    stepper = random_stepper(env, num_envs, STEPS[num_envs])
    seconds = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(stepper(jax.random.key(number), params))
        seconds.append(time.perf_counter() - began)
    env_steps = num_envs * STEPS[num_envs]
    return [
        {"env_steps": env_steps, "seconds": took, "env_steps_per_s": env_steps / took, "compile_s": seconds[0] - took}
        for took in seconds[1:]
    ]


if __name__ == "__main__":
    main()
