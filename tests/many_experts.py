"""Tables of twelve experts, of which only small subsets are scored."""

import itertools

import numpy as np
import pandas as pd

from jaxmoe.table import load_table

EXPERTS = tuple(f"e{number}" for number in range(12))
SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")


def small_subsets(size, experts=EXPERTS):
    """Names of the subsets of at most so many experts, the smallest first."""
    return [
        "+".join(members) or "local" for count in range(size + 1) for members in itertools.combinations(experts, count)
    ]


def sheet(size=2, experts=EXPERTS, splits=SPLITS):
    """One row per prompt and subset of at most so many experts, its numbers drawn."""
    generator, rows = np.random.default_rng(0), []
    for number, split in enumerate(splits):
        for name in small_subsets(size, experts):
            row = {"prompt_id": f"p{number}", "split": split, "prompt": f"Prompt {number}.", "experts": name}
            row["score"] = round(generator.uniform(2, 9), 2)
            row["score_std"] = round(generator.uniform(0, 1), 2)
            row["words"] = float(generator.integers(40, 160))
            row["relevance"] = round(generator.uniform(), 2) if name in experts else None
            rows.append(row)
    return pd.DataFrame(rows)


def sheet_file(path, **shape):
    """The same as a CSV file."""
    sheet(**shape).to_csv(path, index=False)
    return path


def small_table(folder, **shape):
    """The same as a table."""
    return load_table(sheet_file(folder / "few.csv", **shape))
