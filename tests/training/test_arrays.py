"""Arrays in files: what safetensors reads and writes, and nothing that is not."""

import contextlib
import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from jaxmoe.training import arrays
from jaxmoe.training.arrays import CorruptFileError, Parts, pieces, read_arrays, read_header
from jaxmoe.training.storage import Folder, Memory

TYPES = [bool, "u1", "i1", "u2", "i2", "f2", ml_dtypes.bfloat16, "u4", "i4", "f4", "u8", "i8", "f8"]


def sample(dtype, shape=(5, 3)):
    numbers = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
    return (numbers % 2 == 0) if dtype is bool else numbers.astype(dtype)


ARRAYS = {str(np.dtype(dtype)): sample(dtype) for dtype in TYPES}
ARRAYS |= {"one": np.array(2.5, "f4"), "none": np.zeros((0, 4), np.float32), "deep": sample("i4", (2, 1, 3, 2))}


def stored(content, name="file"):
    storage = Memory()
    storage.write(name, content)
    return storage


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


def test_all_types_and_shapes_are_read_as_they_were_written():
    assert_same(read_arrays(stored(pieces(ARRAYS)), "file"), ARRAYS)


def test_the_library_reads_what_is_written_here():
    found = dict(safetensors.deserialize(b"".join(pieces(ARRAYS, {"why": "a test"}))))
    assert {name: (of["shape"], bytes(of["data"])) for name, of in found.items()} == {
        name: (list(array.shape), array.tobytes()) for name, array in ARRAYS.items()
    }
    assert {name: of["dtype"] for name, of in found.items()} == {
        name: arrays._NAMES[array.dtype] for name, array in ARRAYS.items()
    }


def test_what_the_library_writes_is_read_here(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "file", {"who": "the library"})
    folder = Folder(tmp_path)
    assert_same(read_arrays(folder, "file"), ARRAYS)
    assert read_header(folder, "file")[1] == {"who": "the library"}


def test_texts_are_kept_beside_arrays():
    assert read_header(stored(pieces({}, {"a": "1"})), "file") == ({}, {"a": "1"})
    assert read_header(stored(pieces({})), "file") == ({}, {})


def test_an_array_may_come_in_parts_and_in_any_layout():
    whole = sample("f4", (7, 2))
    parts = Parts(whole.dtype, whole.shape, lambda: iter([whole[:3], whole[3:3], whole[3:]]))
    turned = np.asfortranarray(whole)
    assert_same(
        read_arrays(stored(pieces({"parts": parts, "turned": turned})), "file"), {"parts": whole, "turned": whole}
    )


def test_no_piece_is_large(monkeypatch):
    monkeypatch.setattr(arrays, "PIECE_BYTES", 16)
    found = list(pieces({"a": sample("f4", (5, 3))}))
    assert max(map(len, found[1:])) == 16
    assert_same(read_arrays(stored(found), "file"), {"a": sample("f4", (5, 3))})


@given(st.lists(st.integers(0, 6), max_size=10))
def test_rows_are_read_in_any_order(rows):
    found = read_arrays(stored(pieces({"a": sample("i2", (7, 3)), "b": sample("f8", (7,))})), "file", rows)
    assert_same(found, {"a": sample("i2", (7, 3))[rows], "b": sample("f8", (7,))[rows]})


def test_rows_are_read_alone(monkeypatch):
    storage = stored(pieces({"a": sample("u1", (1000, 8))}))
    read, lengths = storage.read, []

    def noted(name, start=0, length=None):
        lengths.append(length)
        return read(name, start, length)

    monkeypatch.setattr(storage, "read", noted)
    read_arrays(storage, "file", [3, 4, 5, 900])
    assert lengths[2:] == [24, 8]


@pytest.mark.parametrize("rows", [[7], [-1], [0, 100]])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(CorruptFileError, match="file has 7 rows"):
        read_arrays(stored(pieces({"a": sample("i2", (7, 3))})), "file", rows)
    with pytest.raises(CorruptFileError, match="where rows are expected"):
        read_arrays(stored(pieces({"a": np.array(1, "f4")})), "file", [0])


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HOSTILE = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "no header": with_header(b""),
    "a huge length": with_header({}, length=2**63),
    "a length beyond the file": with_header({}, length=3),
    "no JSON": with_header(b"{'a': 1}"),
    "no text": with_header(b"\xff\xfe{}"),
    "a list": with_header([]),
    "a number": with_header(b"17"),
    "deep nesting": with_header(b"[" * 100_000),
    "texts that are a list": with_header({"__metadata__": []}),
    "an array that is a list": with_header({"a": []}),
    "an array without a type": with_header({"a": {"shape": [], "data_offsets": [0, 0]}}),
    "an unknown type": with_header({"a": entry(dtype="F4")}, bytes(8)),
    "a type that is a list": with_header({"a": entry(dtype=["F32"])}, bytes(8)),
    "a negative shape": with_header({"a": entry((-1, -2))}, bytes(8)),
    "a shape of fractions": with_header({"a": entry((2.0,))}, bytes(8)),
    "a shape without limit": with_header(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}', bytes(8)),
    "a shape of texts": with_header({"a": entry(("2",))}, bytes(8)),
    "a shape that is true": with_header({"a": entry((True, 2))}, bytes(8)),
    "a hundred axes": with_header({"a": entry([2] + [1] * 99)}, bytes(8)),
    "an empty array of a huge shape": with_header({"a": entry([0, 2**62, 2**62], 0, 0)}),
    "a shape that is too large": with_header({"a": entry((3,))}, bytes(8)),
    "a huge shape": with_header({"a": entry([2**40], 0, 2**42)}, bytes(8)),
    "offsets outside of the file": with_header({"a": entry((2,), 8, 16)}, bytes(8)),
    "offsets before the arrays": with_header({"a": entry((2,), -8, 0)}, bytes(8)),
    "offsets that go back": with_header({"a": entry((2,), 8, 0)}, bytes(8)),
    "one offset": with_header({"a": entry() | {"data_offsets": [0]}}, bytes(8)),
    "overlapping arrays": with_header({"a": entry((2,), 0, 8), "b": entry((2,), 4, 12)}, bytes(12)),
    "the same place twice": with_header({"a": entry(), "b": entry()}, bytes(8)),
    "a hole": with_header({"a": entry((2,), 4, 12)}, bytes(12)),
    "more than the arrays": with_header({"a": entry()}, bytes(9)),
    "less than the arrays": b"".join(pieces(ARRAYS))[:-1],
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(CorruptFileError, match="file is no safetensors file"):
        read_arrays(stored(content), "file")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_flipped_byte_leads_astray(place, flip):
    content = bytearray(b"".join(pieces({"a": sample("f4"), "b": sample(bool)}, {"c": "d"})))
    content[place % len(content)] ^= flip
    with contextlib.suppress(CorruptFileError):
        read_arrays(stored(bytes(content)), "file")


@given(st.binary(max_size=200))
def test_no_bytes_lead_astray(content):
    for each in (content, with_header(content)):
        with pytest.raises(CorruptFileError):
            read_arrays(stored(each), "file")
