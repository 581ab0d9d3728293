"""How a subset of experts is written, and which experts a table may have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxmoe.errors import InputError

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
            raise InputError(f"unknown expert {expert!r}, allowed are {', '.join(experts)} joined by '+', or {LOCAL}.")
        if subset >> experts.index(expert) & 1:
            raise InputError(f"the expert {expert!r} is there twice in {name!r}, each may appear once.")
        subset |= 1 << experts.index(expert)
    return subset


def subset_sizes(experts: int) -> np.ndarray:
    """How many experts each subset has, [2^E].

    >>> subset_sizes(2).tolist()
    [0, 1, 1, 2]
    """
    return np.bitwise_count(np.arange(1 << experts)).astype(np.int64)


def checked_number(experts: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """The experts. Raises `InputError` for none and for more than a table can have."""
    if not 1 <= len(experts) <= MAX_EXPERTS:
        raise InputError(f"{path}: there are {len(experts)} experts, a table has 1 to {MAX_EXPERTS}.")
    return experts
