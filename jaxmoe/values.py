"""What users pass, as plain Python values: numbers and arrays of NumPy and JAX, paths and tuples are converted once."""

import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.errors import InputError


def plain(value: Any, name: str = "the value") -> Any:
    """A value as TOML could hold it: arrays and other sequences as lists, NumPy's and JAX's scalars as Python's.

    What has no such form, as a function or a complex number, is an `InputError` that names where it stands.

    >>> import numpy as np
    >>> plain({"seeds": np.arange(3), "hidden": (8, np.int64(8))})
    {'seeds': [0, 1, 2], 'hidden': [8, 8]}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):  # NumPy's too
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_key(key, name): plain(entry, f"{name}, {key}") for key, entry in value.items()}
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return _of_array(value, name)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | set | frozenset):  # sets have no order
        return [plain(entry, name) for entry in value]
    raise _no_value(value, name)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Names with plain values; nothing stands for none of them, and anything else is an `InputError`."""
    found = plain({} if value is None else value, name)
    if not isinstance(found, dict):
        raise InputError(f"{name} = {value!r} is not a mapping of names to values")
    return found


def whole(value: Any, name: str) -> int:
    """A whole number, Python's or NumPy's; anything else is an `InputError`."""
    number = plain(value, name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError(f"{name} = {number!r} is not a whole number")
    return number


def _of_array(value: Any, name: str) -> Any:
    found = value.tolist()
    if isinstance(found, complex) or (hasattr(found, "dtype") and found is value):
        raise _no_value(value, name)
    return plain(found, name)


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"{name} has the key {key!r}, and keys are texts")
    return str(key)


def _no_value(value: Any, name: str) -> InputError:
    return InputError(f"{name} holds {value!r}, which is neither a number, a text, a list nor a section")
