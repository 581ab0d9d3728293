"""Named arrays in a file, as safetensors: written piece by piece, read array by array or row by row.

The format is that of https://github.com/huggingface/safetensors: eight bytes with the length of a JSON header, the
header (of each array its type, shape and place), the arrays. Nothing is believed before it is checked.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxmoe.errors import InputError
from jaxmoe.training.storage import Storage

LARGEST_HEADER = 64 * 2**20  # bytes
LARGEST_ARRAY, MOST_AXES = 2**48, 32  # numbers, axes
PIECE_BYTES = 16 * 2**20  # at most, of an array that is copied at once
_TYPES: dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

ReadRows = Callable[[str, Sequence[int]], np.ndarray]  # the rows of the array of a name


class CorruptFileError(InputError):
    """A file that is not what was written."""


class Parts(NamedTuple):
    """An array that comes in parts, one after the other along its leading axis."""

    dtype: Any
    shape: tuple[int, ...]
    parts: Callable[[], Iterator[np.ndarray]]


class Place(NamedTuple):
    """Where an array is in its file."""

    dtype: Any
    shape: tuple[int, ...]
    begin: int  # bytes from the beginning of the file


def pieces(arrays: Mapping[str, np.ndarray | Parts], about: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The content of a file, piece by piece, so that no second copy of all arrays is made.

    Args:
        arrays: by name.
        about: texts that are kept beside them.
    """
    header: dict[str, Any] = {"__metadata__": dict(about)} if about else {}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + math.prod(array.shape) * array.dtype.itemsize
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        for part in array.parts() if isinstance(array, Parts) else [array]:
            flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            for begin in range(0, len(flat), PIECE_BYTES):
                yield flat[begin : begin + PIECE_BYTES].tobytes()


def read_header(storage: Storage, name: str) -> tuple[dict[str, Place], dict[str, str]]:
    """Where each array of a file is, and the texts beside them.

    Raises:
        CorruptFileError: the file is no safetensors.
    """
    length = int.from_bytes(storage.read(name, 0, 8), "little")
    size = storage.size(name) or 0
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise CorruptFileError(f"{name} is no safetensors file")
    try:
        header = json.loads(storage.read(name, 8, length))
        about = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        places = {str(key): _place(entry, 8 + length) for key, entry in header.items()}
        _require_whole(places, 8 + length, size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{name} is no safetensors file ({error})") from None
    return places, about


def read_arrays(storage: Storage, name: str, rows: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file; or these rows of each, along its leading axis, without reading the others."""
    places, _ = read_header(storage, name)
    return {key: read_array(storage, name, place, rows) for key, place in places.items()}


def read_array(storage: Storage, name: str, place: Place, rows: Sequence[int] | None = None) -> np.ndarray:
    """An array of a file, or rows of it."""
    if rows is None:
        return _array(storage, name, place.dtype, place.shape, place.begin)
    if not place.shape:
        raise CorruptFileError(f"{name} holds a number where rows are expected")
    row = place.shape[1:]
    stride = math.prod(row) * place.dtype.itemsize
    if any(not 0 <= number < place.shape[0] for number in rows):
        raise CorruptFileError(f"{name} has {place.shape[0]} rows")
    runs, found, filled = list(_runs(rows)), np.empty((0, *row), place.dtype), 0
    for first, count in runs:
        part = _array(storage, name, place.dtype, (count, *row), place.begin + first * stride)
        if len(runs) == 1:
            return part
        found = found if filled else np.empty((len(rows), *row), place.dtype)
        found[filled : filled + count] = part
        filled += count
    return found


def rows_of(storage: Storage, file: str, prefix: str = "") -> ReadRows:
    """Reads rows of the arrays of a file."""
    places, _ = read_header(storage, file)

    def read(name: str, rows: Sequence[int]) -> np.ndarray:
        if prefix + name not in places:
            raise CorruptFileError(f"{file} lacks {name}")
        return read_array(storage, file, places[prefix + name], rows)

    return read


def _array(storage: Storage, name: str, dtype: Any, shape: tuple[int, ...], begin: int) -> np.ndarray:
    length = math.prod(shape) * dtype.itemsize
    content = storage.read(name, begin, length)
    if len(content) != length:
        raise CorruptFileError(f"{name} ends early")
    return np.frombuffer(content, dtype).reshape(shape)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring rows together: the first, and how many.

    >>> list(_runs([3, 4, 5, 9]))
    [(3, 3), (9, 1)]
    """
    begin = 0
    for position in range(1, len(rows) + 1):
        if position == len(rows) or rows[position] != rows[position - 1] + 1:
            yield rows[begin], position - begin
            begin = position


def _place(entry: Mapping[str, Any], base: int) -> Place:
    dtype, shape, (begin, end) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError("a shape or a place is no count")
    if len(shape) > MOST_AXES or math.prod(filter(None, shape)) > LARGEST_ARRAY:
        raise ValueError("an array has a shape that none has")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array is larger or smaller than its place")
    return Place(dtype, shape, base + begin)


def _require_whole(places: Mapping[str, Place], begin: int, end: int) -> None:
    """Refuse arrays that overlap, leave holes or lie outside of the file."""
    for place in sorted(places.values(), key=lambda place: (place.begin, math.prod(place.shape))):
        if place.begin != begin:
            raise ValueError("arrays overlap, or leave holes")
        begin += math.prod(place.shape) * place.dtype.itemsize
    if begin != end:
        raise ValueError("the file is longer or shorter than its arrays")
