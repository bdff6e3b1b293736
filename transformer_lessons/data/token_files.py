"""Token files: a corpus as token ids, computed once and from then on mapped into memory.

A file is a header of 128 bytes and then the ids, little-endian, 2 bytes each where the vocabulary
allows it and 4 where not. A mapped file costs nothing to open: the operating system brings in the
pages that are looked at, and all processes share them.

The header says from which text and by which tokenizer the ids were made, as SHA-256 hashes: ids
mean nothing to another tokenizer.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import BinaryIO

import numpy as np

from transformer_lessons.data.encoding import encode_file
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import sha256
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint

MAGIC, VERSION = b"tltokens", 1
# Magic, version, bytes per id, n_vocab, end of text, documents, bytes of text, ids, two hashes.
LAYOUT = struct.Struct("<8sIIQqQQQ32s32s")
HEADER_SIZE = 128  # the layout, zeros, and in the last 4 bytes a checksum of all that
END_OF_TEXT = "<|endoftext|>"
START_ANEW = "Remove that file, or leave out --resume, to start anew."


@dataclass(frozen=True)
class TokenHeader:
    """What a token file says about itself."""

    n_vocab: int  # every id is below it
    end_of_text: int | None  # the id that ends each document
    tokenizer_sha256: str  # `fingerprint` of the tokenizer
    source_sha256: str  # of the file that the text was in
    n_documents: int = 0
    n_bytes: int = 0  # of the text, as UTF-8
    n_tokens: int = 0

    @property
    def dtype(self) -> np.dtype:
        """uint16 for up to 65,536 different ids, uint32 for more."""
        return np.dtype("<u2" if self.n_vocab <= 65_536 else "<u4")


@dataclass(frozen=True, eq=False)
class TokenFile:
    """An open token file: `ids` is an array on disk, of which only what is used is read."""

    path: Path
    header: TokenHeader
    ids: np.ndarray

    def __reduce__(self) -> tuple:
        # Another process opens the file itself; the ids are not sent to it.
        return open_tokens, (self.path,)


def tokenize_file(
    source: Path | str,
    tokenizer: Tokenizer,
    path: Path | str,
    n_workers: int = 1,
    report: Callable[[int, int], None] = lambda n_read, n_tokens: None,
    resume: bool = False,
) -> TokenFile:
    """Encode the documents of `source`, .jsonl or .txt, with `n_workers` processes, to `path`.

    Each document is followed by the id of <|endoftext|>, if the tokenizer has it. Special tokens
    that stand in the text are text. The file appears when it is whole, or not at all. `resume` goes
    on from what an interrupted run left, if any; of another text or tokenizer, `LessonsError` is
    raised. `report` is called with the bytes read and the tokens made so far.
    """
    source, path = Path(source), Path(path)
    end_of_text = tokenizer.special_tokens.get(END_OF_TEXT)
    hashes = fingerprint(tokenizer), hash_source(source)
    header = TokenHeader(tokenizer.n_vocab, end_of_text, *hashes)
    start = find_interrupted(path, header) if resume else None
    header = read_partial_header(start) if start else header
    done = header.n_documents, header.n_bytes
    with written_whole(path, start, is_kept=resume) as file:
        file.truncate(HEADER_SIZE + header.n_tokens * header.dtype.itemsize)
        write_header(file, header)
        for part in encode_file(source, tokenizer, end_of_text, n_workers, *done):
            file.write(np.array(part.ids, header.dtype).tobytes())
            header = replace(
                header,
                n_documents=header.n_documents + part.n_documents,
                n_bytes=header.n_bytes + part.n_bytes,
                n_tokens=header.n_tokens + len(part.ids),
            )
            write_header(file, header)
            report(part.n_read, header.n_tokens)
    return open_tokens(path)


def open_tokens(path: Path | str, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Map the token file `path`; with a `tokenizer`, only if its ids are that tokenizer's.

    A file that is damaged, cut short, or something else raises `LessonsError`.
    """
    path = Path(path)
    header = read_header(path)
    if tokenizer is not None and fingerprint(tokenizer) != header.tokenizer_sha256:
        remedy = "Use the tokenizer that it was made with, or encode the text again."
        raise LessonsError("the ids are another tokenizer's", where=str(path), remedy=remedy)
    if header.n_tokens == 0:  # nothing can't be mapped
        return TokenFile(path, header, np.empty(0, header.dtype))
    shape = (header.n_tokens,)
    ids = np.memmap(path, header.dtype, mode="r", offset=HEADER_SIZE, shape=shape)
    return TokenFile(path, header, ids)


def read_header(path: Path) -> TokenHeader:
    """The header of the token file `path`, after checking it against itself and the file's size."""
    where, remedy = str(path), "Encode the text again."
    try:
        with path.open("rb") as file:
            data, size = file.read(HEADER_SIZE), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=where) from None
    if not data.startswith(MAGIC):
        remedy = "`python -m transformer_lessons tokenizer encode` makes token files."
        raise LessonsError("not a token file", where=where, remedy=remedy)
    if len(data) < HEADER_SIZE:
        what = f"{size} bytes, but the header alone has {HEADER_SIZE}"
        raise LessonsError(what, where=where, remedy=remedy)
    version = int.from_bytes(data[8:12], "little")
    if version != VERSION:
        raise LessonsError(f"version {version} is not {VERSION}", where=where, remedy=remedy)
    header = unpack_header(data)
    if header is None:
        raise LessonsError("the header is damaged", where=where, remedy=remedy)
    expected = HEADER_SIZE + header.n_tokens * header.dtype.itemsize
    if size != expected:
        what = f"{size:,} bytes instead of {expected:,} for {header.n_tokens:,} tokens"
        raise LessonsError(what, where=where, remedy=remedy)
    return header


def pack_header(header: TokenHeader) -> bytes:
    """A header as the first 128 bytes of a file."""
    data = LAYOUT.pack(
        MAGIC,
        VERSION,
        header.dtype.itemsize,
        header.n_vocab,
        -1 if header.end_of_text is None else header.end_of_text,
        header.n_documents,
        header.n_bytes,
        header.n_tokens,
        bytes.fromhex(header.tokenizer_sha256),
        bytes.fromhex(header.source_sha256),
    ).ljust(HEADER_SIZE - 4, b"\0")
    return data + zlib.crc32(data).to_bytes(4, "little")


def unpack_header(data: bytes) -> TokenHeader | None:
    """The inverse of `pack_header`; None when checksum or values say that it was changed."""
    _, _, id_size, n_vocab, end, n_documents, n_bytes, n_tokens, *hashes = LAYOUT.unpack_from(data)
    end_of_text = None if end == -1 else end
    sizes = n_documents, n_bytes, n_tokens
    header = TokenHeader(n_vocab, end_of_text, hashes[0].hex(), hashes[1].hex(), *sizes)
    is_whole = zlib.crc32(data[:-4]).to_bytes(4, "little") == data[-4:]
    fits = 1 <= n_vocab <= 2**32 and -1 <= end < n_vocab and id_size == header.dtype.itemsize
    return header if is_whole and fits else None


def hash_source(source: Path) -> str:
    """The SHA-256 of the file `source`; one that can't be read raises `LessonsError`."""
    try:
        return sha256(source)
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(source)) from None


def write_header(file: BinaryIO, header: TokenHeader) -> None:
    """Write `header` to the start of `file`, which holds the ids that it counts; go to its end."""
    file.flush()
    os.fsync(file.fileno())  # a header never counts ids that are not on the disk
    file.seek(0)
    file.write(pack_header(header))
    file.seek(0, os.SEEK_END)


@contextmanager
def written_whole(
    path: Path, start: Path | None = None, is_kept: bool = False
) -> Iterator[BinaryIO]:
    """A file to write to; it becomes `path` when the block ends well, and vanishes otherwise.

    It is new, or it was the file `start`. With `is_kept` it stays when the block does not end well.
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        if start is not None:
            os.replace(start, unfinished)
        with unfinished.open("wb" if start is None else "r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # on the disk, before it takes the place of what was there
        os.replace(unfinished, path)
    except OSError as error:
        what, remedy = f"can't write it: {error.strerror}", "Free space or choose another place."
        raise LessonsError(what, where=str(path), remedy=remedy) from None
    finally:
        if not is_kept:
            with suppress(OSError):
                unfinished.unlink()


def find_interrupted(path: Path, expected: TokenHeader) -> Path | None:
    """The furthest file that an interrupted run left for `path`, or None; the others are removed.

    One of another text or tokenizer than `expected`, or damaged, raises `LessonsError`.
    """
    found = []
    for left in sorted(path.parent.glob(f".{escape(path.name)}.*.unfinished")):
        header = read_partial_header(left)
        for kind in ("tokenizer", "source"):
            name = f"{kind}_sha256"
            if header and getattr(header, name) != getattr(expected, name):
                what = f"the run that was interrupted had another {kind}"
                raise LessonsError(what, where=str(left), remedy=START_ANEW)
        found.append((header.n_tokens if header else -1, left))
    n_tokens, furthest = max(found, default=(-1, None))
    for _, left in found:
        if left != furthest or n_tokens < 0:
            left.unlink()
    return furthest if n_tokens >= 0 else None


def read_partial_header(path: Path) -> TokenHeader | None:
    """The header of a file that was being written; None when the run was killed before it."""
    with path.open("rb") as file:
        data, size = file.read(HEADER_SIZE), os.fstat(file.fileno()).st_size
    if not any(data):
        return None
    header = unpack_header(data) if len(data) == HEADER_SIZE else None
    if header is None or HEADER_SIZE + header.n_tokens * header.dtype.itemsize > size:
        raise LessonsError("damaged, it can't be resumed", where=str(path), remedy=START_ANEW)
    return header
