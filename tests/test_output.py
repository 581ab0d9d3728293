"""Tables are read whole: in a file as wide as they are, on a terminal in as many tables as it takes."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from jaxmoe.analysis.comparing import compare_tables
from jaxmoe.analysis.comparison import behaviour_table, comparison, quality_table
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import printed, rankings
from jaxmoe.cli import looking, output

ANALYSIS = Path(__file__).parent / "analysis"
HEADINGS = [
    "no.",
    "algorithm",
    *(f"hyperparameter of number {number}" for number in range(9)),
    "train",
    "within limits",
]


@pytest.fixture
def synthetic(monkeypatch):
    monkeypatch.syspath_prepend(ANALYSIS)
    import synthetic

    return synthetic


def shown(table, *, terminal, keys=1):
    console = Console(width=80, force_terminal=terminal, color_system=None, file=io.StringIO(), markup=False)
    output.print_table(table, keys, console)
    return console.file.getvalue()


def wide():
    table = Table(title="Many columns")
    for name in HEADINGS:
        table.add_column(name, no_wrap=True)
    for row in range(3):
        table.add_row(str(row), "ppo", *(f"0.{row}0{number}" for number in range(9)), "0.812 [0.790, 0.833]", "True")
    return table


def test_a_file_gets_every_line_whole():
    lines = shown(wide(), terminal=False).splitlines()
    assert lines[1].split("  ")[:2] == ["no.", "algorithm"]
    assert all(name in lines[1] for name in HEADINGS)
    assert len(lines) == 5
    assert lines[2].split()[:3] == ["0", "ppo", "0.000"]


def test_a_terminal_gets_several_tables_with_every_word_and_number():
    text = shown(wide(), terminal=True, keys=2)
    assert max(map(len, text.splitlines())) <= 80
    assert text.split().count("hyperparameter") == 9
    assert all(f"0.{row}0{number}" in text for row in range(3) for number in range(9))
    assert text.count("0.812 [0.790, 0.833]") == 3
    assert text.count("algorithm") == len(text.split("\n\n")) > 1  # each says whose rows they are


def test_texts_are_wrapped_between_words_and_cut_nowhere():
    table = Table("name", "what it is")
    table.add_row("x" * 30, "several words " * 20)
    text = shown(table, terminal=True)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("several") == text.count("words") == 20
    assert shown(table, terminal=False).count("\n") == 2


def test_a_word_wider_than_the_terminal_is_folded():
    table = Table("name")
    table.add_row("x" * 200)
    assert shown(table, terminal=True).count("x") == 200


@pytest.mark.parametrize("terminal", [True, False])
def test_what_experiments_print_is_whole(synthetic, terminal, monkeypatch):
    crossed = synthetic.make(algorithms=("ppo", "dqn"), weights=(0.0, 0.04), seeds=6)
    rows = comparison(rankings(crossed)[0])
    tables = [quality_table(rows, "how good"), behaviour_table(rows, "what it does")]
    tables += [table for _, table in printed(crossed)]
    for table in tables:
        text = shown(table, terminal=terminal)
        words = {word for column in table.columns for word in str(column.header).split()}
        assert words <= set(text.split())
        assert all(part in text for column in table.columns if column.no_wrap for part in column.cells)
        assert not terminal or max(map(len, text.splitlines())) <= 80
    names = ["one-long-name-of-a-folder", "other-long-name-of-a-folder"]
    found = compare_tables([synthetic.make(name=name) for name in names])
    console = Console(width=80, force_terminal=terminal, color_system=None, file=io.StringIO(), markup=False)
    for module in (looking, output):
        monkeypatch.setattr(module, "OUT", console)
    monkeypatch.setattr(looking, "print_table", lambda table, keys=1: output.print_table(table, keys, console))
    looking._print_compared(found, found.table())
    compared = console.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in compared
    for name in names:
        assert " ".join(compared.split()).count(f"{name} ppo oneshot") >= 2 or not terminal


def test_json_has_all_digits_and_null_for_what_is_missing(capsys):
    rows = pd.DataFrame({"x": [1 / 3, np.nan], "n": pd.array([1, None], "Int64"), "name": ["a", None]})
    output.emit({"rows": rows, "path": Path("a/b"), "of": Estimate(np.float32(0.5), -np.inf, 1), "n": np.int32(3)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "rows": [{"x": 1 / 3, "n": 1, "name": "a"}, {"x": None, "n": None, "name": None}],
        "path": "a/b",
        "of": {"mean": 0.5, "low": None, "high": 1},
        "n": 3,
    }


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_with_a_line_end_makes_no_line(terminal):
    table = Table("name", "score")
    table.add_row("a\nforged  9.9\x1b[2J", "0.5")
    text = shown(table, terminal=terminal)
    assert r"a\nforged" in text
    assert "\x1b" not in text
    assert text.count("\n") == 2
