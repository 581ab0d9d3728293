"""When choices have consequences: the share of the lookahead's gain over the one-slot optimum that agents win.

    python experiments/lookahead_gain.py

The share is `(QoS - one-slot optimum) / (lookahead - one-slot optimum)`, on the same requests, with an interval over
seeds, prompts and episodes. Agents see only observations; both baselines know the true scores and channels of the slot.
Writes `results/lookahead_gain.csv`.
"""

import argparse
from pathlib import Path

import pandas as pd
from evaluations import evaluations_of, sums_of

import jaxmoe
from jaxmoe.analysis.comparison import normalised_score
from jaxmoe.analysis.intervals import Estimate, estimate

RESULTS = Path(__file__).parent / "results" / "lookahead_gain.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of the lookahead's gain that agents win in `queueing`.")
    parser.add_argument("--algorithms", nargs="+", default=["ppo", "dqn", "sac"])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=[500_000, 1_000_000])
    parser.add_argument("--requests", type=int, default=8192, help="that each agent and baseline serves")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file")
    arguments = parser.parse_args()
    rows = [
        row
        for algorithm in arguments.algorithms
        for steps in arguments.steps
        for row in measure(algorithm, arguments.seeds, steps, arguments.requests)
    ]
    found = pd.DataFrame(rows, columns=["algorithm", "env_steps", "split", "metric", *Estimate._fields])
    arguments.out.parent.mkdir(exist_ok=True)
    found.to_csv(arguments.out, index=False, float_format="%.6f")


def measure(algorithm: str, seeds: int, steps: int, requests: int) -> list[tuple[object, ...]]:
    """Print and return the QoS of trained agents, and their share of the gain, on each split."""
    rows: list[tuple[object, ...]] = []
    experiment = jaxmoe.train(
        algorithm, "queueing", seeds=seeds, env_steps=steps, evaluations=1, requests=requests,
        baselines=["one_slot_optimum", "lookahead"],
    )  # fmt: skip
    for split in experiment.tables.splits:
        evaluations = evaluations_of(algorithm, *sums_of(experiment, split))
        [qos] = estimate(lambda means: means[..., :1], [evaluations[algorithm]])
        [share] = estimate(
            normalised_score, [evaluations[algorithm], evaluations["one_slot_optimum"], evaluations["lookahead"]]
        )
        print(f"{algorithm}, {seeds} agents, {steps:,} env steps, {split} prompts: QoS {qos:.3f}, share {share:.2f}")
        rows += [(algorithm, steps, split, "qos", *qos), (algorithm, steps, split, "share_of_gain", *share)]
    return rows


if __name__ == "__main__":
    main()
