"""Errors that a user can mend."""


class InputError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what is allowed."""


class StorageError(InputError):
    """What the operating system says of a file that cannot be written or read: a full disk, no permission."""
