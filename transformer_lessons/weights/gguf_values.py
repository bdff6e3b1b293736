"""The values in the metadata of a GGUF file, read one after the other.

All numbers are little endian; a string is its length in bytes (uint64) and its bytes; an array is
the type of its values (uint32), their number (uint64), and the values.

A file from somebody else can claim anything: 2**60 strings, an array in an array in an array. So
every count is held against the bytes that are left before anything is made for it.
Source: ggml's docs/gguf.md.
"""

import mmap
import struct
from typing import Any

import numpy as np

from transformer_lessons.errors import LessonsError

# Numbers: their type in the file, the letter that stands for them in `struct`, their bytes.
NUMBERS = {
    **{0: ("B", 1), 1: ("b", 1), 2: ("H", 2), 3: ("h", 2), 4: ("I", 4), 5: ("i", 4)},
    **{6: ("f", 4), 10: ("Q", 8), 11: ("q", 8), 12: ("d", 8)},
}
BOOL, STRING, ARRAY = 7, 8, 9
LEAST = {BOOL: 1, STRING: 8, ARRAY: 12} | {kind: size for kind, (_, size) in NUMBERS.items()}
LARGEST_METADATA = 2**25  # bytes before the data; a vocabulary of 150,000 tokens takes 6 million
DEEPEST = 2  # arrays of arrays, and no more


class ByteReader:
    """Takes bytes of `data` from the beginning on, and never behind the end."""

    def __init__(self, data: mmap.mmap | bytes, where: str) -> None:
        self.data, self.where, self.place = data, where, 0
        self.size = len(data)
        self.end = min(self.size, LARGEST_METADATA)

    def fail(self, what: str, field: str, remedy: str = "") -> LessonsError:
        return LessonsError(what, where=f"{self.where}, {field}", remedy=remedy)

    def need(self, n_bytes: int, field: str) -> None:
        """Raise `LessonsError` unless `n_bytes` more are there."""
        left = self.end - self.place
        if n_bytes > left:
            what = f"{n_bytes:,} bytes are announced, but {left:,} are left"
            if self.end < self.size:
                what += f" of the {self.end:,} that metadata may take"
            raise self.fail(what, field, "Is the file complete, and is it a GGUF file?")

    def take(self, n_bytes: int, field: str) -> bytes:
        """The next `n_bytes`."""
        self.need(n_bytes, field)
        self.place += n_bytes
        return self.data[self.place - n_bytes : self.place]


def read_numbers(reader: ByteReader, letters: str, field: str) -> tuple:
    """Numbers as `struct` calls them: "IQ" is a uint32 and a uint64.

    >>> read_numbers(ByteReader(bytes([7, 0, 0, 0, 9]), "a file"), "IB", "a field")
    (7, 9)
    """
    return struct.unpack(f"<{letters}", reader.take(struct.calcsize(f"<{letters}"), field))


def read_string(reader: ByteReader, field: str) -> str:
    """A string; bytes that are not UTF-8 raise `LessonsError`."""
    (n_bytes,) = read_numbers(reader, "Q", field)
    try:
        return reader.take(n_bytes, field).decode("utf-8")
    except UnicodeDecodeError:
        raise reader.fail("not UTF-8 text", field) from None


def read_value(reader: ByteReader, kind: int, field: str, depth: int = 0) -> Any:
    """A value of the type `kind`, inside of `depth` arrays; an array becomes a list."""
    if kind in NUMBERS:
        return read_numbers(reader, NUMBERS[kind][0], field)[0]
    if kind == BOOL:
        return read_bools(reader, 1, field)[0]
    if kind == STRING:
        return read_string(reader, field)
    if kind == ARRAY:
        return read_array(reader, field, depth + 1)
    raise reader.fail(f"value type {kind} does not exist", field)


def read_array(reader: ByteReader, field: str, depth: int) -> list:
    """The values of an array, itself the `depth`-th around them."""
    if depth > DEEPEST:
        raise reader.fail(f"arrays are nested deeper than {DEEPEST}", field)
    kind, n_values = read_numbers(reader, "IQ", field)
    if kind not in LEAST:
        raise reader.fail(f"value type {kind} does not exist", field)
    reader.need(n_values * LEAST[kind], field)
    if kind in NUMBERS:  # all at once
        letter, size = NUMBERS[kind]
        return np.frombuffer(reader.take(n_values * size, field), f"<{letter}").tolist()
    if kind == BOOL:
        return read_bools(reader, n_values, field)
    return [read_value(reader, kind, field, depth) for _ in range(n_values)]


def read_bools(reader: ByteReader, n_values: int, field: str) -> list[bool]:
    """Bytes of 0 and 1 as truth values."""
    values = reader.take(n_values, field)
    if values and max(values) > 1:
        raise reader.fail(f"{max(values)} is neither true nor false", field)
    return [value == 1 for value in values]
