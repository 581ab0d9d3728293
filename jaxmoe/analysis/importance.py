"""Which axes of a search matter: shares of the variance between configurations, axis by axis and pair by pair.

This is the functional analysis of variance (Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing
Hyperparameter Importance"), exact on a full grid, of a fitted surface elsewhere (`surface`), of means over seeds: these
are unbiased whatever the noise is like, and a seed's own level cancels. The noise of seeds makes configurations differ
that do not, and gives a share to axes that do nothing: it is estimated within configurations and taken out by the
method of moments. Intervals are of confidence distributions (Xie and Singh 2013), one for an effect and one for all
others together; those of resampled seeds take noise for effects and do not cover. Coverage is simulated by
`experiments/benchmarks/importance_coverage.py`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import CONFIDENCE, Estimate
from jaxmoe.analysis.surface import Array, Effect, Surface, fitted_surface, grid_order, grid_parts

DRAWS = 1000
MOST_NUMBERS = 2_000_000  # that are drawn at once
TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
TINY = 1e-300
NEGLIGIBLE = 0.005  # a share that is printed as 0 %


class Noise(NamedTuple):
    """What seeds add to the score of one agent."""

    variance: float  # of one agent; NaN of one seed
    of_means: float  # of the mean over seeds
    own: Array  # the same of each configuration, [N]
    freedom: int

    @property
    def known(self) -> bool:
        """Whether there are seeds enough to tell."""
        return self.freedom > 0


class Importance(NamedTuple):
    """How much of the variance between configurations each effect explains."""

    effects: pd.DataFrame  # one row per effect: axes, order, share, low, high, and whether it is apart from 0
    exact: bool  # whether the grid is full; otherwise a fitted surface, of which the shares are
    differ: bool  # whether configurations differ more than seeds do; of one seed nobody knows, and it is true
    describes: bool  # whether the surface describes more than one of axes without effect would
    described: Estimate  # share of the variance between configurations that is the surface's; 1 on a full grid
    explained: float  # of the variance of configurations left out, by the surface; 1 on a full grid
    seeds_share: float  # of the variance of single agents, by the seed alone; NaN of one seed
    configurations: int
    runs: int

    @property
    def tells(self) -> bool:
        """Whether there is anything to share out."""
        return self.differ and self.describes

    @property
    def has_noise(self) -> bool:
        """Whether the shares hold the noise of seeds, as one seed's on a full grid do."""
        return self.exact and self.runs == 1


class _Parts(NamedTuple):
    """Means and drawn noise taken apart into A effects: sums of squares, over the number of configurations."""

    squares: Array  # |P m|^2 of each effect, [A]
    along: Array  # <P z, P m> of each draw, [draws, A]
    drawn: Array  # |P z|^2 of each draw, [draws, A]

    def together(self) -> Array:
        """Draws of the squared length of all effects, [draws]."""
        return _likely(*(part.sum(axis=-1, keepdims=True) for part in self))[:, 0]


def importance(points: pd.DataFrame, scores: Array, seed: int = 0) -> Importance | None:
    """How much each axis, and what axes do together, matters to the mean over runs.

    Of means m over n runs, an effect A with projection P_A onto d_A dimensions has the variance

        V_A = |P_A m|^2 / N - d_A s2 / (N n),    s2 = sum r^2 / ((N-1)(n-1)),    r_cs = y_cs - m_c - m_s + m

    and the share V_A / sum V, shown from 0 to 1; what is below 0 stays in the sum. Of a surface, the squares of A's
    coefficients take the place of |P_A m|^2 / N, and the mean square of its residuals times the trace of their unit
    covariance that of the noise: it holds the noise of seeds and what the surface misses, which at points drawn by
    chance is noise to the coefficients too. The shares are of what the surface describes; how much that is of the
    variance between configurations is said apart, as the residuals less the noise of seeds are what it misses.

    Args:
        points: one row per configuration, one column per axis.
        scores: of each configuration and run, [configurations, runs]; runs are the same seeds everywhere. A
            configuration with a score that is no number is left out.
        seed: of the draws, for the intervals.

    Returns:
        The shares, or nothing if there are too few configurations or they all score the same.
    """
    whole = np.flatnonzero(np.isfinite(scores).all(axis=1))
    points, scores = points.iloc[whole].reset_index(drop=True), scores[whole]
    axes = [str(name) for name in points if len(set(points[name])) > 1]
    means = scores.mean(axis=1)
    if not axes or len(points) < 3 or np.ptp(means) == 0:
        return None
    noise, grid = noise_of(scores), grid_order(points[axes])
    generator = np.random.default_rng(seed)
    differ, runs = _differ(means, noise), scores.shape[1]
    seeds_share = _seeds_share(scores, noise)
    if grid is not None:
        effects = _of_grid(generator, axes, grid, means, noise)
        everything = Estimate(1.0, 1.0, 1.0)
        return Importance(effects, True, differ, True, everything, 1.0, seeds_share, len(points), runs)
    surface = fitted_surface(points[axes])
    if surface is None:
        return None
    effects, described = _of_surface(generator, surface, means, noise)
    explained = surface.explained(means)
    describes = bool(effects["share"].notna().all()) and _describes(surface, means)
    return Importance(effects, False, differ, describes, described, explained, seeds_share, len(points), runs)


def noise_of(scores: Array) -> Noise:
    """The variance of runs within configurations, without what a seed adds to all of them.

    >>> noise_of(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).variance
    0.0
    >>> noise_of(np.array([[0.0, 2.0], [2.0, 0.0]])).variance
    4.0
    """
    configurations, runs = scores.shape
    if runs < 2:
        return Noise(np.nan, np.nan, np.full(configurations, np.nan), 0)
    residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    own = (residuals**2).sum(axis=1) * configurations / ((configurations - 1) * (runs - 1))
    variance = float(own.mean())
    return Noise(variance, variance / runs, own / runs, (configurations - 1) * (runs - 1))


def _differ(means: Array, noise: Noise) -> bool:
    """The F test, at 5 %, of configurations against the noise of seeds: (N-1, (N-1)(n-1)) degrees of freedom."""
    between = ((means - means.mean()) ** 2).sum()
    return not noise.known or _is_more(between, len(means) - 1, noise.of_means, noise.freedom)


def _describes(surface: Surface, means: Array) -> bool:
    """The F test, at 5 %, of a surface against its residuals."""
    missed = (surface.residuals(means) ** 2).sum()
    between = ((means - means.mean()) ** 2).sum() - missed
    return _is_more(between, len(means) - 1 - surface.freedom, missed / surface.freedom, surface.freedom)


def _is_more(squares: float, freedom: int, variance: float, against: int) -> bool:
    from scipy.special import fdtrc

    return bool(fdtrc(freedom, against, squares / freedom / max(variance, TINY)) < 1 - CONFIDENCE)


def _of_grid(
    generator: np.random.Generator,
    axes: list[str],
    grid: tuple[NDArray[np.int64], tuple[int, ...]],
    means: Array,
    noise: Noise,
) -> pd.DataFrame:
    """Effects on a full grid. Each configuration has a noise of its own, as large as its runs say."""
    order, shape = grid
    whole = grid_parts(means[order].reshape(1, *shape), axes)
    dimensions = {axis: length - 1 for axis, length in zip(axes, shape, strict=True)}
    added = np.array([np.prod([dimensions[axis] for axis in effect]) for effect in whole]) / len(means)
    squares = np.array([(part**2).mean() for part in whole.values()])
    if not noise.known:
        return _shares(list(whole), squares, None)
    along, drawn = [], []
    batch = max(1, MOST_NUMBERS // len(means))
    for begin in range(0, DRAWS, batch):
        size = min(batch, DRAWS - begin)
        scale = np.sqrt(noise.freedom / generator.chisquare(noise.freedom, (size, 1)))
        z = generator.normal(size=(size, len(means))) * np.sqrt(noise.own) * scale
        parts = grid_parts(z[:, order].reshape(-1, *shape), axes)
        along.append([(parts[effect] * whole[effect]).reshape(size, -1).mean(axis=1) for effect in whole])
        drawn.append([(parts[effect] ** 2).reshape(size, -1).mean(axis=1) for effect in whole])
    found = _Parts(squares, np.concatenate(along, axis=1).T, np.concatenate(drawn, axis=1).T)
    return _shares(list(whole), squares - added * noise.of_means, _likely_shares(found))


def _of_surface(
    generator: np.random.Generator, surface: Surface, means: Array, noise: Noise
) -> tuple[pd.DataFrame, Estimate]:
    """Effects of a fitted surface, and the share of the variance between configurations that it describes."""
    coefficients = surface.roots @ (surface.basis.T @ means)
    left = float((surface.residuals(means) ** 2).sum()) / surface.freedom
    scale = surface.freedom / generator.chisquare(surface.freedom, DRAWS)
    z = generator.normal(size=(DRAWS, surface.roots.shape[1])) * np.sqrt(left * scale)[:, None] @ surface.roots.T
    unit = (surface.roots**2).sum(axis=1)  # the diagonal of (X'X)^-1
    effects = surface.effects
    found = _Parts(
        np.array([(coefficients[own] ** 2).sum() for own in effects.values()]),
        np.stack([z[:, own] @ coefficients[own] for own in effects.values()], axis=1),
        np.stack([(z[:, own] ** 2).sum(axis=1) for own in effects.values()], axis=1),
    )
    variances = found.squares - left * np.array([unit[own].sum() for own in effects.values()])
    of_seeds, drawn = 0.0, np.zeros(DRAWS)
    if noise.known:
        of_seeds = noise.of_means
        drawn = of_seeds * noise.freedom / generator.chisquare(noise.freedom, DRAWS)
    likely, missed = found.together(), np.maximum(left * scale - drawn, 0)
    low, high = np.quantile(likely / np.maximum(likely + missed, TINY), TAILS)
    total = max(float(variances.sum()), 0.0)
    described = Estimate(total / max(total + max(left - of_seeds, 0.0), TINY), float(low), float(high))
    return _shares(list(effects), variances, _likely_shares(found)), described


def _likely_shares(parts: _Parts) -> Array:
    """Draws of the share of each effect: one confidence distribution for it and one for all others, [draws, A]."""
    own = _likely(*parts)
    others = _likely(*(part.sum(axis=-1, keepdims=True) - part for part in parts))
    shares: Array = own / np.maximum(own + others, TINY)
    return shares


def _likely(squares: Array, along: Array, drawn: Array) -> Array:
    """Squared lengths that may have been observed as `squares` through a drawn noise, [draws, A].

    The length L of which L e + z, for e in the direction of what was observed, has the observed length l: with
    a = <z, e> and b = |z|^2 - a^2 it is sqrt(l^2 - b) - a, and 0 where that is below 0 or not there.
    """
    length = np.sqrt(np.maximum(squares, 0))
    beside = along / np.maximum(length, TINY) * (length > 0)
    across = np.maximum(drawn, 0) - beside**2
    likely: Array = np.maximum(0, np.sqrt(np.maximum(0, length**2 - across)) - beside) ** 2
    return likely


def _shares(names: list[Effect], variances: Array, likely: Array | None) -> pd.DataFrame:
    """Shares of the sum, largest first, with intervals if there are draws, [draws, A]."""
    low, high = np.full((2, len(names)), np.nan) if likely is None else np.quantile(likely, TAILS, axis=0)
    total = variances.sum()
    table = pd.DataFrame(
        {
            "axes": [" x ".join(effect) for effect in names],
            "order": [len(effect) for effect in names],
            "share": np.clip(variances / total, 0, 1) if total > 0 else np.nan,
            "low": low,
            "high": high,
        }
    )
    table["apart"] = table["share" if likely is None else "low"] > NEGLIGIBLE
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _seeds_share(scores: Array, noise: Noise) -> float:
    """Share of the variance of single agents that is within configurations; what a seed adds to all is the seed's."""
    if not noise.known:
        return np.nan
    within = float(scores.var(axis=1, ddof=1).mean())
    between = scores.mean(axis=1).var() - (1 - 1 / len(scores)) * noise.of_means
    total = within + max(float(between), 0.0)
    return within / total if total > 0 else 0.0
