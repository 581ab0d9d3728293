"""Speed of `EdgeExperts` alone: a random policy through gymnax' `step` with auto-reset, on one device."""

import argparse
import importlib.metadata
from pathlib import Path

import jax
import pandas as pd
from peers.machine import describe, timed, undisturbed
from peers.stepping import random_stepper

from jaxmoe.devices import start_jax
from jaxmoe.env.scenarios import SCENARIOS, make

STEPS = {1: 65_536, 1_024: 1_024, 65_536: 32}  # of each environment, by the number of parallel environments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--patience", type=int, default=0, help="repetitions of a round that other programs disturb")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()

    start_jax()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "gymnax")}
    about = {**describe(), "device": jax.devices()[0].device_kind, **versions}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    rows = [
        {"scenario": scenario, "num_envs": num_envs, "round": number, **measured, **about}
        for scenario in SCENARIOS
        for num_envs in STEPS
        for number, measured in enumerate(measure(scenario, num_envs, arguments), start=1)
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


def measure(scenario: str, num_envs: int, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Time and speed of each round; the first, which compiles, is not counted."""
    env, params = make(scenario)
    steps = max(1, int(arguments.scale * STEPS[num_envs]))
    stepper = random_stepper(env, num_envs, steps)
    env_steps = num_envs * steps

    def run() -> dict[str, float]:
        _, times = timed(lambda: jax.block_until_ready(stepper(jax.random.key(0), params)))
        return {"env_steps": env_steps, "env_steps_per_s": env_steps / times["seconds"], **times}

    run()
    return [undisturbed(run, arguments.patience) for _ in range(arguments.rounds)]


if __name__ == "__main__":
    main()
