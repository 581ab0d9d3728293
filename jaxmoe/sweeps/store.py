"""The folder of a sweep, built to lose nothing.

    manifest.json     the spec, the table's digest, the shard, chunk widths, and every finished part with its checksums
    spec.toml         the spec again, for people and for the next sweep
    agents.parquet    who is planned
    chunks/NAME/      the files of a finished part, written beside it and renamed as a whole
    chunks/NAME.checkpoint/   where an unfinished part stands
    results.parquet, curves.parquet, prompts.parquet, references.parquet, policies.safetensors   when all is done

A part counts once the manifest names it. Whatever a killed process leaves behind beyond that is thrown away.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jaxmoe.errors import InputError
from jaxmoe.files import write_whole
from jaxmoe.sweeps.spec import SweepSpec, first_difference, load_spec

FORMAT = 1
MANIFEST = "manifest.json"
SPEC = "spec.toml"
CHUNKS = "chunks"

Writers = Mapping[str, Callable[[Path], Any]]  # file name -> what writes it


class Store:
    """A sweep's folder, held by this process until `close`."""

    def __init__(self, folder: str | os.PathLike[str], spec: SweepSpec, identity: Mapping[str, Any]) -> None:
        """Open the folder, or make it; `identity` is what else must be the same whenever the sweep goes on.

        Raises:
            InputError: another process works in it, it holds something else or the sweep of another spec, or a file in
                it is damaged.
        """
        self.folder = Path(folder)
        if self.folder.exists() and not (self.folder / MANIFEST).is_file() and not _is_abandoned(self.folder):
            raise InputError(f"{folder} exists already and holds no sweep; choose another output folder")
        with writing(self.folder):
            (self.folder / CHUNKS).mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            if (self.folder / MANIFEST).is_file():
                self.manifest = self._resume(spec, identity)
            else:
                self.manifest = {
                    "format": FORMAT,
                    "spec": spec.model_dump(mode="json"),
                    **identity,
                    "widths": {},
                    "done": {},
                }
                with writing(self.folder):
                    write_whole(self.folder / SPEC, lambda path: _write_text(path, spec.to_toml()), overwrite=True)
                self._save()
            self._sweep_up()
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each finished part."""
        return self.manifest["done"]

    @property
    def widths(self) -> dict[str, int]:
        """Agents of a chunk, for each program, once it is known."""
        return self.manifest["widths"]

    def set_width(self, group: int, width: int) -> None:
        """Freeze the chunk width of a program."""
        self.widths[str(group)] = width
        self._save()

    def add(self, name: str, writers: Writers, **about: Any) -> None:
        """Store a finished part: its files, then its mention in the manifest."""
        partial = self.folder / CHUNKS / f".{name}.partial"
        with writing(partial):
            partial.mkdir()
            for file, write in writers.items():
                write(partial / file)
                _flush(partial / file)
            partial.replace(self.path(name))
        files = {file: _checksum(self.path(name) / file) for file in writers}
        self.done[name] = {**about, "files": files}
        self._save()
        shutil.rmtree(self.checkpoint(name), ignore_errors=True)

    def adopt(self, name: str, source: Path, about: dict[str, Any]) -> None:
        """Store a part that another sweep's folder holds."""
        self.add(name, {file: _copier(source / file) for file in about["files"]}, **_without_files(about))

    def path(self, name: str) -> Path:
        """Folder of a finished part."""
        return self.folder / CHUNKS / name

    def checkpoint(self, name: str) -> Path:
        """Folder of an unfinished part."""
        return self.folder / CHUNKS / f"{name}.checkpoint"

    def write(self, file: str, write: Callable[[Path], Any]) -> None:
        """Write a file of the finished sweep."""
        with writing(self.folder / file):
            write_whole(self.folder / file, write, overwrite=True)

    def close(self) -> None:
        """Let other processes work in the folder."""
        self._lock.release()

    def _resume(self, spec: SweepSpec, identity: Mapping[str, Any]) -> dict[str, Any]:
        manifest = read_manifest(self.folder)
        if difference := first_difference(load_spec(manifest["spec"]), spec):
            raise InputError(
                f"{self.folder} holds the sweep of another spec: {difference}; choose another output folder"
            )
        for name, value in identity.items():
            if manifest[name] != value:
                raise InputError(
                    f"{self.folder} was begun with {name} {manifest[name]}, not {value}; choose another output folder"
                )
        manifest["done"] = check_parts(self.folder, manifest)
        return manifest

    def _sweep_up(self) -> None:
        """Throw away what a killed process has left unfinished, but its checkpoints."""
        kept = {*self.done, *(self.checkpoint(name).name for name in self._unfinished())}
        for path in (self.folder / CHUNKS).iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self.folder.glob(".*.partial"):
            path.unlink()

    def _unfinished(self) -> Iterable[str]:
        names = (path.name.removesuffix(".checkpoint") for path in (self.folder / CHUNKS).glob("*.checkpoint"))
        return (name for name in names if name not in self.done)

    def _save(self) -> None:
        text = json.dumps(self.manifest, indent=1) + "\n"
        with writing(self.folder / MANIFEST):
            write_whole(self.folder / MANIFEST, lambda path: _write_text(path, text), overwrite=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a file that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}; what is finished is kept, and the same command goes "
            "on from there"
        ) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep's folder."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} holds no sweep: there is no {MANIFEST} in it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or "spec" not in manifest or "done" not in manifest:
        raise InputError(f"{path} is not the manifest of a sweep")
    if manifest["format"] != FORMAT:
        raise InputError(f"{path} has format {manifest['format']}, and this version of jaxmoe reads format {FORMAT}")
    return manifest


def check_parts(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The finished parts whose folders are there, each file compared with its checksum.

    A part whose folder is missing counts as not done. Raises `InputError` for a damaged file.
    """
    present = {name: about for name, about in manifest["done"].items() if (folder / CHUNKS / name).is_dir()}
    for name, about in present.items():
        for file, expected in about["files"].items():
            path = folder / CHUNKS / name / file
            if not path.is_file() or _checksum(path) != expected:
                raise InputError(
                    f"{path} is damaged: it is not what {MANIFEST} says it was; delete the folder {path.parent} to "
                    "have this part alone done again"
                )
    return present


def _is_abandoned(folder: Path) -> bool:
    """Whether the folder holds nothing, or only what a process leaves that is killed before its first manifest."""
    return folder.is_dir() and all(
        path.name in (CHUNKS, SPEC, ".lock") or path.suffix == ".partial" for path in folder.iterdir()
    )


def _locked(folder: Path) -> FileLock:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is at work in {folder}; wait for it, or choose another output folder"
        ) from None
    return lock


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copier(source: Path) -> Callable[[Path], Any]:
    return lambda path: shutil.copyfile(source, path)


def _without_files(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name != "files"}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
    _flush(path)


def _flush(path: Path) -> None:
    """Have the file on the disk before its name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
