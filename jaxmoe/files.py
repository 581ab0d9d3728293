"""Files that are written whole: one that exists is complete."""

import os
from collections.abc import Callable
from pathlib import Path

from jaxmoe.errors import InputError, StorageError
from jaxmoe.names import short

LONGEST_PATH, LONGEST_NAME = 4_095, 255  # bytes, as file systems have them


def with_home(path: str | os.PathLike[str]) -> Path:
    """A path as its user means it: `~` is the home folder. Raises `InputError` for what no path can be."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{short(path)} is no path: give a text or a pathlib.Path")
    text = os.fsdecode(path)
    if "\0" in text:
        raise InputError(f"{short(text)} is no path: it holds a null character")
    try:
        names = os.fsencode(text).split(os.fsencode(os.sep))
    except UnicodeEncodeError:
        raise InputError(f"{short(text)} is no path: it holds half of a character") from None
    if len(text) > LONGEST_PATH or max(map(len, names)) > LONGEST_NAME:
        raise InputError(f"{short(text)} is no path: it, or a name in it, is too long")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{text}: there is no home folder of such a user") from None


def write_whole(path: Path, write: Callable[[Path], object], *, overwrite: bool) -> None:
    """Calls `write` on a temporary neighbour of `path` and renames it, so that a file that exists is complete.

    Raises `InputError` if `path` exists (unless `overwrite`), its folder does not, or the disk does not take it.
    """
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}.partial")  # a name may be as long as a disk takes
    try:
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already, choose another name or say overwrite=True.")
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist, create it first.")
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file, whole."""
    write_bytes(path, text.encode(), overwrite=True)


def write_bytes(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a file, whole. Raises `InputError` as `write_whole`."""
    write_whole(path, lambda partial: partial.write_bytes(content), overwrite=overwrite)


def claim_folder(path: str | os.PathLike[str]) -> Path:
    """Makes an empty folder for results; raises `InputError` if there is something already, so that nothing is lost."""
    folder = with_home(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already and is not an empty folder; choose another output folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; choose another output folder") from None
    return folder
