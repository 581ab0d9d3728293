"""Errors that a user can mend."""

from jaxmoe.names import sentence, short


class InputError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what is allowed; one line, and of bounded length."""

    def __init__(self, said: str) -> None:
        super().__init__(sentence(said))


class StorageError(InputError):
    """What the operating system says of a file that cannot be written or read: a full disk, no permission."""


def require_name(name: str, kind: str) -> None:
    """Refuse what cannot be a name in specs and on the command line."""
    if not name.isidentifier() or not name.isascii():
        raise InputError(f"{short(name)} cannot name {kind}: it must be a letter, then letters, digits or _")
