"""A job file: the options of a command, as TOML. What is given on the command line goes before it."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from jaxmoe.errors import InputError
from jaxmoe.files import with_home
from jaxmoe.names import short

INLINE = ("prompts", "experts")  # tables of these may stand in the job file itself
PAIRS = "request_param"  # a table, of which each entry is an option
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
    Path: ((str,), "a path"),
}


def take_job(context: typer.Context, path: Path | None) -> Path | None:
    """Callback of an eager argument: the file's values become the defaults of the other options.

    Paths are seen from the file. Raises `InputError` for an unknown key and for a value of another type.
    """
    from jaxmoe.table.formats import read_toml

    if path is None or context.resilient_parsing:
        return path
    hints = get_type_hints(inspect.unwrap(context.command.callback)) if context.command.callback else {}
    types = {name: hint for name, hint in hints.items() if name not in ("job", "as_json", "quiet", "return")}
    given = read_toml(with_home(path))
    if unknown := [key for key in given if key not in types]:
        raise InputError(f"{path}: the key {short(unknown[0])} is unknown, allowed are {', '.join(types)}")
    values = {key: _value(path, key, value, types[key]) for key, value in given.items()}
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _value(path: Path, key: str, value: Any, hint: Any) -> Any:
    if key in INLINE and isinstance(value, list):
        return str(path)
    if key == PAIRS:
        return _pairs(path, value)
    kinds = [kind for kind in (hint, *get_args(hint)) if kind is not type(None)]
    own = next((get_args(kind)[0] for kind in kinds if get_args(kind) and kind is not hint), None)
    if own is not None:  # one, or several in a list
        return [_single(path, key, part, own) for part in (value if isinstance(value, list) else [value])]
    return _single(path, key, value, next(kind for kind in kinds if kind in _KINDS))


def _single(path: Path, key: str, value: Any, kind: type) -> Any:
    kinds, meant = _KINDS[kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{path}: {key} is {short(value)}, it must be {meant}")
    return str(path.parent / Path(str(value)).expanduser()) if kind is Path else value


def _pairs(path: Path, value: Any) -> list[str]:
    """`KEY=VALUE` and `STAGE.KEY=VALUE`, as they stand on the command line."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: {PAIRS} is {short(value)}, it must be a table of names and values")
    try:
        return [
            text
            for key, own in value.items()
            for text in (
                [f"{key}.{name}={json.dumps(part)}" for name, part in own.items()]
                if isinstance(own, Mapping)
                else [f"{key}={json.dumps(own)}"]
            )
        ]
    except TypeError:  # a date or a time
        raise InputError(f"{path}: {PAIRS} holds a value that JSON has not; write it as a text") from None
