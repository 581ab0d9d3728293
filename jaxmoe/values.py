"""What users pass, as plain Python values: numbers and arrays of NumPy and JAX, paths and tuples are converted once."""

import json
import math
import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.errors import InputError
from jaxmoe.names import short

DEEPEST = 100  # levels of lists and objects in JSON
DIGITS = 400  # of a whole number in JSON; more than any float has


def from_json(text: str | bytes) -> Any:
    """The plain values in a JSON text, read strictly.

    Raises `ValueError` also for a key that is there twice, a number that is not finite or has too many digits, half a
    character, and what is nested too deeply.

    >>> from_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        found = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(DEEPEST):
        held = [each for each in level if isinstance(each, dict | list)]
        texts = [each for each in level if isinstance(each, str)]
        if any(each.encode("utf-8", "replace") != each.encode("utf-8", "surrogatepass") for each in texts):
            raise ValueError("a text holds half a character")
        level = [inner for each in held for inner in ([*each, *each.values()] if isinstance(each, dict) else each)]
        if not level:
            return found
    raise ValueError("it is nested too deeply")


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{short(text)} is no number that a computer can hold")
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number has {len(text):,} digits")
    return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
