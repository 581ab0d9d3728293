"""Errors that a user can mend."""

from collections.abc import Iterable

from jaxmoe.names import first_alike, sentence, short


class InputError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what is allowed; one line, and of bounded length."""

    def __init__(self, said: str) -> None:
        super().__init__(sentence(said))


class StorageError(InputError):
    """What the operating system says of a file that cannot be written or read: a full disk, no permission."""


LONGEST_NAME = 100  # characters


def require_name(name: str, kind: str, others: Iterable[str] = ()) -> None:
    """Refuse what cannot be a name in specs and on the command line, or looks like another one of its kind."""
    if not name.isidentifier() or not name.isascii():
        raise InputError(f"{short(name)} cannot name {kind}: it must be a letter, then letters, digits or _")
    if len(name) > LONGEST_NAME:
        raise InputError(f"{short(name)} cannot name {kind}: it has more than {LONGEST_NAME} characters")
    if pair := first_alike([*others, name]):
        raise InputError(f"{name!r} cannot name {kind}: a reader cannot tell it from {pair[0]!r}, which is one already")
