"""JSON, read strictly: no key twice, no number that a computer cannot hold, nothing nested without end."""

import json
import math
from typing import Any

from jaxmoe.names import short

DEEPEST = 100  # levels of lists and objects
DIGITS = 400  # of a whole number; more than any float has


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
