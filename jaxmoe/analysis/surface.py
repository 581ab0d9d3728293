"""Functions of configurations taken apart into what each axis, and axes together, contribute.

On a full grid every mean over the other axes is there (Hooker 2007, "Generalized functional ANOVA diagnostics"). Where
points are drawn, or some are left out, the score is described by a surface: a sum of orthonormal functions of single
axes and of products of two, fitted by least squares; the squares of its coefficients are variances (polynomial chaos,
Sudret 2008, "Global sensitivity analysis using polynomial chaos expansions"). Which functions it has depends on how
many points there are, never on their scores: a surface that fits best among several would be one that fits the noise.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Effect = tuple[str, ...]  # the axes that act together
Array = NDArray[np.float64]

# Powers of each axis, powers of each of two axes in a product, and how many points each function needs at least.
TERMS = ((1, 0, 2), (2, 0, 2), (2, 1, 3), (3, 1, 3), (3, 2, 3), (4, 2, 3))
SMALLEST = 1e-9  # singular values below this share of the largest are none


class Functions(NamedTuple):
    """Orthonormal functions of one axis at the N points."""

    values: Array  # [N, functions], without the constant
    is_words: bool  # not a number, so that there is a function for each value and no power

    def first(self, powers: int) -> Array:
        """Those up to a power; of words, all."""
        return self.values if self.is_words else self.values[:, :powers]


class Surface(NamedTuple):
    """A least-squares fit of r independent functions to N points."""

    effects: dict[Effect, list[int]]  # the columns of each
    basis: Array  # orthonormal, of the space that they span, [N, r]
    roots: Array  # [p, r]: roots @ basis.T @ means are the coefficients, roots @ roots.T is (X'X)^-1
    powers: tuple[int, int]  # of axes, and of axes in products

    @property
    def freedom(self) -> int:
        """Points beyond those that the fit needs."""
        return len(self.basis) - self.basis.shape[1]

    def residuals(self, means: Array) -> Array:
        """What it leaves, [N]."""
        return means - self.basis @ (self.basis.T @ means)

    def explained(self, means: Array) -> float:
        """Share of the variance that the fit explains of points left out, one at a time."""
        leverage = np.minimum((self.basis**2).sum(axis=1), 1 - 1e-9)
        return float(1 - np.mean((self.residuals(means) / (1 - leverage)) ** 2) / means.var())


def grid_order(points: pd.DataFrame) -> tuple[NDArray[np.int64], tuple[int, ...]] | None:
    """The order that makes the configurations a full grid, and its shape; nothing if they are none."""
    codes = [pd.factorize(points[name], sort=True, use_na_sentinel=False)[0] for name in points]
    shape = tuple(int(code.max()) + 1 for code in codes)
    if len(points) != np.prod(shape):
        return None
    flat = np.ravel_multi_index(tuple(codes), shape)
    return None if len(set(flat.tolist())) < len(points) else (np.argsort(flat), shape)


def grid_parts(values: Array, axes: Sequence[str]) -> dict[Effect, Array]:
    """Functions on a full grid, taken apart exactly.

    Args:
        values: of the functions, [B, n1, ..., nk]: B of them at once.
        axes: names of the k axes.

    Returns:
        The part of each effect, [B, ...], with a single entry along each axis that it does not depend on.
    """
    parts: dict[Effect, Array] = {(): values}
    for number, name in enumerate(axes):
        for effect, part in list(parts.items()):
            parts[effect] = part.mean(axis=number + 1, keepdims=True)
            parts[(*effect, name)] = part - parts[effect]
    return {effect: parts[effect] for effect in sorted(parts, key=len) if effect}


def grid_variances(values: Array, axes: Sequence[str]) -> dict[Effect, Array]:
    """Variance of each effect, exactly, of functions on a full grid, [B, n1, ..., nk].

    >>> grid_variances(np.array([[[0.0, 1.0], [2.0, 3.0]]]), ["a", "b"])[("a",)]
    array([1.])
    """
    return {effect: (part**2).reshape(len(part), -1).mean(axis=1) for effect, part in grid_parts(values, axes).items()}


def fitted_surface(points: pd.DataFrame) -> Surface | None:
    """The richest surface that so many points allow; nothing if they are too few for the plainest."""
    axes = {str(name): functions_of(points[name], max(term[0] for term in TERMS)) for name in points}
    found = None
    for alone, together, needed in TERMS:
        columns, effects = design(axes, alone, together)
        if columns.shape[1] * needed <= len(points):
            found = columns, effects, (alone, together)
    if found is None:
        return None
    columns, effects, powers = found
    basis, sizes, turned = np.linalg.svd(columns, full_matrices=False)
    kept = sizes > SMALLEST * sizes[0]
    return Surface(effects, basis[:, kept], turned[kept].T / sizes[kept], powers)


def design(axes: Mapping[str, Functions], alone: int, together: int) -> tuple[Array, dict[Effect, list[int]]]:
    """Columns of the constant, of functions of each axis, and of products of two, [N, p], and those of each effect.

    Args:
        axes: functions of each.
        alone: how many powers of an axis.
        together: how many powers of each of two axes in a product.
    """
    blocks: dict[Effect, Array] = {(name,): axis.first(alone) for name, axis in axes.items()}
    if together:
        for (name, axis), (other_name, other) in itertools.combinations(axes.items(), 2):
            products = axis.first(together)[:, :, None] * other.first(together)[:, None, :]
            blocks[name, other_name] = products.reshape(len(products), -1)
    ends = np.cumsum([1, *(block.shape[1] for block in blocks.values())]).tolist()
    effects = {effect: list(range(*ends[number : number + 2])) for number, effect in enumerate(blocks)}
    constant = np.ones((len(next(iter(blocks.values()))), 1))
    return np.concatenate([constant, *blocks.values()], axis=1), effects


def functions_of(values: pd.Series, powers: int) -> Functions:
    """Orthonormal functions of one axis: of its values if they are words, or polynomials of ranks (scale is no matter).

    >>> functions_of(pd.Series([1.0, 10.0]), 1).values[:, 0].round(3)
    array([-1.,  1.])
    """
    is_words = not pd.api.types.is_numeric_dtype(values)
    codes, levels = pd.factorize(values, sort=True, use_na_sentinel=False)
    if is_words:
        raw = np.eye(len(levels))[codes][:, 1:]
    else:
        position = values.rank(na_option="bottom").to_numpy() / len(values)
        raw = np.stack([position**power for power in range(1, min(powers, len(levels) - 1) + 1)], axis=1)
    orthonormal, upper = np.linalg.qr(np.concatenate([np.ones((len(values), 1)), raw], axis=1))
    return Functions(orthonormal[:, 1:] * np.sign(np.diag(upper))[1:] * np.sqrt(len(values)), is_words)
