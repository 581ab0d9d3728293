"""What a few runs say about an algorithm: robust means with intervals, and comparisons of two algorithms.

The measures are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264), whose package rliable is archived. Scores come as arrays whose last two axes are tasks and runs
(seeds); all axes before them are configurations, measured side by side.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import Estimate, normal_quantile, t_quantile

Scores = NDArray[np.float64]  # [..., tasks, runs]
Statistic = Callable[[Scores], NDArray[np.float64]]  # from [..., tasks, runs] to [...]

RESAMPLES = 10_000
TRIMMED = 0.25  # of each end, by the interquartile mean
FEW_RUNS, FEW_RUNS_OF_TASKS = 6, 4  # and more are resampled: of one task, and of each of several
IQM_INFLATION = {4: 1.20, 5: 1.14}  # variance of their interquartile mean over that of their mean, normal runs
TASKS_INFLATION = 2.0  # the same of several tasks at most, for they may lie so far apart that half of them do not count
BATCH_NUMBERS = 4_000_000  # resampled at once, for the memory's sake


def iqm(scores: Scores) -> NDArray[np.float64]:
    """Interquartile mean: of the middle half of all runs of all tasks.

    >>> float(iqm(np.array([[1.0, 2.0, 3.0, 100.0]])))
    2.5
    """
    from scipy.stats import trim_mean  # slow to import, and `status` needs none of it

    trimmed: NDArray[np.float64] = trim_mean(scores.reshape(*scores.shape[:-2], -1), TRIMMED, axis=-1)
    return trimmed


def mean(scores: Scores) -> NDArray[np.float64]:
    """Mean over runs and tasks."""
    return scores.mean(axis=(-2, -1))


def least(scores: Scores) -> NDArray[np.float64]:
    """The worst run of the worst task."""
    return scores.min(axis=(-2, -1))


def median(scores: Scores) -> NDArray[np.float64]:
    """Median over tasks of the mean over runs; with one task the mean.

    >>> float(median(np.array([[0.0, 2.0], [5.0, 5.0], [9.0, 9.0]])))
    5.0
    """
    return np.median(scores.mean(axis=-1), axis=-1)


def optimality_gap(scores: Scores, target: float = 1.0) -> NDArray[np.float64]:
    """How much the runs miss a target on average; what is above the target does not make good.

    >>> float(optimality_gap(np.array([[0.5, 1.5]])))
    0.25
    """
    return target - np.minimum(scores, target).mean(axis=(-2, -1))


STATISTICS: dict[str, Statistic] = {"mean": mean, "iqm": iqm, "min": least}  # that an objective can name


def performance_profile(scores: Scores, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of runs whose score is above each threshold, [..., thresholds].

    >>> performance_profile(np.array([[0.2, 0.6]]), np.array([0.1, 0.5, 0.6])).tolist()
    [1.0, 0.5, 0.0]
    """
    return (scores[..., None] > thresholds).mean(axis=(-3, -2))


def probability_of_improvement(first: Scores, second: Scores) -> float:
    """Probability that a run of the first algorithm beats one of the second on a task drawn at random; ties count half.

    It is the Mann-Whitney statistic over the number of pairs, averaged over tasks.

    >>> probability_of_improvement(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]))
    0.625
    """
    return float(_wins(first, second).mean())


def improvement(first: Scores, second: Scores) -> Estimate:
    """Probability of improvement with Wilson's interval (1927), as if each pair of seeds were one trial.

    A probability p over m x n pairs has a variance of at most p(1 - p)/min(m, n), whatever the distributions (Birnbaum
    and Klose 1957, "Bounds for the variance of the Mann-Whitney statistic"): that of as many trials as the smaller side
    has runs, in each task. So two seeds that both win are no certainty, as they are to a bootstrap: resampled wins are
    wins. Of single runs there is no interval.

    Args:
        first: scores of one algorithm, [tasks, runs].
        second: of another on the same tasks, [tasks, other runs].

    >>> f"{improvement(np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]])):.2f}"
    '1.00 [0.34, 1.00]'
    """
    found, runs = probability_of_improvement(first, second), min(first.shape[1], second.shape[1])
    return _wilson(found, len(first) * runs) if runs > 1 else Estimate(found, np.nan, np.nan)


def sure(probability: Estimate) -> str:
    """A probability of improvement for readers, who must not take that of single runs for certain.

    >>> sure(Estimate(1.0, 0.34, 1.0)), sure(Estimate(1.0, float("nan"), float("nan")))
    ('1.00 [0.34, 1.00]', '1.00 (of one seed)')
    """
    return f"{probability:.2f}" + (" (of one seed)" if np.isnan(probability.low) else "")


def _wins(first: Scores, second: Scores) -> NDArray[np.float64]:
    """Which runs of the first beat which of the second, [tasks, runs, other runs]: 1, or 0.5 if they are equal."""
    pairs = first[..., :, None] - second[..., None, :]
    return (pairs > 0) + 0.5 * (pairs == 0)


def divergence_rate(diverged: NDArray[np.bool_]) -> Estimate:
    """Share of agents that diverged, with Wilson's interval (1927), which holds for none and for all.

    >>> f"{divergence_rate(np.zeros(32, bool)):.3f}"
    '0.000 [0.000, 0.107]'
    """
    return _wilson(float(np.mean(diverged)), len(diverged))


def profile_with_interval(
    scores: Scores, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A performance profile with Wilson's interval at each threshold: value, low and high, [thresholds] each.

    Where none of few agents is above a threshold, some of all may be: resampled, none ever is.

    >>> [part.round(2).tolist() for part in profile_with_interval(np.array([[0.2, 0.6]]), np.array([0.5, 0.9]))]
    [[0.5, 0.0], [0.09, 0.0], [0.91, 0.66]]
    """
    shares = performance_profile(scores, thresholds)
    return shares, *_wilsons_ends(shares, scores.shape[-1] * scores.shape[-2])


def _wilson(share: float, trials: int) -> Estimate:
    return Estimate(share, *map(float, _wilsons_ends(np.array(share), trials)))


def _wilsons_ends(shares: NDArray[np.float64], trials: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the interval of a share: what it is not `z sqrt(share (1 - share)/trials)` away from."""
    square = normal_quantile() ** 2 / trials
    middle, scale = shares + square / 2, 1 + square
    reach = np.sqrt(square * (shares * (1 - shares) + square / 4))
    return np.clip((middle - reach) / scale, 0.0, 1.0), np.clip((middle + reach) / scale, 0.0, 1.0)


def with_interval(
    statistic: Statistic, scores: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A statistic of each configuration with its interval: value, low and high, [...] each.

    From `FEW_RUNS` on it is a stratified bootstrap: runs are resampled within each task, the same ones for every
    configuration, as these share their seeds. The percentile interval is widened for few runs as Hesterberg 2015 ("What
    Teachers Should Know About the Bootstrap", arXiv 1411.5279, expanded percentile interval) says: without that, 32
    runs give 93.5 to 94.5 % for 95 %. Of fewer runs it is Student's, `value +- t(n - 1) sd sqrt(c / n)`, as resampled
    means of 4 runs cannot leave their range, which holds the true one in 86 %; of T tasks, each of fewer than
    `FEW_RUNS_OF_TASKS`, it is `t(T (n - 1))` with the tasks' variances added. Of one run there is no interval: low and
    high are NaN.

    Args:
        statistic: of scores, [..., tasks, runs], over their last two axes.
        scores: of all configurations.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
    """
    tasks, runs = scores.shape[-2:]
    value = statistic(scores)
    if runs < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    if _is_few(statistic, tasks, runs):
        reach = _students_reach(statistic, scores)
        return value, value - reach, value + reach
    generator = np.random.default_rng(seed)
    batch = max(1, BATCH_NUMBERS // scores.size)
    found = []
    for begin in range(0, resamples, batch):
        drawn = generator.integers(0, runs, (min(batch, resamples - begin), tasks, runs))
        found.append(statistic(_resampled(scores, drawn)))
    low, high = np.quantile(np.concatenate(found), _tails(tasks, runs), axis=0)
    return value, low, high


def interval(statistic: Statistic, scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The same of one configuration, [tasks, runs]."""
    return Estimate(*(float(found) for found in with_interval(statistic, scores, resamples, seed)))


def difference(
    statistic: Statistic, first: Scores, second: Scores, paired: bool = False, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """A statistic of the first minus that of the second.

    Of few runs, as in `with_interval`, the interval is Student's: of the runs' differences where they are paired, else
    with the freedom of Welch 1947. Of more it is a bootstrap's, with the same draws for both where they are paired.
    Pairs are right also where runs have nothing in common but their number.

    Args:
        statistic: of scores, [..., tasks, runs], over their last two axes.
        first: scores of one algorithm, [tasks, runs].
        second: of another, [tasks, other runs].
        paired: whether the runs of both are of the same seeds, in the same order.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
    """
    value, runs = float(statistic(first) - statistic(second)), min(first.shape[1], second.shape[1])
    if runs < 2:
        return Estimate(value, np.nan, np.nan)
    if _is_few(statistic, len(first), runs):
        reach = float(_students_reach(statistic, first - second) if paired else _welchs_reach(statistic, first, second))
        return Estimate(value, value - reach, value + reach)
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(0, part.shape[1], (resamples, *part.shape)) for part in (first, second)]
    drawn = [drawn[0], drawn[0]] if paired else drawn
    one, other = (statistic(_resampled(part, of)) for part, of in zip((first, second), drawn, strict=True))
    return Estimate(value, *map(float, np.quantile(one - other, _tails(len(first), runs))))


def _welchs_reach(statistic: Statistic, first: Scores, second: Scores) -> NDArray[np.float64]:
    """Half of the interval of a difference of which one side at least has few runs."""
    variances, freedoms = np.zeros(2), np.zeros(2)
    for side, scores in enumerate((first, second)):
        tasks, runs = scores.shape
        freedoms[side] = tasks * (runs - 1)
        if _is_few(statistic, tasks, runs):
            variances[side] = _students_variance(statistic, scores)
        else:
            drawn = np.random.default_rng(0).integers(0, runs, (RESAMPLES // 10, tasks, runs))
            variances[side] = statistic(_resampled(scores, drawn)).var() * runs / (runs - 1)
    total = variances.sum()
    freedom = total**2 / np.sum(variances**2 / freedoms) if total > 0 else freedoms.min()
    reach: NDArray[np.float64] = t_quantile(freedom) * np.sqrt(total)
    return reach


def _is_few(statistic: Statistic, tasks: int, runs: int) -> bool:
    """Whether runs are too few to be resampled, of a statistic that is about a mean."""
    return statistic in (iqm, mean, median, optimality_gap) and runs < (FEW_RUNS if tasks == 1 else FEW_RUNS_OF_TASKS)


def _students_reach(statistic: Statistic, scores: Scores) -> NDArray[np.float64]:
    """Half of Student's interval of a mean over few runs, or of their interquartile mean."""
    tasks, runs = scores.shape[-2:]
    return t_quantile(tasks * (runs - 1)) * np.sqrt(_students_variance(statistic, scores))


def _students_variance(statistic: Statistic, scores: Scores) -> NDArray[np.float64]:
    """Of a mean over few runs, or of their interquartile mean: that of each task over its runs, added."""
    tasks, runs = scores.shape[-2:]
    single = np.stack([[statistic(scores[..., [task], :][..., [run]]) for run in range(runs)] for task in range(tasks)])
    inflation = 1.0
    if statistic in (iqm, median):
        inflation = TASKS_INFLATION if tasks > 1 else IQM_INFLATION.get(runs, 1.0) if statistic is iqm else 1.0
    variance: NDArray[np.float64] = single.var(axis=1, ddof=1).sum(axis=0) * inflation / (runs * tasks**2)
    return variance


def _resampled(scores: Scores, drawn: NDArray[np.int64]) -> Scores:
    """Runs by their drawn numbers, [resamples, ..., tasks, runs]."""
    parts = [np.moveaxis(scores[..., task, :][..., drawn[:, task]], -2, 0) for task in range(scores.shape[-2])]
    return np.stack(parts, axis=-2)


def _tails(tasks: int, runs: int) -> tuple[float, float]:
    """Quantiles at which an interval ends, widened for few runs; those of several tasks count half."""
    from scipy.special import ndtr

    freedom = tasks * (runs - 1) / (1 if tasks == 1 else 2)
    reach = t_quantile(freedom) * (runs / (runs - 1)) ** 0.5
    return float(ndtr(-reach)), float(ndtr(reach))
