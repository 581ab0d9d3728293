"""Whether shares of variance are right, and how often their 95 % intervals hold them, in simulated searches."""

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.importance import NEGLIGIBLE, importance
from jaxmoe.analysis.statistics import iqm
from jaxmoe.analysis.surface import TERMS, Surface, design, fitted_surface, functions_of, grid_order, grid_variances

Numbers = NDArray[np.float64]
Generator = np.random.Generator
Row = dict[str, object]
Shares = dict[str, tuple[float, ...]]  # of each effect: share, low and high

SEEDS, NOISES = (4, 8, 16), (0.4, 1.66, 5.0)  # variance of agents within a configuration over that between them
GRIDS = ((4, 3), (3, 3, 2))
DRAWN = ((24, 2), (48, 3), (96, 4))  # configurations and axes
HALVED = ((5, 4, 2), (8, 6), (4, 4, 4))  # grids of which the better half is looked at
MOSTLY = 20  # % of studies that must tell shares for a cell to count
RESAMPLES, BEFORE = 200, 4  # of the former intervals, in one of so many studies
HALF = "the better half of a grid with a failing corner"
EFFECTS = ("a", "b", "a x b", "idle", "described")  # that are looked at
DESCRIBED = EFFECTS[-1]  # the share of the variance between configurations that is the surface's


class Truth(NamedTuple):
    """The score as a sum of what axes do alone and together; axes are drawn from 0 to 1."""

    alone: Mapping[int, Callable[[Numbers], Numbers]]
    together: Mapping[tuple[int, int], Callable[[Numbers, Numbers], Numbers]]

    def score(self, points: Numbers) -> Numbers:
        """Of points, [N, axes]."""
        parts = [of(points[:, axis]) for axis, of in self.alone.items()]
        parts += [of(points[:, i], points[:, j]) for (i, j), of in self.together.items()]
        return np.sum(parts, axis=0)


class Study(NamedTuple):
    """A search, its scores, and the true shares."""

    points: pd.DataFrame
    scores: Numbers  # [configurations, seeds]
    shares: dict[str, float]


class Cell(NamedTuple):
    """Studies of one kind."""

    search: str
    configurations: str
    agents: str
    noise: float
    seeds: int
    study: Callable[[Generator, int], Study]


def scaled(of: Callable[[Numbers], Numbers], variance: float) -> Callable[[Numbers], Numbers]:
    """A function of an axis with this variance."""
    values = of(np.linspace(0, 1, 10_001))
    return lambda axis: (of(axis) - values.mean()) / values.std() * variance**0.5


def slope(axis: Numbers) -> Numbers:
    return 12**0.5 * (axis - 0.5)


def ridge(axis: Numbers) -> Numbers:
    return -(np.abs(axis - 0.6) ** 1.5)


def saturating(axis: Numbers) -> Numbers:
    return 1 - np.exp(-4 * axis)


def cliff(axis: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-40 * (axis - 0.7)))


def wave(axis: Numbers) -> Numbers:
    return np.sin(7 * np.pi * axis)


TRUTHS = {
    "smooth": Truth(
        {0: scaled(ridge, 0.75), 1: scaled(saturating, 0.1)}, {(0, 1): lambda a, b: 0.15**0.5 * slope(a) * slope(b)}
    ),
    "a cliff": Truth({0: scaled(cliff, 0.8), 1: scaled(saturating, 0.2)}, {}),
    "rough": Truth(
        {0: scaled(ridge, 0.6), 1: scaled(saturating, 0.2)}, {(0, 1): lambda a, b: scaled(wave, 0.2)(a) * slope(b)}
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200, help="simulated studies of each cell")
    parser.add_argument("--processes", type=int, default=2, help="that work at once; the numbers are the same")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.processes) as pool:
        rows = pool.map(partial(rows_of_number, studies=arguments.studies), range(len(list(cells()))))
        found = pd.DataFrame([row for of_cell in rows for row in of_cell])
    if arguments.out:
        found.to_csv(arguments.out, index=False, float_format="%.4g")
    print_tables(found, arguments.studies)


def rows_of_number(number: int, studies: int) -> list[Row]:
    """What a process finds of a cell."""
    return list(rows_of(list(cells())[number], studies))


def print_tables(found: pd.DataFrame, studies: int) -> None:
    """Rows by agents, noise and effect, columns by seeds."""
    print(f"{studies} studies a cell. told: % of them in which shares are printed at all. Of these: the share in %, a")
    print(
        "mean, and in round brackets the true one; in how many % the interval holds it; in how many % it is told apart"
    )
    print(f"from 0. Over sizes of the search the least that hold, where {MOSTLY} % are told, else the mean. In square")
    print("brackets what was printed before.")
    index = ["agents", "noise", "effect", "seeds"]
    for kind, part in found.groupby("search", sort=False):
        rows = part.groupby(index, sort=False)
        mean = rows.mean(numeric_only=True)
        least = (
            part.assign(held=part["held"].where(part["told"] >= MOSTLY))
            .groupby(index, sort=False)
            .min(numeric_only=True)
        )
        texts = {
            "told": mean["told"].map("{:.0f}".format),
            "share": mean["share"].map("{:.0f}".format)
            + mean["true"].map(" ({:.0f})".format)
            + former_text(mean["share_before"]),
            "held": least["held"].map(lambda held: "-" if np.isnan(held) else f"{held:.0f}")
            + former_text(least["held_before"]),
            "apart": mean["apart"].map("{:.0f}".format),
        }
        shown = pd.DataFrame(texts).reset_index()
        table = shown.pivot_table(index=index[:-1], columns="seeds", values=list(texts), aggfunc="first", sort=False)
        kinds = list(dict.fromkeys(key[:2] for key in table.index))
        in_order = sorted(table.index, key=lambda key: (kinds.index(key[:2]), EFFECTS.index(key[2])))
        columns = [(name, seeds) for seeds in SEEDS for name in texts]
        print(f"\n{kind}\n\n{table.loc[in_order, columns].swaplevel(axis=1).to_string()}")


def former_text(numbers: pd.Series) -> pd.Series:
    """In square brackets, where there is any."""
    return numbers.map(lambda number: "" if np.isnan(number) else f" [{number:.0f}]")


def cells() -> Iterator[Cell]:
    """All kinds of studies."""
    agents = [("normal", noise) for noise in NOISES] + [(kind, 1.66) for kind in ("stuck", "unequal", "shared")]
    for shape, (kind, noise), seeds in itertools.product(GRIDS, agents, SEEDS):
        yield Cell("full grid", by(shape), kind, noise, seeds, partial(on_grid, shape=shape, kind=kind, noise=noise))
    for (name, truth), (size, axes), noise, seeds in itertools.product(TRUTHS.items(), DRAWN, NOISES, SEEDS):
        study = partial(drawn, size=size, axes=axes, truth=truth, noise=noise)
        yield Cell(f"drawn points, {name}", f"{size} on {axes} axes", "normal", noise, seeds, study)
    for shape, noise, seeds in itertools.product(HALVED, NOISES, SEEDS):
        study = partial(better_half, shape=shape, noise=noise)
        yield Cell(HALF, by(shape), "normal", noise, seeds, study)


def names_of(axes: int) -> list[str]:
    """Of the axes; the last of more than two does nothing.

    >>> names_of(4)
    ['a', 'b', 'c', 'idle']
    """
    return ["a", "b", "c"][: axes - (axes > 2)] + ["idle"] * (axes > 2)


def by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def rows_of(cell: Cell, studies: int) -> Iterator[Row]:
    """One row per effect that is looked at."""
    generator = np.random.default_rng(0)
    now: dict[str, list[tuple[float, ...]]] = {}
    before: dict[str, list[tuple[float, ...]]] = {}
    for number in range(studies):
        study = cell.study(generator, cell.seeds)
        found = importance(study.points, study.scores, seed=number)
        if found is not None and found.tells:
            numbers = found.effects[["share", "low", "high"]].to_numpy()
            shares: Shares = {name: tuple(row) for name, row in zip(found.effects["axes"], numbers, strict=True)}
            shares[DESCRIBED] = tuple(found.described)
            collect(now, study.shares, shares)
        if number % BEFORE == 0 and cell.search != HALF:
            collect(before, study.shares, former(study, generator))
    for effect, held in now.items():
        true, share, holds, apart = 100 * np.mean(held, axis=0)
        was = 100 * np.mean(before[effect], axis=0) if effect in before else np.full(4, np.nan)
        yield {
            **{name: value for name, value in cell._asdict().items() if name != "study"},
            "effect": effect,
            "told": 100 * len(held) / studies,
            "true": true,
            "share": share,
            "held": holds,
            "apart": apart,
            "share_before": was[1],
            "held_before": was[2],
        }


def collect(into: dict[str, list[tuple[float, ...]]], true: dict[str, float], found: Shares) -> None:
    """Of each effect that has a true share: that, the one found, whether it is held, whether it is apart from 0."""
    for effect, share in true.items():
        if effect == DESCRIBED and effect not in found:
            continue
        estimate, low, high = found.get(effect, (0.0, 0.0, 0.0))
        held = low - 1e-9 <= share <= high + 1e-9
        into.setdefault(effect, []).append((share, estimate, held, low > NEGLIGIBLE))


def noise_of(generator: Generator, kind: str, shape: tuple[int, int], variance: float) -> Numbers:
    """What seeds add to each agent, [configurations, seeds]."""
    noise = generator.normal(size=shape)
    if kind == "stuck":  # 15 % of agents are far below the others
        noise = np.where(generator.random(shape) < 0.15, -0.15, 0.0) + 0.02 * noise
        noise = (noise + 0.15**2) / np.sqrt(0.15**3 * 0.85 + 0.02**2)
    if kind == "unequal":  # one configuration has four times the standard deviation of the others
        spread = np.where(np.arange(shape[0]) == 0, 4.0, 1.0)
        noise = noise * (spread / np.sqrt((spread**2).mean()))[:, None]
    if kind == "shared":  # half of the variance is a seed's level, which all configurations have in common
        noise = np.sqrt(0.5) * (noise + generator.normal(size=shape[1]))
    return noise * np.sqrt(variance)


def on_grid(generator: Generator, seeds: int, shape: tuple[int, ...], kind: str, noise: float) -> Study:
    """Two axes that matter by themselves, 90 and 10 %, and nothing else."""
    levels = np.array(list(itertools.product(*(range(length) for length in shape))), dtype=float)
    truth = sum(
        np.sqrt(share) * (levels[:, axis] - levels[:, axis].mean()) / levels[:, axis].std()
        for axis, share in ((0, 0.9), (1, 0.1))
    )
    names = names_of(len(shape))
    scores = truth[:, None] + noise_of(generator, kind, (len(levels), seeds), noise)
    return Study(
        pd.DataFrame(levels, columns=names),
        scores,
        {"a": 0.9, "b": 0.1, "a x b": 0.0} | ({"idle": 0.0} if len(shape) > 2 else {}),
    )


def drawn(generator: Generator, seeds: int, size: int, axes: int, truth: Truth, noise: float) -> Study:
    """Points drawn at random. True is what a surface of this kind has of all combinations of the values drawn."""
    levels = generator.random((size, axes))
    points = pd.DataFrame(levels, columns=names_of(axes))
    surface = fitted_surface(points)
    assert surface is not None
    shares = what_it_describes(points, surface, truth)
    scores = truth.score(levels)[:, None] + noise_of(generator, "normal", (size, seeds), noise)
    return Study(points, scores, {name: shares[name] for name in EFFECTS if name in shares})


def what_it_describes(points: pd.DataFrame, surface: Surface, truth: Truth) -> dict[str, float]:
    """The shares of a surface that is fitted to all combinations of the values, each axis apart from the others."""
    alone, together = surface.powers
    functions = [functions_of(points[name], TERMS[-1][0]) for name in points]
    levels, size = points.to_numpy(), len(points)
    main = [
        truth.alone[axis](levels[:, axis]) if axis in truth.alone else np.zeros(size) for axis in range(len(functions))
    ]
    variances = {" x ".join(effect): 0.0 for effect in surface.effects}
    total = 0.0
    for (i, j), of in truth.together.items():
        values = of(levels[:, [i]], levels[:, j][None])
        main[i], main[j] = main[i] + values.mean(axis=1), main[j] + values.mean(axis=0)
        values = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
        total += (values**2).mean()
        name = f"{points.columns[i]} x {points.columns[j]}"
        if name in variances:
            variances[name] = squares(functions[i].first(together).T @ values @ functions[j].first(together) / size**2)
    for axis, values in enumerate(main):
        variances[points.columns[axis]] = squares(functions[axis].first(alone).T @ values / size)
        total += values.var()
    described = sum(variances.values())
    return {name: variance / described for name, variance in variances.items()} | {DESCRIBED: described / total}


def squares(values: Numbers) -> float:
    return float((values**2).sum())


def better_half(generator: Generator, seeds: int, shape: tuple[int, ...], noise: float) -> Study:
    """The better half of a grid in which a corner fails, chosen on one half of the seeds and measured on the other.

    True is what unlimited seeds would print of the configurations that were chosen.
    """
    levels = np.array(list(itertools.product(*(np.linspace(0, 1, length) for length in shape))))
    truth = levels[:, 1] - 0.5 * levels[:, 0] + 0.2 * levels[:, 0] * levels[:, 1]
    truth = np.where((levels[:, 0] > 0.6) & (levels[:, 1] > 0.6), -3.0, truth)
    between = truth[truth > -3].var()
    scores = truth[:, None] + noise_of(generator, "normal", (len(levels), seeds), noise * between)
    good = np.sort(np.argsort(-scores[:, : seeds // 2].mean(axis=1))[: (len(levels) + 1) // 2])
    points = pd.DataFrame(levels[good], columns=names_of(len(shape)))
    known = importance(points, np.tile(truth[good][:, None], (1, 2)))
    assert known is not None
    shares = dict(zip(known.effects["axes"], known.effects["share"], strict=True))
    wanted = {name: shares[name] for name in EFFECTS if name in shares}
    return Study(points, scores[good][:, seeds // 2 :], wanted | {DESCRIBED: known.described.mean})


def former(study: Study, generator: Generator) -> Shares:
    """What was printed before: shares of interquartile means, resampled seeds, the surface that fits best."""
    means, runs = iqm(study.scores[:, None, :]), study.scores.shape[1]
    drawn_runs = generator.integers(0, runs, (RESAMPLES, runs))
    values = np.vstack([means, iqm(study.scores[:, drawn_runs][:, :, None, :]).T])
    grid, axes = grid_order(study.points), [str(name) for name in study.points]
    if grid is not None:
        found = grid_variances(values[:, grid[0]].reshape(-1, *grid[1]), axes)
    else:
        columns, effects = best_fit(study.points, means)
        coefficients = values @ np.linalg.pinv(columns).T
        found = {effect: (coefficients[:, own] ** 2).sum(axis=1) for effect, own in effects.items()}
    total = np.maximum(sum(found.values()), 1e-300)
    shares = {" x ".join(effect): variances / total for effect, variances in found.items()}
    return {name: (of[0], *np.quantile(of[1:], [0.025, 0.975])) for name, of in shares.items()}


def best_fit(points: pd.DataFrame, means: Numbers) -> tuple[Numbers, dict[tuple[str, ...], list[int]]]:
    """The surface that describes points left out best."""
    axes = {str(name): functions_of(points[name], 4) for name in points}
    best, found = -np.inf, design(axes, 1, 0)
    for alone, together in itertools.product((1, 2, 3, 4), (0, 2)):
        columns, effects = design(axes, alone, together)
        if columns.shape[1] <= len(points) // 2:
            basis = np.linalg.qr(columns)[0]
            left = (means - basis @ (basis.T @ means)) / (1 - (basis**2).sum(axis=1))
            explained = 1 - np.mean(left**2) / means.var()
            if explained > best:
                best, found = explained, (columns, effects)
    return found


if __name__ == "__main__":
    main()
