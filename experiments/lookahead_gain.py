"""When choices have consequences: the share of the lookahead's gain over the one-slot optimum that agents win.

    python experiments/lookahead_gain.py

The share is `(QoS - one-slot optimum) / (lookahead - one-slot optimum)`, on the same requests, with an interval over
prompts and seeds. Agents see only observations; both references know the true scores and channels of the slot.
Writes `results/lookahead_gain.csv`.
"""

import argparse
from pathlib import Path

import pandas as pd

import jaxmoe
from jaxmoe.intervals import Estimate, estimate
from jaxmoe.sweeps.comparison import normalised_score

RESULTS = Path(__file__).parent / "results" / "lookahead_gain.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of the lookahead's gain that agents win in `queueing`.")
    parser.add_argument("--algorithms", nargs="+", default=["ppo", "dqn", "sac"])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=[500_000, 1_000_000])
    arguments = parser.parse_args()
    rows = [
        row
        for algorithm in arguments.algorithms
        for steps in arguments.steps
        for row in measure(algorithm, arguments.seeds, steps)
    ]
    found = pd.DataFrame(rows, columns=["algorithm", "env_steps", "split", "metric", *Estimate._fields])
    RESULTS.parent.mkdir(exist_ok=True)
    found.to_csv(RESULTS, index=False, float_format="%.6f")


def measure(algorithm: str, seeds: int, steps: int) -> list[tuple[object, ...]]:
    """Print and return the QoS of trained agents, and their share of the gain, on each split."""
    rows: list[tuple[object, ...]] = []
    training = jaxmoe.train(algorithm, "queueing", seeds=seeds, env_steps=steps, evaluations=1)
    for split, tallies in training.tallies.items():
        agents = tallies[training.run.agents_name]
        [qos] = estimate(lambda means: means[..., :1], [agents])
        [share] = estimate(normalised_score, [agents, tallies["one_slot_optimum"], tallies["lookahead"]])
        print(f"{algorithm}, {seeds} agents, {steps:,} env steps, {split} prompts: QoS {qos:.3f}, share {share:.2f}")
        rows += [(algorithm, steps, split, "qos", *qos), (algorithm, steps, split, "share_of_gain", *share)]
    return rows


if __name__ == "__main__":
    main()
