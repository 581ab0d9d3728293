"""Unseen prompts: agents against the references by 4-fold cross-validation over all prompts, paired.

    python experiments/cross_validation.py

Every prompt is met as a test prompt exactly once, by agents that were trained on the other folds; differences are taken
on the same requests, and their intervals count prompts and seeds. Writes `results/cross_validation.csv`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import jaxmoe
from jaxmoe.intervals import Estimate, Tally, estimate
from jaxmoe.study.against import family
from jaxmoe.sweeps.comparison import normalised_score

RESULTS = Path(__file__).parent / "results" / "cross_validation.csv"
FOLDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Agents on unseen prompts, by 4-fold cross-validation.")
    parser.add_argument("--algorithms", nargs="+", default=["ppo", "dqn", "sac"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[25_000, 100_000, 500_000])
    arguments = parser.parse_args()
    rows = [
        row
        for algorithm in arguments.algorithms
        for steps in arguments.steps
        for row in cross_validate(algorithm, steps, arguments.seeds)
    ]
    found = pd.DataFrame(rows, columns=["algorithm", "env_steps", "policy", "metric", *Estimate._fields])
    RESULTS.parent.mkdir(exist_ok=True)
    found.to_csv(RESULTS, index=False, float_format="%.6f")


def cross_validate(algorithm: str, steps: int, seeds: int) -> list[tuple[object, ...]]:
    """Print and return what each policy brings on unseen prompts, and how far the agents are ahead of it."""
    folds: list[dict[str, Tally]] = []
    for fold in jaxmoe.load_table().folds(FOLDS):
        training = jaxmoe.train(algorithm, "oneshot", seeds=seeds, env_steps=steps, table=fold, evaluations=1)
        folds.append({family(name): tally for name, tally in training.tallies["test"].items()})
    pooled = {name: _pooled([fold[name] for fold in folds]) for name in folds[0]}
    print(f"\n{seeds} {algorithm.upper()} agents of {steps:,} env steps per fold; test prompts of {FOLDS} folds")
    print(f"| policy | QoS | normalised score | {algorithm.upper()} is ahead by |\n|---|---|---|---|")
    rows: list[tuple[object, ...]] = []
    for name in sorted(pooled, key=lambda name: -pooled[name].mean()[0]):
        [qos] = estimate(lambda means: means[..., :1], [pooled[name]])
        [score] = estimate(normalised_score, [pooled[name], pooled["random"], pooled["one_slot_optimum"]])
        [lead] = estimate(lambda one, other: one[..., :1] - other[..., :1], [pooled[algorithm], pooled[name]])
        print(f"| `{name}` | {qos:.3f} | {score:.3f} | {lead:.4f} |")
        rows += [
            (algorithm, steps, name, metric, *found)
            for metric, found in (("qos", qos), ("normalised", score), ("lead", lead))
        ]
    return rows


def _pooled(tallies: list[Tally]) -> Tally:
    """Sums over folds; no prompt is in the test split of two."""
    return Tally(np.sum([tally.sums for tally in tallies], axis=0), np.sum([tally.counts for tally in tallies], axis=0))


if __name__ == "__main__":
    main()
