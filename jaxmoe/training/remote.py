"""Where an experiment is kept, by address: an object store (`s3://bucket/name`, `gs://bucket/name`), or a folder.

Object stores are reached through fsspec. Their files appear whole, and a conditional put makes a file only where none
is, which is all that several machines need to share an experiment. What passes, as a server that is busy or a
connection that breaks, is tried again for a while.
"""

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, TypeVar

from jaxmoe.errors import InputError, StorageError
from jaxmoe.files import with_home
from jaxmoe.training.storage import Content, Folder, Found, Storage, parts_of

STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "memory": ""}  # and the extra that each needs
PATIENCE_S = 120.0  # s, how long something is tried again
FIRST_PATIENCE_S = 10.0  # s, how long at first, where an address may be wrong
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # s, between two tries
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_PASSING = (None, errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, getattr(errno, "EREMOTEIO", errno.EIO))
_LOST_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/[^/]")  # what pathlib makes of an address

Answer = TypeVar("Answer")
Where = str | os.PathLike[str]


class Remote:
    """Files of an object store that begin with an address."""

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        """Take an address; nothing is asked of the store yet.

        Args:
            address: such as `s3://bucket/name`.
            patience_s: how long what passes is tried again.

        Raises:
            InputError: it is no address of a store that jaxmoe can use, or what reaches it is not installed.
        """
        found = _ADDRESS.fullmatch(address)
        scheme, path = found.groups() if found else ("", "")
        if scheme not in STORES:
            raise InputError(
                f"{address}: experiments are kept in folders, or at an address that begins with s3:// or gs://"
            )
        path = path.strip("/")
        if scheme != "memory" and "/" not in path:
            raise InputError(f"{address} names no place in a bucket; write {scheme}://BUCKET/NAME")
        parts_of(path)
        self.where, self._path, self._patience_s = f"{scheme}://{path}", path, patience_s
        self._store = _file_system(scheme, address)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, from one of them on."""
        if length == 0:
            return b""
        end = None if length is None else start + length

        def read() -> bytes:
            if start == 0 and end is None:
                return bytes(self._store.cat_file(self._name(name)))
            try:
                return bytes(self._store.cat_file(self._name(name), start=start, end=end))
            except OSError as error:
                if "416" in str(error) or "range" in str(error).lower():  # it begins behind the end
                    return b""
                raise

        return self._steadily(name, read)

    def write(self, name: str, content: Content) -> None:
        """Make or replace a file."""
        self._put(name, content, "overwrite")

    def create(self, name: str, content: Content) -> bool:
        """Make a file unless there is one; whether this call has made it."""
        if self.size(name) is not None:
            return False
        whole = content if isinstance(content, bytes) else b"".join(content)
        try:
            self._put(name, whole, "create")
        except FileExistsError:  # made by another process, or by a request of this one whose answer was lost
            return self.read(name) == whole
        return True

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files that begin so, in order."""
        return sorted(self.files(prefix))

    def files(self, prefix: str = "") -> dict[str, Found]:
        """All files that begin so."""
        inside = prefix.rpartition("/")[0]
        top = self._name(inside) if inside else self._path

        def find() -> dict[str, Found]:
            self._store.invalidate_cache()
            found = self._store.find(top, detail=True)
            return {self._relative(path): _found(about) for path, about in found.items()}

        try:
            found = self._steadily(inside, find)
        except FileNotFoundError:
            return {}
        return {name: about for name, about in found.items() if name.startswith(prefix)}

    def unfinished(self, prefix: str, older_than_s: float = 0.0) -> Sequence[str]:
        """There are none: a file that was begun and not completed is not there."""
        del prefix, older_than_s
        return []

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            try:
                self._store.rm_file(self._name(name))
            except FileNotFoundError:
                return

        self._change(name, remove)

    def rename(self, name: str, other: str) -> None:
        """Give a file another name."""
        self._change(other, lambda: self._store.cp_file(self._name(name), self._name(other)))
        self.delete(name)

    def size(self, name: str) -> int | None:
        """Bytes of a file; nothing where there is none."""

        def ask() -> int | None:
            self._store.invalidate_cache()
            about = self._store.info(self._name(name))
            return None if about.get("type") == "directory" else int(about["size"])

        try:
            return self._steadily(name, ask)
        except FileNotFoundError:
            return None

    def at_hand(self, name: str) -> Storage:
        """A file where reading it in many parts costs little: a copy on this machine, as long as it is used."""
        folder = Path(tempfile.mkdtemp(prefix="jaxmoe-"))
        near = Folder(folder)
        weakref.finalize(near, shutil.rmtree, folder, ignore_errors=True)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._steadily(name, lambda: self._store.get_file(self._name(name), str(path)))
        return near

    def require_usable(self) -> None:
        """Find out now whether files can be made, and made only where there are none.

        Raises:
            InputError: they cannot; it says why.
        """
        name = f".probe.{secrets.token_hex(4)}"
        patience, self._patience_s = self._patience_s, min(self._patience_s, FIRST_PATIENCE_S)
        try:
            exclusive = self.create(name, b"1") and not self._creates(name)
            self.delete(name)
        except OSError as error:
            raise StorageError(f"{self.where} cannot be used: {error.strerror or error}") from None
        finally:
            self._patience_s = patience
        if not exclusive:
            raise InputError(
                f"{self.where}: this store makes a file although there is one (it ignores If-None-Match), so that an "
                "experiment could lose results there; choose another one"
            )

    def _creates(self, name: str) -> bool:
        """Whether a file is made that is there already."""
        try:
            self._put(name, b"2", "create")
        except FileExistsError:
            return False
        return True

    def _name(self, name: str) -> str:
        parts_of(name)
        return f"{self._path}/{name}"

    def _relative(self, path: str) -> str:
        return path.lstrip("/").removeprefix(f"{self._path}/")

    def _put(self, name: str, content: Content, mode: str) -> None:
        """Upload a file that is complete here first: none is ever seen in part."""
        path = self._name(name)
        if isinstance(content, bytes):
            whole = content
            self._change(name, lambda: self._store.pipe_file(path, whole, mode=mode))
            return
        with tempfile.NamedTemporaryFile(prefix="jaxmoe-") as file:
            try:
                for piece in content:
                    file.write(piece)
                file.flush()
            except OSError as error:
                raise StorageError(f"{file.name}, to be uploaded, cannot be written: {error.strerror}") from None
            self._change(name, lambda: self._store.put_file(file.name, path, mode=mode))

    def _change(self, name: str, action: Callable[[], Any]) -> None:
        try:
            self._steadily(name, action)
        except FileExistsError:
            raise
        except OSError as error:
            raise StorageError(f"{self.where}/{name} cannot be written: {error.strerror or error}") from None

    def _steadily(self, name: str, action: Callable[[], Answer]) -> Answer:
        """What an action gives; tried again while what goes wrong may pass."""
        began, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return action()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:
                if _says_that_it_exists(error):
                    raise FileExistsError(errno.EEXIST, "there is such a file", f"{self.where}/{name}") from None
                said = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
                passes = _passes(error)
                if not passes or time.monotonic() - began + pause > self._patience_s:
                    raise OSError(errno.EIO if passes else errno.EACCES, said, f"{self.where}/{name}") from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def is_address(where: Any) -> bool:
    """Whether it is the address of a store, not the path of a folder.

    >>> is_address("s3://bucket/name"), is_address("runs/mine")
    (True, False)
    """
    if isinstance(where, PurePath) and _LOST_SLASH.match(str(where)):
        raise InputError(f"{where} is no path: give the address as a text, as in 's3://bucket/name'")
    return isinstance(where, str) and _ADDRESS.fullmatch(where) is not None and not where.startswith("file://")


def storage_at(where: Where) -> Storage:
    """The storage of an address or of a folder, which need not be there."""
    if is_address(where):
        return Remote(os.fspath(where))
    return Folder(path_of(where))


def path_of(where: Where) -> Path:
    """A path as its user means it: `~` is the home folder, and a relative one is seen from where the process is now."""
    text = os.fspath(where) if isinstance(where, str | os.PathLike) else where
    return with_home(text.removeprefix("file://") if isinstance(text, str) else text).absolute()


def _found(about: dict[str, Any]) -> Found:
    written = about.get("LastModified") or about.get("mtime") or about.get("created")
    return Found(int(about["size"]), written.timestamp() if isinstance(written, datetime) else None)


def _file_system(scheme: str, address: str) -> Any:
    """What reaches a store; nothing of it is remembered, because other machines change it."""
    import fsspec  # slow to import, as what it imports

    try:
        if scheme == "memory":
            return fsspec.filesystem("memory")
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if STORES[scheme] == "s3":
            options["config_kwargs"] = {"retries": {"total_max_attempts": 1}}  # `_steadily` tries again
        store = fsspec.filesystem(scheme, **options)
        store.retries = 1
        return store
    except ImportError as error:
        raise InputError(
            f"{address} needs what is not installed ({error}): pip install 'jaxmoe[{STORES[scheme]}]'"
        ) from None


def _passes(error: Exception) -> bool:
    """Whether what went wrong may pass: a busy server, a broken connection, but not a missing permission."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError | ValueError):
        return False
    if isinstance(error, OSError):
        return error.errno in _PASSING
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "HttpError" in kinds:  # of gcsfs
        return str(getattr(error, "code", "")) in ("429", "500", "502", "503", "504")
    return bool(
        kinds
        & {
            "HTTPClientError",
            "EndpointConnectionError",
            "ClientConnectionError",
            "ClientPayloadError",
            "ResponseParserError",
        }
    )


def _says_that_it_exists(error: Exception) -> bool:
    """Whether a store answers that the condition of a conditional put, that there is no such file, does not hold."""
    answer = getattr(error.__cause__, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else getattr(error, "code", None)
    return str(code) in ("PreconditionFailed", "412")
