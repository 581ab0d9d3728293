"""Tensors of float32 from the bytes of a safetensors file, read strictly; NumPy and the standard library alone.

The format: eight bytes that say how long the header is, a JSON header with type, shape and place of each tensor, then
the numbers. Safetensors files hold nothing that could be executed.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jaxmoe.errors import InputError
from jaxmoe.names import short
from jaxmoe.policy.plain_json import Entry, Reader, parse_json

HEADER_LIMIT = 100_000_000  # bytes, that of the safetensors library

Tensors = dict[str, NDArray[np.float32]]


def read_tensors(content: bytes, source: str) -> Tensors:
    """All tensors of a safetensors file.

    Args:
        content: the whole file.
        source: names the file in errors.

    Raises:
        InputError: the file is cut off, has bytes that belong to no tensor, or tensors of another type.
    """
    if len(content) < 8:
        raise InputError(f"{source} is cut off: it has {len(content)} bytes and no header")
    length = int.from_bytes(content[:8], "little")
    if length > min(HEADER_LIMIT, len(content) - 8):
        raise InputError(f"{source} is cut off or damaged: its header is said to have {length} bytes")
    header = Reader(parse_json(content[8 : 8 + length], f"the header of {source}"), source)
    data = memoryview(content)[8 + length :]
    places = sorted((_place(header.get(name)), name) for name in header.tree if name != "__metadata__")
    tensors, end = {}, 0
    for (begin, stop, shape), name in places:
        if begin != end or stop > len(data):
            raise InputError(
                f"{source}: the tensor {short(name)} lies at bytes {begin} to {stop} of {len(data)}, not at {end}"
            )
        tensors[name], end = np.frombuffer(data[begin:stop], "<f4").reshape(shape).astype(np.float32), stop
    if end != len(data):
        raise InputError(f"{source} has {len(data) - end} bytes that belong to no tensor")
    return tensors


def check_tensors(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raise `InputError` unless the tensors are those with these shapes, and finite."""
    found = {name: tensor.shape for name, tensor in tensors.items()}
    for name in sorted({*shapes, *found}):
        if found.get(name) != shapes.get(name):
            held, said = (str(list(where[name])) if name in where else "absent" for where in (found, shapes))
            raise InputError(f"{source}: the shape of {short(name)} is {held}, and the contract says {said}")
        if not np.isfinite(tensors[name]).all():
            raise InputError(f"{source}: {name!r} holds a number that is infinite or not a number")


def check_weights(tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], sha256: str, source: str) -> None:
    """Raise `InputError` unless the tensors are those with these shapes, and with this checksum."""
    check_tensors(tensors, shapes, source)
    if checksum(tensors, shapes) != sha256:
        raise InputError(f"{source} holds other weights than its contract says")


def checksum(tensors: Tensors, names: Mapping[str, tuple[int, ...]]) -> str:
    """SHA-256 of the tensors, one after the other in the order of the names, as little-endian float32."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return digest.hexdigest()


def _place(entry: Entry) -> tuple[int, int, tuple[int, ...]]:
    """First byte, byte after the last, and shape of a tensor."""
    read = Reader(entry.value, entry.source, entry.path)
    read.choice("dtype", ("F32",))
    shape = read.each("shape", lambda size: size.whole(0, 10**9))
    offsets = read.each("data_offsets", lambda offset: offset.whole(0, 10**12))
    if len(shape) > 8:
        read.get("shape").wrong("a shape of at most eight axes")
    if len(offsets) != 2 or offsets[1] - offsets[0] != 4 * math.prod(shape):
        read.get("data_offsets").wrong(f"the place of {math.prod(shape)} numbers of four bytes, as the shape says")
    return *offsets, shape
