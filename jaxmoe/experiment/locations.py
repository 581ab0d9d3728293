"""Folders and addresses of experiments: new ones, and those that hold one already."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmoe.errors import InputError, StorageError
from jaxmoe.experiment.folder import EXPERIMENT, read_about, without_experiment
from jaxmoe.training.remote import Remote, Where, is_address, path_of, storage_at
from jaxmoe.training.storage import Folder, Storage

LOCK = ".lock"
_OURS_BEFORE = re.compile(
    rf"\.{re.escape(EXPERIMENT)}\.[0-9a-f]{{8}}\.partial|{re.escape(LOCK)}|\.probe\.[0-9a-f]{{8}}"
)
_LEAST_FREE = 16 * 2**20  # bytes, beside what a job writes


def open_location(out: Where) -> tuple[Storage, bool]:
    """A folder or an address to write into, made if it is not there; and whether it holds an experiment.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    return _open_address(Remote(str(out))) if is_address(out) else _open_folder(path_of(out))


def is_there(out: Where) -> bool:
    """Whether an experiment was begun in a folder or at an address; nothing is made."""
    return storage_at(out).size(EXPERIMENT) is not None


def location_of(source: Where) -> Storage:
    """The folder or the address of an experiment that is there."""
    storage = storage_at(source)
    if isinstance(storage, Folder) and not storage.root.is_dir():
        path = storage.root
        raise InputError(f"{path} is a file, not a folder" if path.exists() else f"{path}: there is no such folder")
    read_about(storage)
    return storage


def copied(storage: Storage, out: Where) -> Storage:
    """All files of an experiment in a new or empty folder; `experiment.json` last, so that a part is none."""
    there, holds = open_location(out)
    if holds:
        raise InputError(f"{there.where} holds an experiment already; choose another folder")
    names = storage.list()
    for name in sorted(names, key=lambda name: name == EXPERIMENT):
        there.create(name, storage.read(name))
    return there


def require_space(storage: Storage, needed: int) -> None:
    """Raise `InputError` where the disk of a folder is too full for a job."""
    if not isinstance(storage, Folder):
        return
    free = shutil.disk_usage(storage.root).free
    if free < needed + _LEAST_FREE:
        raise StorageError(
            f"{storage.root}: {free / 2**20:,.0f} MiB are free, and the first job needs "
            f"{(needed + _LEAST_FREE) / 2**20:,.0f} MiB; free some, or choose another disk"
        )


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Keep a second driver on this machine out, where locks work."""
    if not isinstance(storage, Folder):
        yield
        return
    from filelock import FileLock, Timeout  # slow to import, and only who writes needs it

    lock = FileLock(storage.path(LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is at work in {storage.where}; wait for it, or share the work with --shard i/n"
        ) from None
    except OSError as error:
        raise StorageError(f"{storage.where} cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def _open_folder(path: Path) -> tuple[Storage, bool]:
    try:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path} is a symbolic link to nothing; choose another output folder")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, not a folder; choose another output folder")
        path.mkdir(parents=True, exist_ok=True)
        names = sorted(each.name for each in path.iterdir())
    except OSError as error:
        raise StorageError(f"{path} cannot be made or read: {error.strerror or error}") from None
    folder = Folder(path)
    if EXPERIMENT in names:
        return folder, True
    if "manifest.json" in names:
        raise InputError(f"{path} {without_experiment(folder)}")
    if others := [name for name in names if not _OURS_BEFORE.fullmatch(name)]:
        raise InputError(
            f"{path} holds {others[0]!r} and no experiment; choose a new or an empty folder, in which nothing is lost"
        )
    _require_writable(folder)
    return folder, False


def _open_address(store: Remote) -> tuple[Storage, bool]:
    if store.size(EXPERIMENT) is not None:
        return store, True
    if others := [name for name in store.list() if not _OURS_BEFORE.fullmatch(name)]:
        raise InputError(
            f"{store.where} holds {others[0]!r} and no experiment; choose a new address, at which nothing is lost"
        )
    store.require_usable()
    return store, False


def _require_writable(folder: Folder) -> None:
    """Find out now whether files can be made here."""
    name = f".{EXPERIMENT}.{os.urandom(4).hex()}.partial"
    path = folder.root / name
    try:
        path.touch(exist_ok=False)
        path.unlink()
    except OSError as error:
        raise StorageError(f"{folder.root} cannot be written: {error.strerror or error}") from None
