"""What commands print: tables that are read whole, on a terminal of any width and in a file, and JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from jaxmoe.names import visible
from jaxmoe.policy.contract import FILE_FORMATS
from jaxmoe.progress import Terminal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

OUT, ERR = Terminal(), Terminal(stderr=True)
GAP = 2  # characters between columns


def print_table(table: Table, keys: int = 1, console: Console = OUT) -> None:
    """Print a table so that nothing in it is cut.

    To a file or a pipe it is as wide as it needs to be. On a terminal that is too narrow, headings and texts are
    wrapped between words; if that is not enough the columns are printed in several tables, one below the other, which
    all begin with the same columns.

    Args:
        table: in which columns of numbers are `no_wrap`.
        keys: how many columns, at the beginning, say what a row is.
        console: on which.
    """
    if table.title:
        console.print(table.title, soft_wrap=not console.is_terminal)
    width = console.width if console.is_terminal else 10**6
    for number, block in enumerate(_blocks(table.columns, keys, width)):
        if number:
            console.print()
        _print_block(table, block, width, console)


def _blocks(columns: Sequence[Column], keys: int, width: int) -> list[list[Column]]:
    """The columns of each of the tables that one is divided into, so that all fit."""
    blocks = [list(columns[:keys])]
    for column in columns[keys:]:
        if len(blocks[-1]) > keys and sum(_least(each) + GAP for each in (*blocks[-1], column)) - GAP > width:
            blocks.append(list(columns[:keys]))
        blocks[-1].append(column)
    return blocks


def _print_block(table: Table, block: list[Column], width: int, console: Console) -> None:
    spare = width - sum(_least(column) + GAP for column in block) + GAP
    shown = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    total = 0
    for column in block:
        own = min(_widest(column), _least(column) + max(0, spare))
        spare -= own - _least(column)
        total += own + GAP
        shown.add_column(visible(str(column.header), keep="\n"), justify=column.justify, width=own, overflow="fold")
    cells = zip(*map(_texts, block), strict=True)
    for row, texts in zip(table.rows, cells, strict=True):
        shown.add_row(*texts, style=row.style)
    before = console.width
    console.width = max(before, total) if width > before else before
    console.print(shown)
    console.width = before


def _texts(column: Column) -> list[str]:
    """The cells of a column, every character visible."""
    return [visible(str(cell)) for cell in column.cells]


def _widest(column: Column) -> int:
    return max(cell_len(line) for text in (str(column.header), *_texts(column)) for line in text.split("\n"))


def _least(column: Column) -> int:
    """Width in which no word, and no number with its interval, is broken."""
    cells = [part for text in _texts(column) for part in ([text] if column.no_wrap else text.split())]
    return max((cell_len(part) for part in (*str(column.header).split(), *cells)), default=0)


def print_comparison(comparison: "pd.DataFrame", diverged: "NDArray[np.bool_] | None" = None) -> None:
    """Two tables: how good each policy is, and what it does; the one that is no baseline stands out.

    Between them stands what is to be said of the first: by how much it is ahead, and what to beware of.
    """
    from jaxmoe.analysis.comparison import behaviour_table, interval_words, quality_table
    from jaxmoe.analysis.remarks import remarks

    endings = ("agent)", "agents)", *(f".{name}" for name in FILE_FORMATS))
    highlight = next((name for name in comparison["policy"].unique() if str(name).endswith(endings)), None)
    OUT.print()
    over = interval_words([str(policy) for policy in comparison["policy"].unique()])
    title = f"Mean QoS, and normalised score [95 % interval {over}]"
    print_table(quality_table(comparison, title, highlight))
    OUT.print()
    for sentence in (said := remarks(comparison, highlight, diverged)):
        OUT.print(sentence, soft_wrap=True)
    if said:
        OUT.print()
    title = "What each policy does per request, on train prompts: means, and how often it asks each expert"
    print_table(behaviour_table(comparison, title, highlight))


def emit(document: Mapping[str, Any]) -> None:
    """Print a document as JSON, numbers with all their digits; what is no number, or has no limit, is null."""
    print(json.dumps(_plain(document), allow_nan=False), file=OUT.file)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "columns"):  # a data frame
        return _plain(value.to_dict("records"))
    return _plain(value.tolist()) if hasattr(value, "tolist") else None  # NumPy's kinds; what is left is missing
