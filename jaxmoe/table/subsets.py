"""How a subset of experts is written, and which experts a table may have."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoe.errors import InputError
from jaxmoe.names import alike, first_alike, listed, short, visible
from jaxmoe.table.limits import NAME

LOCAL = "local"  # how the empty subset is written
MAX_EXPERTS = 16  # 2^16 numbers per prompt and array, also where only subsets of a few experts are scored


def subset_name(subset: int, experts: Sequence[str]) -> str:
    """How a bitmask is written.

    >>> subset_name(0b101, ["setting", "character", "action"])
    'setting+action'
    >>> subset_name(0, ["setting", "character", "action"])
    'local'
    """
    return "+".join(expert for bit, expert in enumerate(experts) if subset >> bit & 1) or LOCAL


def subset_index(name: str, experts: Sequence[str]) -> int:
    """The bitmask of ``local`` or of names joined by ``+`` in any order.

    Raises `InputError` for an unknown or repeated expert.

    >>> subset_index("action + setting", ["setting", "character", "action"])
    5
    """
    subset = 0
    for expert in [] if name == LOCAL else [part.strip() for part in name.split("+")]:
        if expert not in experts:
            raise InputError(
                f"unknown expert {short(expert)}, allowed are {listed(experts)} joined by '+', or {LOCAL}."
            )
        if subset >> experts.index(expert) & 1:
            raise InputError(f"the expert {short(expert)} is there twice in {short(name)}, each may appear once.")
        subset |= 1 << experts.index(expert)
    return subset


def subset_sizes(experts: int) -> np.ndarray:
    """How many experts each subset has, [2^E].

    >>> subset_sizes(2).tolist()
    [0, 1, 1, 2]
    """
    return np.bitwise_count(np.arange(1 << experts)).astype(np.int64)


def checked_experts(experts: Iterable[Any], path: Path) -> tuple[str, ...]:
    """The names of experts, if a table can have them.

    Raises `InputError` for none or too many of them, for what is no name, and for names that a reader cannot tell from
    another one or from `local`.
    """
    names = tuple(experts)
    if not 1 <= len(names) <= MAX_EXPERTS:
        raise InputError(f"{path}: there are {len(names)} experts, a table has 1 to {MAX_EXPERTS}.")
    for number, name in enumerate(names, start=1):
        where = f"{path}, entry {number}"
        if not _is_name(name):
            raise InputError(
                f"{where}: expert is {short(name)}, it must be a name without '+' and other than {LOCAL!r}, of at most "
                f"{NAME} characters on one line, all of which are seen."
            )
        if name in names[: number - 1]:
            raise InputError(f"{where}: a second expert {short(name)}, each may appear once.")
        if pair := first_alike([LOCAL, *names[:number]]):
            raise InputError(
                f"{where}: a reader cannot tell the expert {short(name)} from {short(pair[0])}; give it another name."
            )
    return names


def _is_name(name: Any) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= NAME or name == LOCAL or "+" in name:
        return False
    return name == name.strip() and visible(name) == name and alike(name) != ""
