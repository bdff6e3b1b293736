"""GGUF files: what is read is what the package `gguf` wrote, and what lies is refused."""

import os
import struct

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import gguf_file
from transformer_lessons.support.gguf_file import BLOCK_SIZES, TYPES, read_gguf
from transformer_lessons.weights.gguf_blocks import (
    AT_A_TIME,
    DEQUANTIZE,
    dequantize,
    gguf_tensor,
)

from .gguf_writing import entry, pack, raw_file, tensor, text, u32, u64

KINDS = sorted(BLOCK_SIZES)


def write(path, content):
    path.write_bytes(content)
    return path


def refusal(path, content):
    with pytest.raises(LessonsError) as caught:
        read_gguf(write(path, content))
    assert str(path) in caught.value.where
    return caught.value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a [b] ü.gguf"


# What is read


def test_every_kind_of_metadata_is_read(path):  # SPEC G5
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65_535)
    writer.add_int16("i16", -32_768)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "é 日\n")
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.add_array("bools", [True, False])
    writer.add_array("texts", ["a", "", "ü"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.version == 3
    assert file.tensors == {}
    expected = {
        "general.architecture": "llama",
        "u8": 255,
        "i8": -128,
        "u16": 65_535,
        "i16": -32_768,
        "u32": 2**32 - 1,
        "i32": -(2**31),
        "u64": 2**64 - 1,
        "i64": -(2**63),
        "f32": float(np.float32(0.1)),
        "f64": 0.1,
        "yes": True,
        "no": False,
        "text": "é 日\n",
        "ints": [1, -2, 3],
        "floats": [0.5, -1.5],
        "bools": [True, False],
        "texts": ["a", "", "ü"],
    }
    assert file.metadata == expected
    assert list(file.metadata) == list(expected)
    assert {key: type(value) for key, value in file.metadata.items()} == {
        key: type(value) for key, value in expected.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alignment", [32, 1, 4096])
def test_tensors_of_every_type_are_read(path, kind, alignment):  # SPEC G5
    dice = np.random.default_rng(0)
    writer, left = gguf.GGUFWriter(path, "llama"), {}
    writer.add_custom_alignment(alignment)
    for name, shape in [("one", (96,)), ("two", (5, 64)), ("three", (2, 3, 32)), ("odd", (3, 32))]:
        numbers = dice.normal(size=shape).astype(np.float32) * 3
        packed, left[name] = pack(numbers, kind)
        writer.add_tensor(name, packed, raw_dtype=Type[kind])
        assert np.abs(left[name] - numbers).max() < 1.0
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert list(file.tensors) == list(left)
    before = path.read_bytes()
    for name, numbers in left.items():
        assert file.tensors[name].type == kind
        assert file.tensors[name].shape == numbers.shape
        assert np.array_equal(gguf_tensor(file, name).numpy(), numbers), name
        wide = gguf_tensor(file, name, torch.float64)
        assert torch.equal(wide, torch.tensor(numbers, dtype=torch.float64))
        rounded = gguf_tensor(file, name, torch.bfloat16)
        assert torch.equal(rounded, torch.tensor(numbers).bfloat16())
        rounded.zero_()
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_the_numbers_that_ggml_says(kind):  # SPEC G5
    dice = np.random.default_rng(1)
    rows = dice.integers(0, 256, (4_000, BLOCK_SIZES[kind][1]), dtype=np.uint8)
    # Scales that are inf or nan are somebody's mistake; any other bit pattern is a number.
    with np.errstate(invalid="ignore", over="ignore"):
        theirs = gguf.quants.dequantize(rows.copy(), Type[kind]).astype(np.float32)
    own = dequantize(torch.from_numpy(rows), kind).view(theirs.shape).numpy()
    fine = np.isfinite(theirs)
    assert fine.mean() > 0.8
    assert np.array_equal(own[fine], theirs[fine])
    assert not np.isfinite(own[~fine]).any()


def test_more_blocks_than_are_unpacked_at_a_time():  # SPEC G5
    n = 2 * AT_A_TIME + 3
    numbers = torch.arange(n, dtype=torch.float32)
    packed = numbers.view(torch.uint8).view(n, 4)
    assert torch.equal(dequantize(packed, "F32"), numbers)


def test_sizes_and_types_are_those_of_ggml():  # SPEC G5
    assert DEQUANTIZE.keys() == BLOCK_SIZES.keys()
    for kind, sizes in BLOCK_SIZES.items():
        assert gguf.GGML_QUANT_SIZES[Type[kind]] == sizes
    for number, name in TYPES.items():
        assert Type(number).name == name


def test_version_2_is_read(path):  # SPEC G5
    numbers = np.arange(8, dtype=np.float32)
    content = raw_file(
        [entry("a", 4, u32(7))], [tensor("t", [4, 2], 0, 0)], numbers.tobytes(), version=2
    )
    file = read_gguf(write(path, content))
    assert file.version == 2
    assert file.metadata == {"a": 7}
    assert gguf_tensor(file, "t").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_tensor_that_is_not_there(path):  # SPEC S9
    file = read_gguf(write(path, raw_file()))
    with pytest.raises(LessonsError, match="no tensor 'x'"):
        gguf_tensor(file, "x")


def test_a_file_that_became_shorter_or_went_away(path):  # SPEC S9
    write(path, raw_file([], [tensor("t", [8], 0, 0)], bytes(32)))
    file = read_gguf(path)
    write(path, b"GGUF")
    with pytest.raises(LessonsError, match="can't read it"):
        gguf_tensor(file, "t")
    path.unlink()
    with pytest.raises(LessonsError, match="can't read it"):
        gguf_tensor(file, "t")


# What is refused

DATA = bytes(64)
HOSTILE = {
    "nothing": (b"", "4 bytes are announced, but 0 are left"),
    "another format": (b"PK\x03\x04" + bytes(60), "doesn't begin with GGUF"),
    "three bytes": (b"GGU", "4 bytes are announced, but 3 are left"),
    "version 1": (raw_file(version=1), "version 1 is not 2 or 3"),
    "version 4": (raw_file(version=4), "version 4 is not 2 or 3"),
    "big endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "version 50331648 is not 2 or 3"),
    "many entries": (raw_file(n_entries=2**62), "bytes are announced"),
    "many tensors": (raw_file(n_tensors=2**62), "bytes are announced"),
    "a key without end": (raw_file([u64(2**63) + b"a" * 9]), "bytes are announced"),
    "a string without end": (raw_file([entry("a", 8, u64(2**64 - 1))]), "bytes are announced"),
    "a key that is no text": (raw_file([entry(b"\xff\xfe", 4, u32(1))]), "not UTF-8"),
    "a string that is no text": (raw_file([entry("a", 8, text(b"\xc3"))]), "not UTF-8"),
    "no such type": (
        raw_file([entry("a", 13, bytes(8))]),
        "value type 13 is not one that can be read",
    ),
    "an array of no such type": (
        raw_file([entry("a", 9, u32(99) + u64(0))]),
        "value type 99 is not one that can be read",
    ),
    "an array too long": (raw_file([entry("a", 9, u32(0) + u64(2**63))]), "bytes are announced"),
    "strings too many": (
        raw_file([entry("a", 9, u32(8) + u64(2**61) + u64(0))]),
        "18,446,744,073,709,551,616 bytes are announced",  # and not one string has been read
    ),
    "an array of arrays": (
        raw_file([entry("a", 9, u32(9) + u64(2**62) + u32(9) + u64(1))]),
        "value type 9 is not one that can be read",
    ),
    "a tensor twice": (
        raw_file([], [tensor("t", [8], 0, 0), tensor("t", [8], 0, 32)], DATA),
        "a tensor is there twice",
    ),
    "no dimensions": (raw_file([], [tensor("t", [], 0, 0)], DATA), "0 dimensions, not 1 to 4"),
    "five dimensions": (raw_file([], [tensor("t", [1] * 5, 0, 0)], DATA), "5 dimensions"),
    "many dimensions": (
        raw_file([], [text("t") + u32(2**32 - 1) + bytes(40)], DATA),
        "4294967295 dimensions",
    ),
    "a size of 0": (
        raw_file([], [tensor("t", [8, 0], 0, 0)], DATA),
        "sizes (8, 0) are not whole blocks of 1",
    ),
    "half a block": (raw_file([], [tensor("t", [33], 8, 0)], DATA), "not whole blocks of 32"),
    "a type of its own": (raw_file([], [tensor("t", [32], 99, 0)], DATA), "type 99"),
    "a type that isn't read": (raw_file([], [tensor("t", [256], 12, 0)], DATA), "type Q4_K"),
    "a huge tensor": (raw_file([], [tensor("t", [2**62] * 4, 0, 0)], DATA), "it ends at byte"),
    "sizes that wrap around": (
        raw_file([], [tensor("t", [2**32, 2**32], 0, 0)], DATA),
        "it ends at byte",
    ),
    "behind the end": (raw_file([], [tensor("t", [16], 0, 32)], DATA), "it ends at byte"),
    "far behind the end": (
        raw_file([], [tensor("t", [1], 0, 2**64 - 32)], DATA),
        "it ends at byte",
    ),
    "an alignment of 0": (
        raw_file([entry("general.alignment", 4, u32(0))], [tensor("t", [8], 0, 0)], DATA),
        "0 is not a power of two",
    ),
    "an alignment of 48": (
        raw_file([entry("general.alignment", 4, u32(48))], [tensor("t", [8], 0, 0)], DATA),
        "48 is not a power of two",
    ),
    "a huge alignment": (
        raw_file([entry("general.alignment", 10, u64(2**62))], [tensor("t", [8], 0, 0)], DATA),
        "is not a power of two",
    ),
    "an alignment in words": (
        raw_file([entry("general.alignment", 8, text("x" * 99))], [], DATA),
        "is not a power of two",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_lies_is_refused(path, name):  # SPEC S9, G5
    content, what = HOSTILE[name]
    assert what in refusal(path, content).what


def test_the_file_of_43_bytes_on_which_gguf_hangs(path):  # SPEC S9
    # An array of arrays that says it has 2**64 - 1 parts, in a file that ends there.
    content = b"GGUF" + u32(3) + u64(0) + u64(1) + text("aaa") + u32(9) + u32(9) + b"\xff" * 8
    content = content[:43] if len(content) > 43 else content + bytes(43 - len(content))
    assert len(content) == 43
    assert "bytes are announced" in refusal(path, content).what


def test_metadata_has_a_limit(path, monkeypatch):  # SPEC S9
    content = raw_file([entry("a", 8, text("x" * 500))])
    assert read_gguf(write(path, content)).metadata == {"a": "x" * 500}
    monkeypatch.setattr(gguf_file, "LARGEST_METADATA", 400)
    assert "of the 400 that metadata may take" in refusal(path, content).what


def test_a_file_cut_anywhere_is_refused(path):  # SPEC S9
    entries = [entry("a", 9, u32(8) + u64(2) + text("b") + text("c")), entry("d", 12, bytes(8))]
    content = raw_file(entries, [tensor("t", [4, 4], 0, 0), tensor("u", [32], 8, 64)], bytes(98))
    assert len(read_gguf(write(path, content)).tensors) == 2
    for n in range(len(content)):
        refusal(path, content[:n])


def test_what_is_no_file_is_refused(tmp_path):  # SPEC S9
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "absent.gguf", tmp_path / "pipe"):
        with pytest.raises(LessonsError, match="no such file"):
            read_gguf(place)
