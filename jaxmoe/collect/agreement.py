"""How far judgements can be trusted: do judges agree, and do they just count words?"""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.collect.pipeline import Collected


class Agreement(NamedTuple):
    """Numbers over all texts with a score; NaN where there are too few."""

    texts: int  # with at least one score
    judges: int  # or samples of one judge
    mean_std: float  # within a text, over judges (population standard deviation), of texts with two scores or more
    pearson: float  # mean over pairs of judges that both vary
    length_spearman: float  # rank correlation of words and mean score


def agreement(found: Collected) -> Agreement:
    """From the judgements and the lengths of the texts.

    Pearson's correlation between each two judges over the texts that both scored; Spearman's between the words of a
    text and its mean score.
    """
    scores = pd.DataFrame(
        [(*text, judge, answer.value) for (*text, judge), answer in found.scores.items() if answer.usable],
        columns=["prompt_id", "subset", "judge", "score"],
    )
    scores["score"] = scores["score"].astype(float)
    if scores.empty:
        return Agreement(0, 0, np.nan, np.nan, np.nan)
    wide = scores.pivot_table(index=["prompt_id", "subset"], columns="judge", values="score")
    several = wide[wide.notna().sum(axis=1) > 1]
    pairs = [_correlation(wide[one], wide[other]) for one, other in combinations(wide.columns, 2)]
    known = [pair for pair in pairs if not np.isnan(pair)]
    words = pd.Series({key: len(found.texts[key].text.split()) for key in wide.index}, dtype=float)
    return Agreement(
        texts=len(wide),
        judges=len(wide.columns),
        mean_std=float(several.std(axis=1, ddof=0).mean()) if len(several) else np.nan,
        pearson=float(np.mean(known)) if known else np.nan,
        length_spearman=_correlation(words.rank(), wide.mean(axis=1).rank()),
    )


def describe_agreement(numbers: Agreement) -> list[str]:
    """Sentences for the end of a run and for the data card.

    >>> describe_agreement(Agreement(6, 1, np.nan, np.nan, 0.5))
    ['6 texts were scored; score and length of a text: Spearman 0.50']
    """
    if not numbers.texts:
        return ["no text was scored"]
    lines = [
        f"{numbers.texts} texts were scored; score and length of a text: Spearman {_shown(numbers.length_spearman)}"
    ]
    if numbers.judges > 1:
        lines.append(
            f"{numbers.judges} judgements of a text: Pearson {_shown(numbers.pearson)} between two of them, "
            f"standard deviation {_shown(numbers.mean_std)} within a text"
        )
    return lines


def _correlation(one: "pd.Series[Any]", other: "pd.Series[Any]") -> float:
    """Pearson's, NaN where one of the two does not vary."""
    both = pd.concat([one, other], axis=1).dropna().to_numpy()
    if len(both) < 3 or np.ptp(both[:, 0]) == 0 or np.ptp(both[:, 1]) == 0:
        return float("nan")
    return float(np.corrcoef(both.T)[0, 1])


def _shown(value: float) -> str:
    return "unknown (too few, or all the same)" if np.isnan(value) else f"{value:.2f}"
