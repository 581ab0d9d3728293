"""Files that jaxmoe makes in a folder beside those of other people, which stay."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import RootModel

from jaxmoe.errors import InputError
from jaxmoe.training.documents import read_document
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import checksum

LEFT_S = 3600.0  # s, after which nobody is writing an unfinished file any more


class _Files(RootModel[dict[str, list[str]]]):
    """Digests of what was made under a name."""


class Made:
    """Files that can be made again, with a list of what is ours: what is somebody else's is not replaced."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage, self.name = storage, name
        self.folder = name.rpartition("/")[0]
        try:
            found = read_document(storage, name, _Files, "")
        except (FileNotFoundError, InputError):  # then nothing is ours
            found = {}
        self.before: dict[str, list[str]] = found
        self.now: dict[str, list[str]] = {}

    def write(self, file: str, content: bytes) -> None:
        """Make or replace a file. Raises `InputError` where a file of the name is not ours."""
        name, digest = self._name(file), hashlib.sha256(content).hexdigest()
        present = self._digest(name)
        if present is not None:
            if present not in (digest, *self.before.get(file, [])):
                raise InputError(
                    f"{self.storage.where}/{name} is not as jaxmoe made it; it is left alone: give it another name, "
                    "and the same command again"
                )
            if present == digest:
                self.now[file] = [digest]
                return
        self.now[file] = [digest]
        self.before[file] = [*self.before.get(file, []), digest]
        self._note(self.before)  # or a crash would make it a stranger
        self.storage.write(name, content)

    def read(self, file: str) -> bytes | None:
        """A file as it was made; nothing where there is none. Raises `InputError` where it was changed."""
        try:
            content = self.storage.read(self._name(file))
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest() not in self.before.get(file, []):
            raise InputError(
                f"{self.storage.where}/{self._name(file)} is not as jaxmoe made it; remove it, to have it made again"
            )
        return content

    def close(self, remove_others: bool = False) -> None:
        """Write the list; if wanted, remove what was made before and is not any more, and what a kill has left."""
        others = {file: digests for file, digests in self.before.items() if file not in self.now}
        if not remove_others:
            self.now |= others
        else:
            for file, digests in others.items():
                if self._digest(name := self._name(file)) in digests:
                    self.storage.delete(name)
            for name in self.storage.unfinished(f"{self.folder}/", LEFT_S):
                self.storage.delete(name)
        self._note(self.now)

    def _name(self, file: str) -> str:
        return f"{self.folder}/{file}" if self.folder else file

    def _digest(self, name: str) -> str | None:
        """Of what is there; nothing where there is no such file."""
        return None if self.storage.size(name) is None else checksum(self.storage, name)

    def _note(self, files: Mapping[str, list[str]]) -> None:
        self.storage.write(self.name, json.dumps(files, indent=1, sort_keys=True).encode())
