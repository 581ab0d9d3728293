"""JSON, read strictly: no key twice, no infinite number, nothing nested without end; errors name the place."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from jaxmoe.errors import InputError
from jaxmoe.names import short, visible
from jaxmoe.strict_json import from_json

LARGEST = 1e30  # of all numbers


def parse_json(content: bytes, source: str) -> Any:
    """The plain values in a JSON text; `source` names it in errors."""
    try:
        return from_json(content)
    except ValueError as error:
        raise InputError(f"{source} is no JSON as jaxmoe writes it: {error}") from None


def canonical_json(tree: Any) -> bytes:
    """The one text of plain values: keys sorted, no spaces, ASCII; `ValueError` if a number in it is not finite."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


class Entry(NamedTuple):
    """A value of a JSON file, and its place there."""

    value: Any
    path: str
    source: str

    def wrong(self, allowed: str) -> NoReturn:
        """Say what would be right."""
        raise InputError(f"{self.source}: {visible(self.path)} = {short(self.value, 60)} is not {allowed}")

    def text(self) -> str:
        """A text that is not empty."""
        return self.value if isinstance(self.value, str) and self.value else self.wrong("a text")

    def sha256(self) -> str:
        """A checksum."""
        text = self.text()
        return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else self.wrong("a SHA-256 checksum")

    def whole(self, low: int, high: int) -> int:
        """A whole number in these limits, both allowed."""
        if isinstance(self.value, int) and not isinstance(self.value, bool) and low <= self.value <= high:
            return self.value
        return self.wrong(f"a whole number from {low} to {high}")

    def number(self) -> float:
        """A number that float32 can hold."""
        if isinstance(self.value, int | float) and not isinstance(self.value, bool) and abs(self.value) <= LARGEST:
            return float(self.value)
        return self.wrong(f"a number from -{LARGEST:g} to {LARGEST:g}")

    def optional_number(self) -> float | None:
        """The same, or null."""
        return None if self.value is None else self.number()

    def mapping(self) -> dict[str, Any]:
        """An object."""
        return self.value if isinstance(self.value, dict) else self.wrong("an object")

    def each_here(self, read: "Callable[[Entry], Any]") -> tuple[Any, ...]:
        """A list, each entry read in the same way."""
        if not isinstance(self.value, list):
            self.wrong("a list")
        return tuple(
            read(Entry(value, f"{self.path}[{number}]", self.source)) for number, value in enumerate(self.value)
        )


class Reader:
    """The members of a JSON object."""

    def __init__(self, tree: Any, source: str, path: str = "") -> None:
        self.tree, self.source, self.path = tree, source, path
        if not isinstance(tree, dict):
            Entry(tree, path or "the content", source).wrong("an object")

    def get(self, name: str) -> Entry:
        """A member that must be there."""
        place = f"{self.path}.{name}" if self.path else name
        if name not in self.tree:
            raise InputError(f"{self.source}: {place} is missing")
        return Entry(self.tree[name], place, self.source)

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        """One of these texts."""
        entry = self.get(name)
        return entry.value if entry.value in options else entry.wrong(f"one of {', '.join(options)}")

    def each(self, name: str, read: Callable[[Entry], Any]) -> tuple[Any, ...]:
        """A list, each entry read in the same way."""
        return self.get(name).each_here(read)

    def member(self, name: str, read: "Callable[[Reader], Any]") -> Any:
        """An object."""
        entry = self.get(name)
        return read(Reader(entry.value, self.source, entry.path))
