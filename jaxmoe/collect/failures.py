"""What went wrong in a collection, how often, and what to do about it."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxmoe.collect.requests import ASKED, FAILED, INVALID, REFUSED, USABLE

Row = dict[str, Any]  # of the journal

# What differs from one failure to the next: numbers, and names that only a program reads.
_PARTICULAR = re.compile(r"\b(?=[\w-]*\d)[\w-]{6,}\b|\d+(?:\.\d+)?")


def failures(rows: Sequence[Row]) -> list[str]:
    """What went wrong and how often, the most frequent first; reasons that differ in numbers alone are one."""
    useless = [row for row in rows if row["status"] not in USABLE]
    counts = Counter(_kind(row) for row in useless)
    first = {_kind(row): row for row in reversed(useless)}
    return [f"{count} x {first[kind]['stage']} {_what(first[kind])}" for kind, count in counts.most_common()]


def advice(rows: Sequence[Row]) -> list[str]:
    """What to do about entries that are missing."""
    statuses = {row["status"] for row in rows}
    lines = []
    if statuses & {FAILED, ASKED}:
        lines.append("The same command asks again what failed, and nothing that was answered.")
    if statuses & {REFUSED, INVALID}:
        lines.append("--retry-failed asks again what was refused or answered in a wrong form.")
    if any("reason" in row["error"] or "limit of tokens" in row["error"] for row in rows if row["status"] == INVALID):
        lines.append("More tokens (--max-tokens, --answer-tokens) or less reasoning (--request-param) may help.")
    return lines or ["The same command goes on."]


def _kind(row: Row) -> tuple[str, str, str]:
    return row["stage"], row["status"], _PARTICULAR.sub("#", row["error"] or "")


def _what(row: Row) -> str:
    return "was cut off before an answer came" if row["status"] == ASKED else f"{row['status']}: {row['error']}"
