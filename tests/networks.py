"""A network of seven devices that all differ, and a table of seven experts to serve requests with."""

import itertools

import numpy as np
import pandas as pd

EXPERTS = [f"expert{number}" for number in range(7)]
SECONDS = [0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.09]
NETWORK = """
scenario = "queueing"
[params]
seconds_per_word = [0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.09]
compute_coefficient = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4]
joules_per_word = [0.01, 0.01, 0.02, 0.02, 0.03, 0.05, 0.09]
device_up_probability = [1.0, 0.95, 0.9, 0.9, 0.8, 0.7, 0.5]
tx_power_dbm = [3.0, 2.0, 1.0, 0.0, 0.0, -1.0, -2.0]
distance_max_m = [15.0, 20.0, 25.0, 25.0, 25.0, 30.0, 40.0]
background_probability = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.5]
"""


def seven(folder):
    """Paths of a file that describes the network, and of a table: more experts write better, each in its own length."""
    network, sheet = folder / "seven.toml", folder / "seven.csv"
    network.write_text(NETWORK)
    draws, rows = np.random.default_rng(7), []
    for prompt, size in itertools.product(range(12), range(8)):
        for chosen in itertools.combinations(range(7), size):
            row = {"prompt_id": f"p{prompt}", "split": ("train", "validation", "test")[prompt % 3]}
            row["experts"] = "+".join(EXPERTS[expert] for expert in chosen) or "local"
            row["score"] = round(min(10.0, 3.0 + 2.0 * np.log1p(sum(chosen)) + draws.uniform()), 2)
            row["words"] = int(40 + 20 * len(chosen) + draws.integers(20))
            row["relevance"] = round(draws.uniform(), 2) if size == 1 else None
            rows.append(row)
    pd.DataFrame(rows).to_csv(sheet, index=False)
    return network, sheet
