"""GGUF, the file format of llama.cpp: a whole model, tokenizer included, in one file.

    header      "GGUF", version, number of tensors, number of metadata entries
    metadata    name, type, value; one after the other: "llama.block_count", uint32, 30
    tensors     name, sizes, type, offset; one after the other
    data        the numbers of the tensors, each beginning at a multiple of the alignment

A file can claim anything: 2**60 strings, say. So every count is held against the bytes that are
left before anything is made for it.
Source: ggml's docs/gguf.md. Lesson 20 reads the format by hand.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import check_start

# Type numbers of ggml.h, for the types that are read and for those that an error can name.
# fmt: off
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS",
    17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S",
    23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}
# The types that are read: numbers in a block, and its bytes. weights/gguf_blocks.py unpacks them.
BLOCK_SIZES = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q4_0": (32, 18),
    "Q4_1": (32, 20),
}
# Values that are numbers: their type in the file, and the letter that stands for them in `struct`.
NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}
# fmt: on
STRING, ARRAY = 8, 9
LARGEST_METADATA = 2**25  # bytes before the data; a vocabulary of 150,000 tokens takes 6 million
MOST_DIMENSIONS = 4  # ggml has no larger tensors


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor is in its file."""

    shape: tuple[int, ...]  # as in PyTorch, rows first; the file has them the other way round
    type: str  # F32, F16, BF16, Q8_0, Q4_0 or Q4_1
    offset: int  # from the beginning of the file
    n_bytes: int


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF file says about itself; the bytes of its tensors are read when asked for."""

    path: Path
    version: int
    metadata: dict[str, Any]  # integers, floats, bools, strings, lists
    tensors: dict[str, GGUFTensor]

    def blocks(self, name: str) -> Tensor:
        """The tensor `name` as it is in the file: one row of bytes a block, (blocks, bytes).

        The bytes are mapped into memory; writing to the result doesn't change the file.
        """
        if name not in self.tensors:
            raise LessonsError(f"no tensor {name!r}", where=str(self.path))
        tensor = self.tensors[name]
        try:
            mapped = np.memmap(self.path, np.uint8, "c", tensor.offset, (tensor.n_bytes,))
        except (OSError, ValueError) as error:  # gone, or shorter than when it was opened
            raise LessonsError(f"can't read it: {error}", where=str(self.path)) from None
        return torch.from_numpy(mapped).view(-1, BLOCK_SIZES[tensor.type][1])


def read_gguf(path: Path | str) -> GGUFFile:
    """Metadata and tensors' places of the GGUF file `path`; what doesn't fit raises, by name."""
    path = Path(path)
    if not path.is_file():  # reading a pipe might never end
        raise LessonsError("no such file", where=str(path), remedy="Name a .gguf file.")
    try:
        with path.open("rb") as file:
            return _read_contents(_Reader(file.read(LARGEST_METADATA), str(path)), path)
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None


class _Reader:
    """Takes values from the beginning of `data` on, and never behind the end."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.place = data, where, 0

    def fail(self, what: str, field: str, remedy: str = "") -> LessonsError:
        return LessonsError(what, where=f"{self.where}, {field}", remedy=remedy)

    def need(self, n_bytes: int, field: str) -> None:
        if n_bytes > (left := len(self.data) - self.place):
            what = f"{n_bytes:,} bytes are announced, but {left:,} are left"
            if len(self.data) == LARGEST_METADATA:
                what += f" of the {LARGEST_METADATA:,} that metadata may take"
            raise self.fail(what, field, "Is the file complete, and is it a GGUF file?")

    def take(self, n_bytes: int, field: str) -> bytes:
        self.need(n_bytes, field)
        self.place += n_bytes
        return self.data[self.place - n_bytes : self.place]

    def numbers(self, letters: str, field: str) -> tuple:
        """Numbers as `struct` calls them: "IQ" is a uint32 and a uint64."""
        return struct.unpack(f"<{letters}", self.take(struct.calcsize(f"<{letters}"), field))

    def string(self, field: str) -> str:
        (n_bytes,) = self.numbers("Q", field)
        try:
            return self.take(n_bytes, field).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("not UTF-8 text", field) from None

    def values(self, kind: int, n_values: int, field: str) -> list:
        """`n_values` numbers or strings."""
        if kind in NUMBERS:
            n_bytes = n_values * struct.calcsize(NUMBERS[kind])
            return np.frombuffer(self.take(n_bytes, field), f"<{NUMBERS[kind]}").tolist()
        if kind != STRING:
            raise self.fail(f"value type {kind} is not one that can be read", field)
        self.need(8 * n_values, field)  # each has its length in front
        return [self.string(field) for _ in range(n_values)]


def _read_contents(reader: _Reader, path: Path) -> GGUFFile:
    check_start(reader.data[:64], reader.where)
    if reader.take(4, "header") != b"GGUF":
        raise reader.fail("not a GGUF file: it doesn't begin with GGUF", "header")
    (version,) = reader.numbers("I", "version")
    if version not in (2, 3):  # a file that is big endian has 3 * 2**24
        raise reader.fail(f"version {version} is not 2 or 3", "version")
    n_tensors, n_entries = reader.numbers("QQ", "header")
    reader.need(n_tensors * 32 + n_entries * 13, "header, number of entries")  # the fewest
    metadata: dict[str, Any] = {}
    for number in range(n_entries):
        key = reader.string(f"metadata entry {number}")
        (kind,) = reader.numbers("I", key)
        inner, n_values = reader.numbers("IQ", key) if kind == ARRAY else (kind, 1)
        values = reader.values(inner, n_values, key)
        metadata[key] = values if kind == ARRAY else values[0]
    described = [_read_description(reader, number) for number in range(n_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment not in [2**power for power in range(21)]:
        what = f"{str(alignment)[:40]} is not a power of two up to 2**20"
        raise reader.fail(what, "general.alignment")
    start = -(-reader.place // alignment) * alignment  # where the data begins: rounded up
    tensors, size = {}, path.stat().st_size
    for name, shape, kind, offset, n_bytes in described:
        if (end := start + offset + n_bytes) > size:
            what = f"it ends at byte {end:,} of a file of {size:,} bytes"
            raise reader.fail(what, f"tensor {name!r}", "Is the download complete?")
        tensors[name] = GGUFTensor(shape, kind, start + offset, n_bytes)
    if len(tensors) != n_tensors:
        raise reader.fail("a tensor is there twice", "tensors")
    return GGUFFile(path, version, metadata, tensors)


def _read_description(reader: _Reader, number: int) -> tuple[str, tuple[int, ...], str, int, int]:
    """A tensor's name, shape, type, offset from where the data begins, and bytes."""
    name = reader.string(f"tensor {number}")
    field = f"tensor {name!r}"
    (n_dimensions,) = reader.numbers("I", field)
    if not 1 <= n_dimensions <= MOST_DIMENSIONS:
        raise reader.fail(f"{n_dimensions} dimensions, not 1 to {MOST_DIMENSIONS}", field)
    sizes = reader.numbers(f"{n_dimensions}Q", field)
    kind, offset = reader.numbers("IQ", field)
    if TYPES.get(kind) not in BLOCK_SIZES:
        what = f"type {TYPES.get(kind, kind)} is not one that can be read"
        raise reader.fail(what, field, f"Known: {', '.join(BLOCK_SIZES)}. Convert it to Q8_0, say.")
    n_values, block_bytes = BLOCK_SIZES[TYPES[kind]]
    if min(sizes) < 1 or sizes[0] % n_values != 0:
        raise reader.fail(f"sizes {sizes} are not whole blocks of {n_values}", field)
    return name, sizes[::-1], TYPES[kind], offset, math.prod(sizes) // n_values * block_bytes
