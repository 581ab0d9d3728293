"""A job file: the options of a command, as TOML. What is given on the command line goes before it."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from jaxmoe.errors import InputError

INLINE = ("prompts", "experts")  # tables of these may stand in the job file itself
PAIRS = "request_param"  # a table, of which each entry is an option
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {  # by click's name of an option's type; texts and paths else
    "integer": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
}


def take_job(context: typer.Context, path: Path | None) -> Path | None:
    """Callback of an eager argument: the file's values become the defaults of the other options.

    Paths are seen from the file. Raises `InputError` for an unknown key and for a value of another type.
    """
    if path is None or context.resilient_parsing:
        return path
    parameters = {parameter.name: parameter for parameter in context.command.params if parameter.name != "job"}
    given = _read(path)
    if unknown := [key for key in given if key not in parameters]:
        raise InputError(f"{path}: the key {unknown[0]!r} is unknown, allowed are {', '.join(map(str, parameters))}")
    values = {key: _value(path, key, value, parameters[key]) for key, value in given.items()}
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _read(path: Path) -> dict[str, Any]:
    from jaxmoe.table_formats import decoded

    try:
        return tomllib.loads(decoded(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: this is not TOML ({error})") from None


def _value(path: Path, key: str, value: Any, parameter: Any) -> Any:
    if key in INLINE and isinstance(value, list):
        return str(path)
    if key == PAIRS:
        return _pairs(path, value)
    if parameter.multiple:
        return [_single(path, key, part, parameter) for part in (value if isinstance(value, list) else [value])]
    return _single(path, key, value, parameter)


def _single(path: Path, key: str, value: Any, parameter: Any) -> Any:
    kinds, meant = _KINDS.get(parameter.type.name, ((str,), "a text"))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InputError(f"{path}: {key} is {value!r}, it must be {meant}")
    is_path = parameter.type.name in ("path", "file", "directory")
    return str(path.parent / Path(str(value)).expanduser()) if is_path else value


def _pairs(path: Path, value: Any) -> list[str]:
    """`KEY=VALUE` and `STAGE.KEY=VALUE`, as they stand on the command line."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: {PAIRS} is {value!r}, it must be a table of names and values")
    return [
        text
        for key, own in value.items()
        for text in (
            [f"{key}.{name}={json.dumps(part)}" for name, part in own.items()]
            if isinstance(own, Mapping)
            else [f"{key}={json.dumps(own)}"]
        )
    ]
