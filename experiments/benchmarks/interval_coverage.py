"""How often the printed 95 % intervals hold the truth, in simulated studies of crossed seeds, prompts and episodes."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from jaxmoe.analysis.intervals import Brought, Estimate, UnitSums, estimate, t_quantile
from jaxmoe.analysis.statistics import difference, improvement, iqm

Numbers = NDArray[np.float64]
Effects = Callable[[np.random.Generator, tuple[int, ...]], Numbers]

SEEDS, PROMPTS, EPISODES = (1, 2, 4, 8, 32), (8, 24, 96), (0, 8, 32)
SHARES = (0.9, 0.1)  # of the variance of the mean that seeds make, the rest is of prompts
PAIRS = ((2, 2), (4, 4), (5, 5), (8, 8), (4, 32), (32, 32))  # seeds of two configurations that are compared
AHEAD = (0.0, 1.0, 2.0, 3.0)  # standard deviations that one of them is better
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
        if seeds > 1 or share == SHARES[1]:
            rows.append((*cell, *coverage(KINDS[kind], seeds, prompts, episodes, share, arguments.studies)))
    names = ["seeds_effects", "seeds", "prompts", "episodes", "share_of_seeds", "coverage", "bootstrap"]
    found = pd.DataFrame(rows, columns=names)
    if arguments.out:
        found.to_csv(arguments.out, index=False)
    print(f"Least coverage in % over {len(SHARES)} shares of seeds in what varies; {arguments.studies} studies a cell.")
    print(
        "In brackets the bootstrap over prompts and seeds that was printed before. Of one seed: of this agent, and the"
    )
    print("effects are those of prompts.")
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
    print_two(arguments.studies, arguments.out)


def print_two(studies: int, out: Path | None) -> None:
    """Two configurations compared by their seeds."""
    rows = [
        {"seeds_effects": kind, "seeds": f"{one} and {other}", "ahead": ahead}
        | of_two(KINDS[kind], (one, other), ahead, studies)
        for kind, (one, other), ahead in itertools.product(KINDS, PAIRS, AHEAD)
    ]
    found = pd.DataFrame(rows)
    if out:
        found.to_csv(out.with_stem(f"{out.stem}_of_two"), index=False)
    names = {
        "improvement": "probability of improvement, and the bootstrap printed before",
        "difference": "difference of interquartile means; paired, where a seed adds the same to both",
    }
    least = found.groupby(["seeds_effects", "seeds"], sort=False).min()
    for (name, title), beside in zip(names.items(), ("before", "paired"), strict=True):
        cells = [f"{now:.1f}" + (f" ({of:.0f})" if of == of else "") for now, of in least[[name, beside]].to_numpy()]
        print(f"\nLeast coverage in % over leads of {AHEAD[0]:g} to {AHEAD[-1]:g} standard deviations: {title}\n")
        shown = least.reset_index().assign(cell=cells)
        print(
            shown.pivot_table(
                index="seeds_effects", columns="seeds", values="cell", aggfunc="first", sort=False, fill_value=""
            ).to_string()
        )


def of_two(effects: Effects, seeds: tuple[int, int], ahead: float, studies: int) -> dict[str, float]:
    """In how many of 100 studies the intervals of two configurations' seeds hold the truth; and those of before."""
    generator, held = np.random.default_rng(0), dict.fromkeys(("improvement", "before", "difference", "paired"), 0)
    many = [effects(generator, (1, 1_000_000)) + by for by in (ahead, 0.0)]
    wins, apart = np.mean(many[0] > many[1]), float(iqm(many[0]) - iqm(many[1]))
    for number in range(studies):
        first, second = (effects(generator, (1, size)) + by for size, by in zip(seeds, (ahead, 0.0), strict=True))
        found = {"improvement": improvement(first, second), "before": improvement_before(generator, first, second)}
        held |= {name: held[name] + (each.low <= wins <= each.high) for name, each in found.items()}
        found = {"difference": difference(iqm, first, second, resamples=RESAMPLES, seed=number)}
        if seeds[0] == seeds[1]:  # what the same seed adds to both
            shared = effects(generator, first.shape)
            found["paired"] = difference(iqm, first + shared, second + shared, True, RESAMPLES, number)
        held |= {name: held[name] + (each.low <= apart <= each.high) for name, each in found.items()}
    alike = seeds[0] == seeds[1]
    return {name: 100 * count / studies for name, count in held.items() if alike or name != "paired"}


def improvement_before(generator: np.random.Generator, first: Numbers, second: Numbers) -> Estimate:
    """The percentile interval of resampled seeds, widened for few of them, that was printed before."""
    wins = (first[0][:, None] > second[0]) + 0.5 * (first[0][:, None] == second[0])
    rows, columns = (generator.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size for size in wins.shape)
    runs = min(wins.shape)
    tail = float(ndtr(-t_quantile(runs - 1) * np.sqrt(runs / (runs - 1))))
    low, high = np.quantile(np.einsum("br,rc,bc->b", rows, wins, columns, optimize=True), [tail, 1 - tail])
    return Estimate(float(wins.mean()), float(low), float(high))


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
        if number < studies // 10:  # it takes far longer
            low, high = bootstrap(generator, brought.prompts)
            before += low <= 0 <= high
    return 100 * held / studies, 100 * before / (studies // 10)


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
    of_each = generator.normal(size=prompts) if seeds > 1 else effects(generator, (prompts,))
    values = own + (of_prompts * of_each)[met][None]
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
