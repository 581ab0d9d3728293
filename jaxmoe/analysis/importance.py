"""Which axes of a search matter: shares of the variance of the score, axis by axis and pair by pair.

On a full grid the functional analysis of variance (Hooker 2007; Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach
for Assessing Hyperparameter Importance") is exact: every mean over the other axes is there. Where points are drawn, the
score is first described by a surface: a sum of orthonormal functions of single axes and of products of two, fitted by
least squares, whose squared coefficients are the shares (polynomial chaos, Sudret 2008, "Global sensitivity analysis
using polynomial chaos expansions"). How well it describes points that were left out is told beside it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import CONFIDENCE
from jaxmoe.analysis.statistics import iqm

RESAMPLES = 1000
DEGREES = (1, 2, 3, 4)  # of the surface, of which the best on points left out is taken
MOST_LEVELS = 6  # a sampled axis of so many different values is taken value by value

Effect = tuple[str, ...]  # the axes that act together


class Importance(NamedTuple):
    """How much of the variance between configurations each effect explains."""

    effects: pd.DataFrame  # one row per effect: axes, share, low, high; largest first
    exact: bool  # whether the grid is full; otherwise a fitted surface
    explained: float  # of the variance of configurations left out, by the surface; 1 on a full grid
    seeds_share: float  # of the variance of single agents, by the seed alone


def importance(points: pd.DataFrame, scores: NDArray[np.float64], seed: int = 0) -> Importance | None:
    """How much each axis, and each pair, matters to the interquartile mean over runs.

    Args:
        points: one row per configuration, one column per axis.
        scores: of each configuration and run, [configurations, runs].
        seed: of the resampling of runs, for the intervals.

    Returns:
        The shares, or nothing if there are too few configurations or they all score the same.
    """
    axes = [str(name) for name in points if len(set(points[name])) > 1]
    means = iqm(scores[:, None, :])
    if not axes or len(points) < 3 or np.ptp(means) == 0:
        return None
    grid, explained = _grid(points[axes]), 1.0
    if grid is None:
        surface = _best_surface(points[axes], means)
        if surface is None:
            return None
        design, effect_of, explained = surface
        weights = np.linalg.pinv(design)
    runs = scores.shape[1]
    drawn = np.random.default_rng(seed).integers(0, runs, (RESAMPLES, runs))
    resampled = iqm(scores[:, drawn][:, :, None, :]).T  # [resamples, configurations]
    found: dict[Effect, NDArray[np.float64]]
    values = np.vstack([means, resampled])
    if grid is not None:
        order, shape = grid
        found = grid_variances(values[:, order].reshape(-1, *shape), axes)
    else:
        coefficients = values @ weights.T
        found = {effect: (coefficients[:, which] ** 2).sum(axis=1) for effect, which in effect_of.items()}
    return Importance(_shares(found, runs), grid is not None, explained, _seeds_share(scores))


def grid_variances(values: NDArray[np.float64], axes: Sequence[str]) -> dict[Effect, NDArray[np.float64]]:
    """Variance of each effect, exactly, of a function on a full grid.

    Args:
        values: of the function, [B, n1, ..., nk]: B functions at once.
        axes: names of the k axes.

    >>> grid_variances(np.array([[[0.0, 1.0], [2.0, 3.0]]]), ["a", "b"])[("a",)]
    array([1.])
    """
    everywhere = tuple(range(1, values.ndim))
    effects: dict[tuple[int, ...], NDArray[np.float64]] = {(): values.mean(axis=everywhere, keepdims=True)}
    found: dict[Effect, NDArray[np.float64]] = {}
    for size in range(1, len(axes) + 1):
        for chosen in itertools.combinations(range(len(axes)), size):
            others = tuple(axis + 1 for axis in range(len(axes)) if axis not in chosen)
            effect = values.mean(axis=others, keepdims=True) if others else values
            for fewer in range(size):
                for part in itertools.combinations(chosen, fewer):
                    effect = effect - effects[part]
            effects[chosen] = effect
            found[tuple(axes[axis] for axis in chosen)] = (effect**2).mean(axis=everywhere)
    return found


def _shares(found: Mapping[Effect, NDArray[np.float64]], runs: int) -> pd.DataFrame:
    """Shares of the sum of all effects, the first entry the estimate and the others its resamples."""
    total = sum(found.values())
    tail = (1 - CONFIDENCE) / 2
    rows = []
    for effect, variances in found.items():
        shares = variances / np.maximum(total, 1e-300)
        low, high = np.quantile(shares[1:], [tail, 1 - tail]) if runs > 1 else (np.nan, np.nan)
        rows.append((" x ".join(effect), len(effect), float(shares[0]), float(low), float(high)))
    table = pd.DataFrame(rows, columns=["axes", "order", "share", "low", "high"])
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _seeds_share(scores: NDArray[np.float64]) -> float:
    """Share of the variance of single agents that is not between configurations."""
    total = scores.var()
    return float(scores.var(axis=1).mean() / total) if total > 0 else 0.0


def _grid(points: pd.DataFrame) -> tuple[NDArray[np.int64], tuple[int, ...]] | None:
    """The order that makes the configurations a full grid, and its shape; nothing if they are none."""
    codes = [pd.factorize(points[name], sort=True)[0] for name in points]
    shape = tuple(int(code.max()) + 1 for code in codes)
    flat = np.ravel_multi_index(tuple(codes), shape)
    if len(points) != np.prod(shape) or len(set(flat.tolist())) < len(points):
        return None
    return np.argsort(flat), shape


def _best_surface(
    points: pd.DataFrame, means: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[Effect, list[int]], float] | None:
    """The surface that describes points left out best: its design, the columns of each effect, and how well."""
    best: tuple[NDArray[np.float64], dict[Effect, list[int]], float] | None = None
    for degree, pairs in itertools.product(DEGREES, (False, True)):
        design, effect_of = _design(points, degree, pairs)
        if design.shape[1] > len(points) // 2:
            continue
        explained = _explained(design, means)
        if best is None or explained > best[2]:
            best = design, effect_of, explained
    return best


def _design(points: pd.DataFrame, degree: int, pairs: bool) -> tuple[NDArray[np.float64], dict[Effect, list[int]]]:
    """Columns of orthonormal functions: the constant, each axis, and products of two of different axes."""
    single = {str(name): _basis(points[name], degree) for name in points}
    blocks: dict[Effect, NDArray[np.float64]] = {(name,): basis for name, basis in single.items()}
    if pairs:
        for first, second in itertools.combinations(single, 2):
            products = single[first][:, :2, None] * single[second][:, None, :2]
            blocks[first, second] = products.reshape(len(points), -1)
    columns, effect_of = [np.ones((len(points), 1))], {}
    count = 1
    for effect, block in blocks.items():
        effect_of[effect] = list(range(count, count + block.shape[1]))
        count += block.shape[1]
        columns.append(block)
    return np.concatenate(columns, axis=1), effect_of


def _basis(values: pd.Series, degree: int) -> NDArray[np.float64]:
    """Orthonormal functions of one axis: of its few values, or polynomials of its ranks (scale is no matter)."""
    codes, levels = pd.factorize(values, sort=True)
    if len(levels) <= MOST_LEVELS or not pd.api.types.is_numeric_dtype(values):
        raw = np.eye(len(levels))[codes][:, 1:]
    else:
        position = values.rank().to_numpy() / len(values)
        raw = np.stack([position**power for power in range(1, degree + 1)], axis=1)
    orthonormal, _ = np.linalg.qr(np.concatenate([np.ones((len(values), 1)), raw], axis=1))
    return orthonormal[:, 1:] * np.sqrt(len(values))


def _explained(design: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    """Share of the variance that a least-squares fit explains of points left out, one at a time."""
    hat = design @ np.linalg.pinv(design)
    leverage = np.minimum(np.diag(hat), 1 - 1e-9)
    missed = (means - hat @ means) / (1 - leverage)
    return float(1 - np.mean(missed**2) / means.var())
