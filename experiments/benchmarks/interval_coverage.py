"""How often the printed 95 % intervals hold the truth, in simulated studies of crossed seeds, prompts and episodes."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import Brought, UnitSums, estimate

Numbers = NDArray[np.float64]
Effects = Callable[[np.random.Generator, tuple[int, ...]], Numbers]

SEEDS, PROMPTS, EPISODES = (1, 2, 4, 8, 32), (8, 24, 96), (0, 8, 32)
SHARES = (0.9, 0.1)  # of the variance of the mean that seeds make, the rest is of prompts
RESAMPLES = 400  # of the bootstrap over prompts and seeds that was printed before
REQUESTS, NOISE, EPISODE_EFFECT = 64, 0.3, 0.1


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Numbers:
    """Effects of mean 0 and standard deviation 1."""
    return generator.normal(size=shape)


def lognormal(sigma: float) -> Effects:
    """The same with a long tail below."""
    mean, spread = np.exp(sigma**2 / 2), np.sqrt((np.exp(sigma**2) - 1) * np.exp(sigma**2))
    return lambda generator, shape: (mean - generator.lognormal(0, sigma, shape)) / spread


def stuck(generator: np.random.Generator, shape: tuple[int, ...]) -> Numbers:
    """The same of seeds of which 15 % are far below the others."""
    effects = np.where(generator.random(shape) < 0.15, -0.15, 0.0) + 0.02 * generator.normal(size=shape)
    return (effects + 0.15**2) / np.sqrt(0.15**3 * 0.85 + 0.02**2)


KINDS: dict[str, Effects] = {
    "normal": normal,
    "skewness -1.75": lognormal(0.5),
    "skewness -6.2": lognormal(1.0),
    "15 % stuck": stuck,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each cell")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()
    rows = []
    for cell in itertools.product(KINDS, SEEDS, PROMPTS, EPISODES, SHARES):
        kind, seeds, prompts, episodes, share = cell
        if seeds > 1 or (share, kind) == (0.1, "normal"):
            rows.append((*cell, *coverage(KINDS[kind], seeds, prompts, episodes, share, arguments.studies)))
    names = ["seeds_effects", "seeds", "prompts", "episodes", "share_of_seeds", "coverage", "bootstrap"]
    found = pd.DataFrame(rows, columns=names)
    if arguments.out:
        found.to_csv(arguments.out, index=False)
    print(f"Least coverage in % over {len(SHARES)} shares of seeds in what varies; {arguments.studies} studies a cell.")
    print("In brackets the bootstrap over prompts and seeds that was printed before. Of one seed: of this agent.")
    for episodes in EPISODES:
        part = found[found["episodes"] == episodes]
        print(f"\n{episodes or 'no'} episodes\n")
        least = part.groupby(["seeds_effects", "prompts", "seeds"], sort=False)[["coverage", "bootstrap"]].min()
        cells = [f"{now:.1f} ({before:.0f})" for now, before in least.to_numpy()]
        shown = least.reset_index().assign(cell=cells)
        table = shown.pivot_table(
            index=["seeds_effects", "prompts"],
            columns="seeds",
            values="cell",
            aggfunc="first",
            sort=False,
            fill_value="",
        )
        print(table.to_string())


def coverage(
    effects: Effects, seeds: int, prompts: int, episodes: int, share: float, studies: int
) -> tuple[float, float]:
    """In how many of 100 studies the interval, and the former one, holds the true mean of 0."""
    generator, held, before = np.random.default_rng(0), 0, 0
    of_seeds = 0.05 * np.sqrt(share * seeds) if seeds > 1 else 0.0
    of_prompts = 0.05 * np.sqrt((1 - share) * prompts)
    for number in range(studies):
        brought = study(generator, effects, seeds, prompts, episodes, of_seeds, of_prompts)
        [found] = estimate(lambda means: means, [brought])
        held += found.low <= 0 <= found.high
        if number < studies // 6:  # it takes far longer
            low, high = bootstrap(generator, brought.prompts)
            before += low <= 0 <= high
    return 100 * held / studies, 100 * before / (studies // 6)


def study(
    generator: np.random.Generator,
    effects: Effects,
    seeds: int,
    prompts: int,
    episodes: int,
    of_seeds: float,
    of_prompts: float,
) -> Brought:
    """What agents bring, around a mean of 0."""
    own = of_seeds * effects(generator, (seeds, 1, 1))
    rounds = episodes or prompts
    met = generator.integers(prompts, size=(rounds, REQUESTS if episodes else 1))
    met = met if episodes else np.arange(prompts)[:, None]
    values = own + (of_prompts * generator.normal(size=prompts))[met][None]
    if episodes:
        values = values + EPISODE_EFFECT * generator.normal(size=(1, episodes, 1))
    values = values + NOISE * generator.normal(size=(seeds, *met.shape))
    by_prompt = np.stack([np.bincount(met.ravel(), each.ravel(), prompts) for each in values]).astype(np.float64)
    counts = np.tile(np.bincount(met.ravel(), minlength=prompts).astype(np.float64), (seeds, 1))
    of_episodes = UnitSums(values.sum(axis=2)[..., None], np.full((seeds, rounds), float(met.shape[1])))
    return Brought(UnitSums(by_prompt[..., None], counts), of_episodes if episodes else None)


def bootstrap(generator: np.random.Generator, brought: UnitSums) -> tuple[float, float]:
    """The percentile interval of means whose prompts and seeds are both resampled."""
    seeds, prompts = brought.counts.shape
    rows, columns = (
        generator.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(float) for size in (seeds, prompts)
    )
    sums, counts = (np.einsum("br,rp,bp->b", rows, part, columns) for part in (brought.sums[..., 0], brought.counts))
    low, high = np.percentile(sums / counts, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
