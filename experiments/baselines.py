"""Every baseline in every scenario, with intervals: prints Markdown and writes `results/baselines.csv`.

    python experiments/baselines.py

The table in `experiments/README.md` is what this prints.
"""

import argparse
from pathlib import Path

import pandas as pd

import jaxmoe
from jaxmoe.analysis.intervals import Estimate, estimate
from jaxmoe.env.baselines import drift_plus_penalty, lookahead, one_slot_optimum, random
from jaxmoe.training.evaluation import Schedule
from jaxmoe.training.policies import evaluate_policy

SCENARIOS = ("oneshot", "fading", "queueing")
REQUESTS = 16_384
RESULTS = Path(__file__).parent / "results" / "baselines.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Every baseline in every scenario, with intervals.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="per policy and split")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file")
    arguments = parser.parse_args()
    found = pd.concat(
        [
            jaxmoe.evaluate(None, scenario, requests=arguments.requests).assign(scenario=scenario)
            for scenario in SCENARIOS
        ]
    )
    arguments.out.parent.mkdir(exist_ok=True)
    found.to_csv(arguments.out, index=False, float_format="%.6f")
    for scenario in SCENARIOS:
        print_markdown(found[found["scenario"] == scenario], scenario)
    print_differences(arguments.requests)


def print_markdown(found: pd.DataFrame, scenario: str) -> None:
    print(f"\n**{scenario}** (QoS [95 % interval]; normalised score)\n")
    print("| policy | train prompts | | test prompts | |\n|---|---|---|---|---|")
    cells = {(row[0], row[1], row[2]): Estimate(*row[3:6]) for row in found.itertuples(index=False)}
    order = found.query("split == 'train' and metric == 'qos'").sort_values("mean", ascending=False)["policy"]
    for policy in order:
        row = [f"{cells[s, policy, 'qos']:.3f} | {cells[s, policy, 'normalised'].mean:.3f}" for s in ("train", "test")]
        print(f"| `{policy}` | {' | '.join(row)} |")


def print_differences(requests: int) -> None:
    """What choices are worth in `queueing`: paired differences on train prompts."""
    env, params = jaxmoe.make("queueing")
    evaluations = {
        policy.name: evaluate_policy(policy.act, env, {"train": params}, requests)["train"]
        for policy in (random(env), one_slot_optimum(env), drift_plus_penalty(env), lookahead(env))
    }
    length = Schedule.of(env, params, requests).length
    print(f"\nqueueing, QoS differences on {requests} requests of train prompts, {length} slots each:")
    for better, worse in (
        ("one_slot_optimum", "random"),
        ("drift_plus_penalty", "one_slot_optimum"),
        ("lookahead", "one_slot_optimum"),
    ):
        [gain] = estimate(lambda one, other: one[..., :1] - other[..., :1], [evaluations[better], evaluations[worse]])
        print(f"{better} - {worse}: {gain:.3f}")


if __name__ == "__main__":
    main()
