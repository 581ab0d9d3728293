"""Wide tables: one row per prompt and one column per combination of experts, turned into the rows of long ones.

`WIDE_RULE` says what the columns mean. Experts are the names in columns joined by ``+`` and those whose words,
relevance or spread have a column; any other column is not read. Cells are not looked at here: each combination of each
row becomes a row of a long table, which `jaxmoe.table.records` checks as it does every other.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from jaxmoe.errors import InputError
from jaxmoe.names import listed, short
from jaxmoe.table.formats import Row
from jaxmoe.table.subsets import LOCAL, checked_experts, subset_index, subset_name, subset_sizes

WIDE = "one column per combination"  # how the provenance of a table says that it was read this way
WIDE_RULE = (
    "one row per prompt (or per prompt and judge) and one column per combination: a column named local, an expert, or "
    "experts joined by '+' holds its scores, words:COMBINATION the words of its text, relevance:EXPERT the relevance "
    "and, if wanted, score_std:COMBINATION the spread of its scores over judges"
)
_OF_ROWS = ("prompt_id", "split", "prompt", "judge")  # columns that a long table has as well
_MEASURES = ("words", "relevance", "score_std")
_NAMED_AT_MOST = 6


class _Column(NamedTuple):
    name: str
    measure: str  # "score" or one of _MEASURES
    parts: tuple[str, ...]  # of the combination


def is_wide(header: Iterable[str]) -> bool:
    """Whether a header has no column ``experts``, and one of a combination.

    >>> is_wide(["prompt_id", "local", "setting"]), is_wide(["prompt_id", "experts", "score"])
    (True, False)
    """
    header = list(header)
    columns = _columns(header)
    named = any(column.measure in ("words", "relevance") or column.parts == (LOCAL,) for column in columns)
    return "experts" not in header and (named or bool(_joined(columns)))


def long_rows(
    rows: list[Row], relevance: Literal["required", "none"], missing: Literal["error", "keep"]
) -> tuple[tuple[str, ...], list[Row]]:
    """The experts of a wide table in the order of their columns, and one row per wide row and combination.

    Raises `InputError` for a combination that has two columns and, unless gaps are kept, for a column that is missing.
    """
    path, columns = rows[0].file, _columns(rows[0].cells)
    experts = _experts(columns)
    if not experts:
        raise InputError(
            f"{path}: a table without a column experts has {WIDE_RULE}; no expert is found in the columns "
            f"{listed(filter(None, rows[0].cells))}."
        )
    names = _names(path, columns, checked_experts(experts, path))
    if missing == "error":
        _check_complete(path, names, experts, relevance)
    subsets = sorted({subset for _, subset in names})
    return experts, [_long_row(row, subset, names, experts) for row in rows for subset in subsets]


def _columns(header: Iterable[str]) -> list[_Column]:
    return [_column(name) for name in header if name and name not in _OF_ROWS]


def _column(name: str) -> _Column:
    measure, _, combination = name.partition(":")
    if measure.strip() not in _MEASURES or not combination:
        measure, combination = "score", name
    return _Column(name, measure.strip(), tuple(part.strip() for part in combination.split("+")))


def _joined(columns: list[_Column]) -> list[_Column]:
    """Columns with ``+`` that are combinations: a part of theirs has a column of its own, as pros in pros+cons has not.

    >>> [column.name for column in _joined(_columns(["setting", "setting+action", "pros+cons", "grade A+"]))]
    ['setting+action']
    """
    alone = {column.parts[0] for column in columns if len(column.parts) == 1}
    return [c for c in columns if len(c.parts) > 1 and all(c.parts) and not alone.isdisjoint(c.parts)]


def _experts(columns: list[_Column]) -> tuple[str, ...]:
    """In the order of their own columns; those without one come last."""
    single = (column.parts[0] for column in columns if column.measure == "score" and len(column.parts) == 1)
    alone = {name: position for position, name in reversed(list(enumerate(single)))}
    measured = [column for column in columns if column.measure != "score" and len(column.parts) == 1]
    found = dict.fromkeys(part for column in [*_joined(columns), *measured] for part in column.parts if part)
    names = [name for name in found if name not in (LOCAL, *_OF_ROWS)]
    return tuple(sorted(names, key=lambda name: alone.get(name, len(columns))))


def _names(path: Path, columns: list[_Column], experts: tuple[str, ...]) -> dict[tuple[str, int], str]:
    """The column of each measure and subset. Raises `InputError` for a second one."""
    names: dict[tuple[str, int], str] = {}
    known = {*experts, LOCAL}
    for column in (column for column in columns if known.issuperset(column.parts)):
        try:
            subset = subset_index("+".join(column.parts), experts)
        except InputError as error:
            raise InputError(f"{path}, column {short(column.name)}: {error}") from None
        earlier = names.setdefault((column.measure, subset), column.name)
        if earlier != column.name:
            raise InputError(
                f"{path}: the columns {short(earlier)} and {short(column.name)} are of the same combination, it may "
                "have one."
            )
    return names


def _check_complete(
    path: Path, names: dict[tuple[str, int], str], experts: tuple[str, ...], relevance: Literal["required", "none"]
) -> None:
    spread = ["score_std"] if any(measure == "score_std" for measure, _ in names) else []
    largest = max((subset.bit_count() for measure, subset in names if measure != "relevance"), default=1)
    subsets = np.flatnonzero(subset_sizes(len(experts)) <= max(1, largest)).tolist()  # a table ends at the largest
    needed = [(measure, subset) for measure in ["score", "words", *spread] for subset in subsets]
    needed += [("relevance", 1 << bit) for bit in range(len(experts)) if relevance == "required"]
    lacking = [_column_name(*key, experts) for key in needed if key not in names]
    if lacking:
        raise InputError(
            f"{path}: a table without a column experts has {WIDE_RULE}; missing here: "
            f"{listed(lacking, _NAMED_AT_MOST)}."
        )


def _column_name(measure: str, subset: int, experts: tuple[str, ...]) -> str:
    return f"{'' if measure == 'score' else measure + ':'}{subset_name(subset, experts)}"


def _long_row(row: Row, subset: int, names: dict[tuple[str, int], str], experts: tuple[str, ...]) -> Row:
    cells = {name: row.cells[name] for name in _OF_ROWS if name in row.cells} | {
        "experts": subset_name(subset, experts)
    }
    for measure in dict.fromkeys(measure for measure, _ in names):
        column = names.get((measure, subset))
        cells[measure] = None if column is None else row.cells[column]
    return Row(row.file, row.line, cells)
