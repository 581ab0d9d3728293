"""What users pass, as plain Python values: numbers and arrays of NumPy and JAX, paths and tuples are converted once.

Nothing is larger than what a program counts with, or what a plan can hold: it is counted before anything is made of it.
"""

import itertools
import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.errors import InputError
from jaxmoe.names import bare, short

MOST = 2**31 - 1  # of a seed, and of what programs count: env steps, updates
MOST_AGENTS = 2**17  # of an experiment, and of what is listed
MOST_EVALUATIONS = 10_000  # of an agent
MOST_REQUESTS = 2**24  # of a policy: as far as single precision counts one by one
LARGEST = 2**63  # whole number that a file holds
DEEPEST = 16  # levels of lists and sections
LONGEST_TEXT, LONGEST_KEY = 4_096, 200  # characters


def plain(value: Any, name: str = "the value", levels: int = DEEPEST) -> Any:
    """A value as TOML could hold it: arrays and other sequences as lists, NumPy's and JAX's scalars as Python's.

    What has no such form, as a function or a complex number, and what is too large, too long or nested deeper than so
    many levels, is an `InputError` that names where it stands.

    >>> import numpy as np
    >>> plain({"seeds": np.arange(3), "hidden": (8, np.int64(8))})
    {'seeds': [0, 1, 2], 'hidden': [8, 8]}
    """
    if value is None or type(value) in (bool, float):
        return value
    if isinstance(value, str | os.PathLike):  # NumPy's texts, too
        return _text(os.fspath(value), name)
    if not levels:
        raise InputError(f"{name} is nested too deep: at most {DEEPEST} levels of lists and sections")
    if isinstance(value, Mapping):
        return {_key(key, name): plain(entry, f"{name}, {bare(key)}", levels - 1) for key, entry in value.items()}
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return _of_array(value, name, levels)
    if isinstance(value, numbers.Integral):
        return _bounded(int(value), name)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | set | frozenset):  # sets have no order
        found = list(itertools.islice(value, MOST_AGENTS + 1))
        if len(found) > MOST_AGENTS:
            raise _too_many(name)
        return [plain(entry, name, levels - 1) for entry in found]
    raise _no_value(value, name)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Names with plain values; nothing stands for none of them, and anything else is an `InputError`."""
    found = plain({} if value is None else value, name)
    if not isinstance(found, dict):
        raise InputError(f"{name} = {short(value)} is not a mapping of names to values")
    return found


def whole(value: Any, name: str) -> int:
    """A whole number, Python's or NumPy's; anything else is an `InputError`."""
    number = plain(value, name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError(f"{name} = {short(number)} is not a whole number")
    return number


def count(value: Any, name: str, most: int = MOST) -> int:
    """A whole number of at least 1, and not more than can be counted."""
    return _within(whole(value, name), name, 1, most)


def seed(value: Any, name: str = "seed") -> int:
    """A whole number that random numbers can come from."""
    return _within(whole(value, name), name, 0, MOST)


def _within(number: int, name: str, low: int, high: int) -> int:
    if not low <= number <= high:
        allowed = f"at least {low}" if number < low else f"at most {high:,}"
        raise InputError(f"{name} = {short(number)} must be {allowed}")
    return number


def _bounded(number: int, name: str) -> int:
    if not -LARGEST <= number < LARGEST:
        raise InputError(f"{name} = {short(number)} is too large; whole numbers have at most 64 bits")
    return number


def _text(text: Any, name: str) -> str:
    if not isinstance(text, str):
        raise _no_value(text, name)
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{name} = {short(text)} is too long; a text has at most {LONGEST_TEXT:,} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} = {short(text)} holds half of a character, which no file can") from None
    return str(text)


def _of_array(value: Any, name: str, levels: int) -> Any:
    if getattr(value, "size", 0) > MOST_AGENTS:
        raise _too_many(name)
    found = value.tolist()
    if isinstance(found, complex) or (hasattr(found, "dtype") and found is value):
        raise _no_value(value, name)
    return plain(found, name, levels)


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"{name} has the key {short(key)}, and keys are texts")
    if len(key) > LONGEST_KEY:
        raise InputError(f"{name} has the key {short(key)}; a key has at most {LONGEST_KEY} characters")
    return _text(key, name)


def _too_many(name: str) -> InputError:
    return InputError(f"{name} has more than {MOST_AGENTS:,} entries, which is the most of a list")


def _no_value(value: Any, name: str) -> InputError:
    return InputError(f"{name} holds {short(value)}, which is neither a number, a text, a list nor a section")
