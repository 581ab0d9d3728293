"""Files of an experiment as they were written: JSON documents against a schema, and every file against its checksum.

A document ends with the checksum of all that it says, and says the checksums of the files that it stands for: whoever
changes one of them by hand, or gets it from a damaged disk, is told so before anything is made of it. What an earlier
version wrote without checksums is read against its schema alone.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jaxmoe.errors import InputError
from jaxmoe.strict_json import from_json
from jaxmoe.training.storage import Storage

RESTORE = "restore it from a copy"  # what a user can do about a file that nothing makes again
SEAL = "sha256"  # of the rest of a document
LARGEST = 64 * 2**20  # bytes of a document
Whole = Annotated[int, Field(ge=0, le=2**53)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Document(BaseModel):
    """What has to be in a document; later versions may say more."""

    model_config = ConfigDict(extra="allow", strict=True)


class Noted(Document):
    """Checksum and size of a file."""

    sha256: Digest
    bytes: Whole


def sealed(document: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """A document as a file, with its checksum at its end."""
    return (json.dumps({**document, SEAL: _sum(document)}, indent=indent, allow_nan=False) + "\n").encode()


def read_document(storage: Storage, name: str, schema: type[BaseModel], hint: str) -> dict[str, Any]:
    """What a document says.

    Args:
        storage: of the experiment.
        name: of the file.
        schema: what has to be in it.
        hint: what a user can do if it is damaged.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is no JSON, not of the schema, or not what was written.
    """
    if (storage.size(name) or 0) > LARGEST:
        raise damaged(f"{storage.where}/{name}", "it is larger than any that jaxmoe writes", hint)
    try:
        document = from_json(storage.read(name))
        seal = document.pop(SEAL, None) if isinstance(document, dict) else None
        require_shape(document, schema, f"{storage.where}/{name}", hint)
        changed = seal is not None and seal != _sum(document)
    except InputError:
        raise
    except ValueError:
        raise damaged(f"{storage.where}/{name}", "it is no JSON", hint) from None
    if changed:
        raise damaged(f"{storage.where}/{name}", "it is not what was written", hint)
    return dict(document)


def require_shape(document: Any, schema: type[BaseModel], where: str, hint: str) -> None:
    """Raise `InputError` unless a document says what its schema wants."""
    try:
        schema.model_validate(document)
    except ValidationError as error:
        key = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        why = f"{key} is missing or of another kind" if key else "it is no list of names with values"
        raise damaged(where, why, hint) from None


def noted(content: bytes) -> dict[str, Any]:
    """Checksum and size of what a file will hold."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def read_noted(storage: Storage, name: str, about: Mapping[str, Any] | None, hint: str) -> bytes:
    """A file's bytes, compared with what a document says of them; as they are, if it says nothing.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is not what was written.
    """
    if about is not None and storage.size(name) not in (None, about["bytes"]):
        raise damaged(f"{storage.where}/{name}", "it is not what was written", hint)
    content = storage.read(name)
    if about is not None and hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise damaged(f"{storage.where}/{name}", "it is not what was written", hint)
    return content


def damaged(where: str, why: str, hint: str = RESTORE) -> InputError:
    """What is said of a file that is not what jaxmoe writes."""
    return InputError(f"{where} is damaged: {why}; {hint}")


def _sum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
