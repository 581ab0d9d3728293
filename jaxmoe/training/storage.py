"""Where an experiment is kept: a folder, or the memory of this process; `remote` has object stores.

Names are relative, with `/` between their parts. A file is there whole or not at all. `create` makes a file only where
none is: of several processes that make the same one the first wins, which needs no lock on any kind of disk.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from jaxmoe.errors import InputError, StorageError

Content = bytes | Iterable[bytes]  # of a file: whole, or piece by piece
PARTIAL = ".partial"  # how files end that are being written
_BEGUN = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")  # as `Folder` names them


class Found(NamedTuple):
    """A file that is there."""

    bytes: int
    modified: float | None = None  # s of Unix, if it is known


class Storage(Protocol):
    """Files by name, under one root."""

    @property
    def where(self) -> str:
        """The root, in words."""

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, from one of them on. Raises `FileNotFoundError` where there is none."""

    def write(self, name: str, content: Content) -> None:
        """Make or replace a file."""

    def create(self, name: str, content: Content) -> bool:
        """Make a file unless there is one; whether this call has made it."""

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files that begin so, in order."""

    def files(self, prefix: str = "") -> dict[str, Found]:
        """All files that begin so, by name: much quicker than to ask for one after the other."""

    def unfinished(self, prefix: str, older_than_s: float = 0.0) -> Sequence[str]:
        """Names of files that a killed process has begun, of those that begin so, and of what is no younger."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    def rename(self, name: str, other: str) -> None:
        """Give a file another name."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; nothing where there is none."""

    def at_hand(self, name: str) -> "Storage":
        """A file where reading it in many parts costs little, under the same name."""


class Memory:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    @property
    def where(self) -> str:
        """The root, in words."""
        return "memory"

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, from one of them on."""
        if name not in self.contents:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", name)
        return self.contents[name][start : None if length is None else start + length]

    def write(self, name: str, content: Content) -> None:
        """Make or replace a file."""
        parts_of(name)
        self.contents[name] = content if isinstance(content, bytes) else b"".join(content)

    def create(self, name: str, content: Content) -> bool:
        """Make a file unless there is one; whether this call has made it."""
        if name in self.contents:
            return False
        self.write(name, content)
        return True

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files that begin so, in order."""
        return sorted(name for name in self.contents if name.startswith(prefix))

    def files(self, prefix: str = "") -> dict[str, Found]:
        """All files that begin so."""
        return {name: Found(len(self.contents[name])) for name in self.list(prefix)}

    def unfinished(self, prefix: str, older_than_s: float = 0.0) -> Sequence[str]:
        """There are none in memory."""
        del prefix, older_than_s
        return []

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.contents.pop(name, None)

    def rename(self, name: str, other: str) -> None:
        """Give a file another name."""
        self.contents[other] = self.contents.pop(name)

    def size(self, name: str) -> int | None:
        """Bytes of a file; nothing where there is none."""
        return len(self.contents[name]) if name in self.contents else None

    def at_hand(self, name: str) -> Storage:
        """Files are at hand here."""
        del name
        return self


class Folder:
    """Files in a folder. No symbolic link is followed out of it."""

    def __init__(self, root: Path) -> None:
        """Take a folder that exists."""
        self.root = root

    @property
    def where(self) -> str:
        """The root, in words."""
        return str(self.root)

    def path(self, name: str) -> Path:
        """Where a file is; raises `InputError` where a symbolic link stands in its way."""
        path = str(self.root)
        for part in parts_of(name):
            path = f"{path}{os.sep}{part}"
            if os.path.islink(path):  # noqa: PTH114  it is asked often, and a Path for each part is slow
                raise InputError(f"{path} is a symbolic link, and jaxmoe follows none out of {self.root}; remove it")
        return Path(path)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, from one of them on."""
        path = self.path(name)
        _require_plain(path, path.stat())  # opening a pipe would wait for ever
        with path.open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def write(self, name: str, content: Content) -> None:
        """Make or replace a file."""
        path, partial = self.path(name), self._written(name, content)
        try:
            partial.replace(path)
        except OSError as error:
            _drop(partial)
            raise _trouble(path, error) from error

    def create(self, name: str, content: Content) -> bool:
        """Make a file unless there is one; whether this call has made it."""
        if self.size(name) is not None:
            return False
        path = self.path(name)
        partial = self._written(name, content)
        try:
            return _linked(partial, path)
        except OSError as error:
            raise _trouble(path, error) from error
        finally:
            _drop(partial)

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files that begin so, in order; links and unfinished files are left out."""
        return sorted(name for name, _ in self._files(prefix) if not name.endswith(PARTIAL))

    def files(self, prefix: str = "") -> dict[str, Found]:
        """All files that begin so."""
        found = {}
        for name, entry in self._files(prefix):
            if not name.endswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
                    about = entry.stat(follow_symlinks=False)
                    found[name] = Found(about.st_size, about.st_mtime)
        return dict(sorted(found.items()))

    def unfinished(self, prefix: str, older_than_s: float = 0.0) -> Sequence[str]:
        """Names of files that a killed process has begun, of those that begin so, and of what is no younger."""
        found, latest = [], time.time() - older_than_s
        for name, entry in self._files(prefix):
            if _BEGUN.fullmatch(name.rpartition("/")[2]):
                with contextlib.suppress(FileNotFoundError):  # it is finished meanwhile
                    found += [name] if entry.stat(follow_symlinks=False).st_mtime <= latest else []
        return sorted(found)

    def _files(self, prefix: str) -> "Iterator[tuple[str, os.DirEntry[str]]]":
        """Names of files that begin so, links left out; what is removed meanwhile is not there."""
        inside = prefix.rpartition("/")[0]
        folders = [(str(self.path(inside) if inside else self.root), f"{inside}/" if inside else "")]
        while folders:
            folder, above = folders.pop()
            entries: list[os.DirEntry[str]] = []
            with contextlib.suppress(OSError), os.scandir(folder) as found:
                entries += found
            for entry in entries:
                name = f"{above}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{name}/"))
                elif name.startswith(prefix) and not entry.is_symlink():
                    yield name, entry

    def delete(self, name: str) -> None:
        """Remove a file, if it is there, and its folder if that is empty then."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        if path.parent != self.root:
            with contextlib.suppress(OSError):  # there is something in it, or another process was quicker
                path.parent.rmdir()

    def rename(self, name: str, other: str) -> None:
        """Give a file another name."""
        self.path(name).replace(self.path(other))

    def size(self, name: str) -> int | None:
        """Bytes of a file; nothing where there is none."""
        path = self.path(name)
        try:
            about = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        _require_plain(path, about)
        return about.st_size

    def at_hand(self, name: str) -> Storage:
        """Files are at hand here."""
        del name
        return self

    def _written(self, name: str, content: Content) -> Path:
        """The content beside where it belongs, on the disk, under a name that nobody else takes."""
        path = self.path(name)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                for piece in [content] if isinstance(content, bytes) else content:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _drop(partial)
            raise _trouble(path, error) from error
        except BaseException:
            _drop(partial)
            raise
        return partial


def parts_of(name: str) -> list[str]:
    """A name's parts; raises `InputError` where they lead anywhere but down."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InputError(f"{name!r} is no name of a file in a folder")
    return parts


def _require_plain(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path} is no plain file; remove it")


def _drop(partial: Path) -> None:
    """Remove what was begun, as far as it is there; what went wrong is said by who calls."""
    with contextlib.suppress(OSError):
        partial.unlink()


def _linked(partial: Path, path: Path) -> bool:
    """Give a whole file its name, unless the name is taken."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        try:  # a disk without hard links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        partial.replace(path)
    return True


def _trouble(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror or error}")
