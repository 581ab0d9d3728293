"""The one exception that a user's input can raise: a sentence that says what was wrong, where, and what is allowed."""


class InputError(ValueError):
    """Bad input. The message is one sentence for the user; the command line prints it and exits with code 2."""
