"""Unseen prompts: agents against the baselines by 4-fold cross-validation over all prompts, paired.

    python experiments/cross_validation.py

Every prompt is met as a test prompt exactly once, by agents that were trained on the other folds; differences are taken
on the same requests, and their intervals are over prompts and seeds. Writes `results/cross_validation.csv`.
"""

import argparse
from pathlib import Path

import pandas as pd
from evaluations import evaluations_of, sums_of

import jaxmoe
from jaxmoe.analysis.comparison import family, normalised_score
from jaxmoe.analysis.intervals import Estimate, estimate

RESULTS = Path(__file__).parent / "results" / "cross_validation.csv"
FOLDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Agents on unseen prompts, by 4-fold cross-validation.")
    parser.add_argument("--algorithms", nargs="+", default=["ppo", "dqn", "sac"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[25_000, 100_000, 500_000])
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file")
    arguments = parser.parse_args()
    rows = [
        row
        for algorithm in arguments.algorithms
        for steps in arguments.steps
        for row in cross_validate(algorithm, steps, arguments.seeds)
    ]
    found = pd.DataFrame(rows, columns=["algorithm", "env_steps", "policy", "metric", *Estimate._fields])
    arguments.out.parent.mkdir(exist_ok=True)
    found.to_csv(arguments.out, index=False, float_format="%.6f")


def cross_validate(algorithm: str, steps: int, seeds: int) -> list[tuple[object, ...]]:
    """Print and return what each policy brings on unseen prompts, and how far the agents are ahead of it."""
    folds = []
    for fold in jaxmoe.load_table().folds(FOLDS):
        experiment = jaxmoe.train(algorithm, "oneshot", seeds=seeds, env_steps=steps, table=fold, evaluations=1)
        folds.append(sums_of(experiment, "test"))
    # An agent of a number has the same seed in every fold, and no prompt is in the test split of two.
    agents, baselines = (pd.concat(parts, ignore_index=True) for parts in zip(*folds, strict=True))
    pooled = evaluations_of(algorithm, agents, baselines.assign(policy=baselines["policy"].map(family)))
    print(f"\n{seeds} {algorithm.upper()} agents of {steps:,} env steps per fold; test prompts of {FOLDS} folds")
    print(f"| policy | QoS | normalised score | {algorithm.upper()} is ahead by |\n|---|---|---|---|")
    rows: list[tuple[object, ...]] = []
    for name in sorted(pooled, key=lambda name: -pooled[name].prompts.mean()[0]):
        [qos] = estimate(lambda means: means[..., :1], [pooled[name]])
        [score] = estimate(normalised_score, [pooled[name], pooled["random"], pooled["one_slot_optimum"]])
        [lead] = estimate(lambda one, other: one[..., :1] - other[..., :1], [pooled[algorithm], pooled[name]])
        print(f"| `{name}` | {qos:.3f} | {score:.3f} | {lead:.4f} |")
        rows += [
            (algorithm, steps, name, metric, *found)
            for metric, found in (("qos", qos), ("normalised", score), ("lead", lead))
        ]
    return rows


if __name__ == "__main__":
    main()
