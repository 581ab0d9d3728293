"""What the experts of a table are worth: by subset, alone and together, and how far the judges agree.

An expert's Shapley value (Shapley 1953, "A value for n-person games") is its mean marginal contribution to the score
over all orders in which experts could be asked: the values of all experts add up to what all of them together bring.
"""

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import mean_ends
from jaxmoe.table import ExpertTable
from jaxmoe.table.formats import read_json_lines
from jaxmoe.table.records import read_scores, subset_name


class Example(NamedTuple):
    """A text of the table."""

    prompt: str
    experts: str
    score: float  # mean over judges
    text: str


def subset_scores(table: ExpertTable) -> pd.DataFrame:
    """One row per subset, best first: mean score over prompts with its 95 % interval, words, and cost per point."""
    scores = np.asarray(table.score_mean, np.float64)
    low, high = mean_ends(scores)
    rows = pd.DataFrame(
        {
            "subset": [subset_name(subset, table.experts) for subset in range(scores.shape[1])],
            "experts": [subset.bit_count() for subset in range(scores.shape[1])],
            "score": scores.mean(axis=0),
            "low": low,
            "high": high,
            "spread": scores.std(axis=0),
            "words": np.asarray(table.fused_words, np.float64).mean(axis=0),
            "words_asked": [_words_asked(table, subset) for subset in range(scores.shape[1])],
        }
    )
    return rows.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def shapley_values(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shapley value of each expert, exactly, [..., E], from the worth of each subset, [..., 2^E], bit e for expert e.

    >>> shapley_values(np.array([0.0, 1.0, 2.0, 5.0])).tolist()
    [2.0, 3.0]
    """
    count = worth.shape[-1].bit_length() - 1
    values = []
    for expert in range(count):
        total = np.zeros(worth.shape[:-1])
        for subset in range(1 << count):
            if not subset >> expert & 1:
                size = subset.bit_count()
                weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                total = total + weight * (worth[..., subset | 1 << expert] - worth[..., subset])
        values.append(total)
    return np.stack(values, axis=-1)


def expert_values(table: ExpertTable) -> pd.DataFrame:
    """One row per expert: what it adds to the score alone, last of all, and on average over all orders (Shapley)."""
    scores = np.asarray(table.score_mean, np.float64)
    count, whole = table.num_experts, scores.shape[1] - 1
    first = np.stack([scores[:, 1 << expert] - scores[:, 0] for expert in range(count)], axis=1)
    last = np.stack([scores[:, whole] - scores[:, whole ^ 1 << expert] for expert in range(count)], axis=1)
    columns: dict[str, object] = {"expert": list(table.experts)}
    for name, values in (("alone", first), ("last", last), ("shapley", shapley_values(scores))):
        low, high = mean_ends(values)
        columns |= {name: values.mean(axis=0), f"{name}_low": low, f"{name}_high": high}
    columns["words"] = np.asarray(table.words, np.float64).mean(axis=0)
    columns["relevance"] = np.asarray(table.relevance, np.float64).mean(axis=0)
    return pd.DataFrame(columns)


def texts_table(table: ExpertTable) -> pd.DataFrame:
    """One row per prompt and subset: score and words of the text."""
    prompts, subsets = table.score_mean.shape
    return pd.DataFrame(
        {
            "prompt": np.repeat(np.array(table.meta.prompt_ids), subsets),
            "subset": np.tile([subset_name(subset, table.experts) for subset in range(subsets)], prompts),
            "experts": np.tile([subset.bit_count() for subset in range(subsets)], prompts),
            "score": np.asarray(table.score_mean, np.float64).ravel(),
            "words": np.asarray(table.fused_words, np.float64).ravel(),
        }
    )


def judge_agreement(folder: Path) -> pd.DataFrame | None:
    """One row per pair of judges: Pearson and Spearman correlation, mean difference and mean absolute difference.

    Args:
        folder: raw records.

    Returns:
        The pairs, or nothing if there is one judge.
    """
    rows = read_scores(folder / "scores.csv")
    scores = pd.DataFrame(
        [
            (row.text("prompt_id"), row.text("experts"), row.text("judge"), row.number("score", 0.0, 10.0))
            for row in rows
        ],
        columns=["prompt", "experts", "judge", "score"],
    )
    wide = scores.pivot_table(index=["prompt", "experts"], columns="judge", values="score").dropna()
    pairs = []
    for one, other in itertools.combinations(wide.columns, 2):
        difference = wide[one] - wide[other]
        ranks = wide[[one, other]].rank()
        pairs.append(
            {
                "judges": f"{one} and {other}",
                "texts": len(wide),
                "pearson": wide[one].corr(wide[other]),
                "spearman": ranks[one].corr(ranks[other]),
                "difference": difference.mean(),
                "absolute_difference": difference.abs().mean(),
            }
        )
    return pd.DataFrame(pairs) if pairs else None


def examples(folder: Path, table: ExpertTable) -> list[Example]:
    """Of the first prompt: the texts of the best and the worst subset, of `local` and of the best single expert."""
    prompt = table.meta.prompt_ids[0]
    scores = np.asarray(table.score_mean[0], np.float64)
    singles = [1 << expert for expert in range(table.num_experts)]
    wanted = dict.fromkeys([int(scores.argmax()), max(singles, key=lambda s: scores[s]), int(scores.argmin()), 0])
    texts = {
        row.text("experts"): row.text("text")
        for row in read_json_lines(folder / "texts.jsonl")
        if row.text("prompt_id") == prompt
    }
    named = {_sorted_name(name): text for name, text in texts.items()}
    return [
        Example(table.meta.prompts[0], name, float(scores[subset]), named[_sorted_name(name)])
        for subset in wanted
        if _sorted_name(name := subset_name(subset, table.experts)) in named
    ]


def _words_asked(table: ExpertTable, subset: int) -> float:
    """Words that the subset's experts write, which is what costs."""
    asked = [expert for expert in range(table.num_experts) if subset >> expert & 1]
    return float(np.asarray(table.words, np.float64)[:, asked].sum(axis=1).mean())


def _sorted_name(name: str) -> str:
    return "+".join(sorted(part.strip() for part in name.split("+")))
