"""Every reference in every scenario, with intervals: prints Markdown and writes `results/references.csv`.

    python experiments/references.py

The table in `experiments/README.md` is what this prints.
"""

from pathlib import Path

import pandas as pd

import jaxmoe
from jaxmoe.env.evaluation import best_reference, episode_slots, tally
from jaxmoe.env.references import drift_plus_penalty, lookahead, one_slot_optimum, random
from jaxmoe.intervals import Estimate, estimate

SCENARIOS = ("oneshot", "fading", "queueing")
SLOTS = 16_384
RESULTS = Path(__file__).parent / "results" / "references.csv"


def main() -> None:
    found = pd.concat(
        [jaxmoe.evaluate(None, scenario, slots=SLOTS).assign(scenario=scenario) for scenario in SCENARIOS]
    )
    RESULTS.parent.mkdir(exist_ok=True)
    found.to_csv(RESULTS, index=False, float_format="%.6f")
    for scenario in SCENARIOS:
        print_markdown(found[found["scenario"] == scenario], scenario)
    print_differences()


def print_markdown(found: pd.DataFrame, scenario: str) -> None:
    print(f"\n**{scenario}** (QoS [95 % interval]; normalised score)\n")
    print("| policy | train prompts | | test prompts | |\n|---|---|---|---|---|")
    cells = {(row[0], row[1], row[2]): Estimate(*row[3:6]) for row in found.itertuples(index=False)}
    order = found.query("split == 'train' and metric == 'qos'").sort_values("mean", ascending=False)["policy"]
    for policy in order:
        row = [f"{cells[s, policy, 'qos']:.3f} | {cells[s, policy, 'normalised'].mean:.3f}" for s in ("train", "test")]
        print(f"| `{policy}` | {' | '.join(row)} |")


def print_differences() -> None:
    """What choices are worth in `queueing`: paired differences on train prompts."""
    env, params = jaxmoe.make("queueing")
    policies = (random(env), one_slot_optimum(env), drift_plus_penalty(env), lookahead(env))
    tallies = {policy.name: tally(policy.act, env, params, slots=SLOTS) for policy in policies}
    print(f"\nqueueing, QoS differences on {SLOTS} requests of train prompts, {episode_slots(env, params)} slots each:")
    for better, worse in (
        ("one_slot_optimum", "random"),
        ("drift_plus_penalty", "one_slot_optimum"),
        (best_reference(env), "one_slot_optimum"),
    ):
        [gain] = estimate(lambda one, other: one[..., :1] - other[..., :1], [tallies[better], tallies[worse]])
        print(f"{better} - {worse}: {gain:.3f}")


if __name__ == "__main__":
    main()
