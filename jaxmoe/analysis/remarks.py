"""What is said under a comparison: how far agents are ahead of a rule that a user could have, and what to beware of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.statistics import divergence_rate
from jaxmoe.table.splits import choosing

FEW_SEEDS = 16  # below so many, a rare failure may not have been met


def strongest_deployable(comparison: pd.DataFrame, chosen_on: str | None = None) -> str | None:
    """The best baseline, on the prompts that choose, of those that read no more than an agent may observe."""
    chosen_on = chosen_on or choosing(comparison["split"].unique())
    rows = comparison[(comparison["split"] == chosen_on) & (comparison["metric"] == "qos")]
    rows = rows[(rows["deployable"] == True) & rows["mean"].notna()]  # noqa: E712 it may be missing
    return str(rows["policy"].iloc[int(np.argmax(rows["mean"]))]) if len(rows) else None


def leads(comparison: pd.DataFrame, policy: str) -> dict[str, Estimate]:
    """By how much QoS agents are ahead of a policy on the same requests: of each split."""
    rows = comparison[(comparison["policy"] == policy) & (comparison["metric"] == "ahead")]
    columns = [rows[name].tolist() for name in ("split", *Estimate._fields)]
    return {split: Estimate(*found) for split, *found in zip(*columns, strict=True)}


def remarks(
    comparison: pd.DataFrame,
    own: str | None,
    diverged: NDArray[np.bool_] | None = None,
    chosen_on: str | None = None,
) -> list[str]:
    """Sentences for below a table of policies.

    Args:
        comparison: as `jaxmoe.analysis.comparison.against_baselines` makes it.
        own: the agents, or the one policy that is compared with all others.
        diverged: which of the agents did, if that is known.
        chosen_on: the split whose prompts choose, if it is not that of `choosing`.
    """
    seeds = few_seeds(comparison, own)
    few = few_seeds_sentence(seeds, [str(own)], diverged) if seeds else ""
    said = [lead_sentence(comparison, own, chosen_on), alike_sentence(comparison), few]
    return [sentence for sentence in said if sentence]


def lead_sentence(comparison: pd.DataFrame, own: str | None, chosen_on: str | None = None) -> str:
    """How far agents are ahead of the strongest deployable baseline, with the interval of pairs."""
    chosen_on = chosen_on or choosing(comparison["split"].unique())
    rival = strongest_deployable(comparison, chosen_on)
    found = leads(comparison, rival) if rival else {}
    if own is None or rival is None or own == rival or not found:
        return ""
    each = ", ".join(f"{lead:+.3f} on {split} prompts" for split, lead in found.items())
    return (
        f"QoS of {own} beyond {rival}, the strongest deployable baseline on {chosen_on} prompts, on the same requests: "
        f"{each}."
    )


def alike_sentence(comparison: pd.DataFrame) -> str:
    """On which prompts there is no normalised score, because its 0 and its 1 are not told apart."""
    normalised = comparison[comparison["metric"] == "normalised"]
    splits = [str(split) for split, rows in normalised.groupby("split", sort=False) if rows["mean"].isna().all()]
    if not splits:
        return ""
    return (
        f"No normalised score on {' and '.join(splits)} prompts: the baselines that stand for 0 and for 1 differ too "
        "little there."
    )


def few_seeds(comparison: pd.DataFrame, own: str | None) -> int:
    """How many seeds agents have, if these are few and make most of an interval of theirs; else 0."""
    rows = comparison[(comparison["policy"] == own) & comparison["metric"].isin(["qos", "normalised"])]
    seeds = int(rows["seeds"].fillna(0).iloc[0]) if len(rows) else 0
    return seeds if 2 <= seeds < FEW_SEEDS and bool((rows["from_seeds"] > 0.5).any()) else 0


def few_seeds_sentence(seeds: int, owners: Sequence[str], diverged: NDArray[np.bool_] | None) -> str:
    """What an interval cannot know of agents that fail rarely, and how many diverged, if that is known.

    >>> few_seeds_sentence(8, ["ppo"], np.zeros(8, bool)).split(". ")[-1]
    '0 of 8 diverged, of all such agents up to 32% may.'
    """
    text = (
        f"Seeds make most of the interval of {' and '.join(owners)}, and {seeds} are few: 95 % if agents scatter about "
        "normally; with rare failures it holds the truth in 86 to 93 %."
    )
    if diverged is None:
        return text
    most = divergence_rate(diverged).high
    return f"{text} {int(diverged.sum())} of {diverged.size} diverged, of all such agents up to {most:.0%} may."
