"""GGUF, the file format of llama.cpp: a whole model, tokenizer included, in one file.

    header      "GGUF", version, number of tensors, number of metadata entries
    metadata    name, type, value; one after the other: "llama.block_count", uint32, 30
    tensors     name, sizes, type, offset; one after the other
    data        the numbers of the tensors, each beginning at a multiple of the alignment

Versions 2 and 3 are read, in little endian; version 3 added files in big endian, which are refused.
Every size is held against the size of the file before anything is made for it.
Source: ggml's docs/gguf.md.
"""

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.weights.gguf_blocks import BLOCKS, TYPES, dequantize
from transformer_lessons.weights.gguf_values import (
    ByteReader,
    read_numbers,
    read_string,
    read_value,
)

MOST_DIMENSIONS = 4  # ggml has no larger tensors
ENTRY = 8 + 4 + 8 + 4 + 8  # the fewest bytes in which a tensor can be described


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor is in its file: `shape` as in PyTorch, rows first, and the type of its blocks.

    The file has sizes the other way round, the innermost first.
    """

    shape: tuple[int, ...]
    type: str  # F32, F16, BF16, Q8_0, Q4_0 or Q4_1
    offset: int  # from the beginning of the file
    n_bytes: int


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF file says about itself; the numbers of its tensors are read when asked for."""

    path: Path
    version: int
    metadata: dict[str, Any]  # integers, floats, bools, strings, lists
    tensors: dict[str, GGUFTensor]

    def blocks(self, name: str) -> Tensor:
        """The tensor `name` as it is in the file: one row of bytes a block, (blocks, bytes).

        The bytes are mapped into memory: pages are read when they are looked at, and are given
        back when the result is no longer used. Writing to the result doesn't change the file.
        """
        if name not in self.tensors:
            raise LessonsError(f"no tensor {name!r}", where=str(self.path))
        tensor = self.tensors[name]
        try:
            mapped = np.memmap(self.path, np.uint8, "c", tensor.offset, (tensor.n_bytes,))
        except (OSError, ValueError) as error:  # gone, or shorter than when it was opened
            raise LessonsError(f"can't read it: {error}", where=str(self.path)) from None
        return torch.from_numpy(mapped).view(-1, BLOCKS[tensor.type].n_bytes)

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """The numbers of the tensor `name`."""
        blocks, tensor = self.blocks(name), self.tensors[name]
        return dequantize(blocks, tensor.type, dtype).view(tensor.shape)


def read_gguf(path: Path | str) -> GGUFFile:
    """Metadata and the list of tensors of the GGUF file `path`; no tensor is read.

    `LessonsError` names the place of whatever doesn't fit: another format or version, a count or a
    size that the file can't hold, names that are there twice, tensors that overlap, text that is
    not UTF-8. Only the tensor types in `gguf_blocks` are accepted.
    """
    path = Path(path)
    try:
        if not path.is_file():  # reading a pipe might never end
            raise LessonsError("no such file", where=str(path), remedy="Name a .gguf file.")
        if path.stat().st_size == 0:
            raise LessonsError("the file is empty", where=str(path))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_contents(ByteReader(data, str(path)), path)
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None


def read_contents(reader: ByteReader, path: Path) -> GGUFFile:
    """Header, metadata and descriptions of tensors, in the order in which they are in the file."""
    if reader.take(4, "header") != b"GGUF":
        raise reader.fail("not a GGUF file: it doesn't begin with GGUF", "header")
    (version,) = read_numbers(reader, "I", "version")
    if version not in (2, 3):
        what = f"version {version} is not 2 or 3"
        if version in (0x02000000, 0x03000000):
            what = "the file is big endian, and only little endian is read"
        raise reader.fail(what, "version")
    n_tensors, n_entries = read_numbers(reader, "QQ", "header")
    reader.need(n_tensors * ENTRY + n_entries * (8 + 4 + 1), "header, number of entries")
    metadata: dict[str, Any] = {}
    for number in range(n_entries):
        key = read_string(reader, f"metadata entry {number}")
        if key in metadata:
            raise reader.fail(f"{key!r} is there twice", f"metadata entry {number}")
        (kind,) = read_numbers(reader, "I", key)
        metadata[key] = read_value(reader, kind, key)
    entries = {}
    for number in range(n_tensors):
        name = read_string(reader, f"tensor {number}")
        if name in entries:
            raise reader.fail(f"{name!r} is there twice", f"tensor {number}")
        entries[name] = read_description(reader, f"tensor {name!r}")
    tensors = place_tensors(reader, entries, alignment_of(reader, metadata))
    return GGUFFile(path, version, metadata, tensors)


def read_description(reader: ByteReader, field: str) -> GGUFTensor:
    """The description of one tensor, whose offset is still counted from where the data begins."""
    (n_dimensions,) = read_numbers(reader, "I", field)
    if not 1 <= n_dimensions <= MOST_DIMENSIONS:
        raise reader.fail(f"{n_dimensions} dimensions, not 1 to {MOST_DIMENSIONS}", field)
    sizes = read_numbers(reader, f"{n_dimensions}Q", field)
    kind, offset = read_numbers(reader, "IQ", field)
    if kind not in TYPES or TYPES[kind] not in BLOCKS:
        what = f"type {TYPES.get(kind, kind)} is not one that can be read"
        raise reader.fail(what, field, f"Known: {', '.join(BLOCKS)}. Convert it to Q8_0, say.")
    block = BLOCKS[TYPES[kind]]
    if min(sizes) < 1 or sizes[0] % block.n_values != 0:
        what = f"rows of {sizes[0]} numbers are not whole blocks of {block.n_values}"
        raise reader.fail(what if min(sizes) else "a size is 0", field)
    n_bytes = math.prod(sizes) // block.n_values * block.n_bytes
    if n_bytes > reader.size:
        what = f"the sizes {sizes} mean {n_bytes:,} bytes, but the file has {reader.size:,}"
        raise reader.fail(what, field)
    return GGUFTensor(sizes[::-1], TYPES[kind], offset, n_bytes)


def alignment_of(reader: ByteReader, metadata: dict[str, Any]) -> int:
    """Tensors begin at multiples of this many bytes: 32, unless the metadata says otherwise."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment.bit_count() != 1:
        what = f"{str(alignment)[:40]} is not a power of two up to 2**20"
        raise reader.fail(what, "general.alignment")
    return alignment


def place_tensors(
    reader: ByteReader, entries: dict[str, GGUFTensor], alignment: int
) -> dict[str, GGUFTensor]:
    """The tensors with their offsets in the file: inside it, aligned, and none over another."""
    start = -(-reader.place // alignment) * alignment  # rounded up
    placed, end, before = {}, start, "the metadata"
    for name, tensor in sorted(entries.items(), key=lambda item: item[1].offset):
        field, offset = f"tensor {name!r}", start + tensor.offset
        if tensor.offset % alignment != 0:
            raise reader.fail(f"offset {tensor.offset} is no multiple of {alignment}", field)
        if offset + tensor.n_bytes > reader.size:
            what = f"it ends at byte {offset + tensor.n_bytes:,} of a file of {reader.size:,} bytes"
            raise reader.fail(what, field, "Is the download complete?")
        if offset < end:
            raise reader.fail(f"it overlaps with {before}", field)
        placed[name] = GGUFTensor(tensor.shape, tensor.type, offset, tensor.n_bytes)
        end, before = offset + tensor.n_bytes, repr(name)
    return {name: placed[name] for name in entries}
