"""Means with bootstrap intervals over two crossed populations: prompts, and rows (one per agent).

What an agent brings varies with the prompt and with the seed it was trained on; an interval that counts only one of the
two is too short (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics). Both are resampled: the prompts
with the same weights for every policy, because all policies meet the same prompts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95


class UnitSums(NamedTuple):
    """What one policy brought: sums of M metrics over the slots of each prompt."""

    sums: NDArray[np.float64]  # [R, P, M]
    counts: NDArray[np.float64]  # [R, P] slots

    def mean(self) -> NDArray[np.float64]:
        """Mean of each metric over all slots."""
        return self.sums.sum(axis=(0, 1)) / self.counts.sum()


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """As ``0.812 [0.790, 0.833]``; the format of each number can be given. Without an interval the mean alone.

        >>> f"{Estimate(0.8123, 0.79, 0.8333):.2f}"
        '0.81 [0.79, 0.83]'
        >>> f"{Estimate(0.8123, float('nan'), float('nan'))}"
        '0.812'
        """
        number = spec or ".3f"
        if self.low != self.low:
            return f"{self.mean:{number}}"
        return f"{self.mean:{number}} [{self.low:{number}}, {self.high:{number}}]"


def estimate(
    statistic: Callable[..., NDArray[np.float64]],
    evaluations: Sequence[UnitSums],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """Estimate statistics of the policies' means, with percentile bootstrap intervals.

    Args:
        statistic: takes the means of each sums, `[..., M]` each, and returns one or several statistics, `[..., K]`.
        evaluations: what each policy brought, on the same prompts.
        seed: of the resampling.
        resamples: number of bootstrap resamples.

    Returns:
        One estimate for each of the K statistics.

    >>> sums = UnitSums(np.array([[[0.0], [10.0]]]), np.array([[10.0, 10.0]]))
    >>> estimate(lambda means: means, [sums])
    [Estimate(mean=0.5, low=0.0, high=1.0)]
    """
    generator = np.random.default_rng(seed)
    met = np.any([sums.counts.sum(axis=0) > 0 for sums in evaluations], axis=0)
    prompt_weights = _weights(generator, int(met.sum()), resamples)
    resampled: dict[int, NDArray[np.float64]] = {}  # by identity: a policy compared with itself is equal to itself
    for sums in evaluations:
        if id(sums) not in resampled:
            row_weights = _weights(generator, len(sums.counts), resamples)
            met_sums = UnitSums(sums.sums[:, met], sums.counts[:, met])
            resampled[id(sums)] = _weighted_means(met_sums, row_weights, prompt_weights)
    means = np.atleast_1d(statistic(*(sums.mean() for sums in evaluations)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(statistic(*(resampled[id(sums)] for sums in evaluations)), [tail, 100 - tail], axis=0)
    return [Estimate(*map(float, row)) for row in zip(means, np.atleast_1d(low), np.atleast_1d(high), strict=True)]


def _weights(generator: np.random.Generator, size: int, resamples: int) -> NDArray[np.float64]:
    """How often each of `size` items is drawn in each resample, [B, size]."""
    return generator.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)


def _weighted_means(
    sums: UnitSums, row_weights: NDArray[np.float64], prompt_weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means of each resample, [B, M]."""
    rows, prompts, metrics = sums.sums.shape
    by_prompt = (row_weights @ sums.sums.reshape(rows, -1)).reshape(-1, prompts, metrics)
    totals = np.einsum("bpm,bp->bm", by_prompt, prompt_weights)
    return totals / np.einsum("bp,bp->b", row_weights @ sums.counts, prompt_weights)[:, None]
