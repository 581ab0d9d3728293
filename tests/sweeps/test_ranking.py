"""The best configurations of a sweep."""

import pandas as pd
from rich.console import Console

from jaxmoe.sweeps.ranking import ranked, ranking_tables

RESULTS = pd.DataFrame(
    {
        "scenario": "oneshot",
        "algorithm": "ppo",
        "configuration": [0, 0, 1, 1],
        "seed": [0, 1, 0, 1],
        "clip": [0.1, 0.1, 0.2, 0.2],
        "train_qos": [0.4, 0.5, 0.6, 0.7],
        "test_qos": [0.9, 0.9, 0.1, 0.1],
        "diverged": [False, True, False, False],
    }
)


def test_configurations_are_ranked_by_their_mean_over_seeds_on_train_prompts():
    rows = ranked(RESULTS, ["clip"])
    assert rows["configuration"].tolist() == [1, 0]
    assert rows["train_qos"].round(6).tolist() == [0.65, 0.45]
    assert rows["train_qos_std"].round(6).tolist() == [0.05, 0.05]
    assert rows[["seeds", "diverged"]].to_numpy().tolist() == [[2, 0], [2, 1]]


def test_the_table_shows_what_differs_and_what_diverged():
    [(title, table)] = ranking_tables(RESULTS, ["clip"])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert title == "oneshot: the best 2 of 2 configurations by train QoS, means over 2 seeds"
    assert lines[0].split() == ["no.", "clip", "train", "qos", "test", "qos", "diverged"]
    assert lines[1].split() == ["1", "0.2", "0.650", "0.100", "0"]
