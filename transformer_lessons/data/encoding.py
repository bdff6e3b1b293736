"""A file of documents as token ids, part by part, in one process or several."""

import codecs
import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, NamedTuple

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import safe_blocks
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer

BLOCK = 1 << 20  # bytes read, and characters encoded, at a time
LONGEST_LINE = 1 << 26  # bytes of one document in a .jsonl file


class Part(NamedTuple):
    """Some text of a file: a document, or a piece of a long one."""

    text: str
    is_end: bool  # whether a document ends here
    n_read: int  # bytes of the file up to about here


class Encoded(NamedTuple):
    """The ids of some parts."""

    ids: list[int]
    n_documents: int  # how many end in it
    n_bytes: int  # of the text, as UTF-8
    n_read: int


def encode_file(
    source: Path,
    tokenizer: Tokenizer,
    end_of_text: int | None = None,
    n_workers: int = 1,
    n_documents: int = 0,
    n_bytes: int = 0,
) -> Iterator[Encoded]:
    """The ids of the documents of `source`, each followed by `end_of_text`, if that is given.

    The same for any number of worker processes. What was encoded before, so many documents and
    bytes of text, is passed over.
    """
    groups = group_parts(pass_over(read_parts(source), n_documents + n_bytes, str(source)))
    if n_workers > 1:
        yield from encode_in_parallel(groups, tokenizer, end_of_text, n_workers)
    else:
        yield from (encode_parts(group, tokenizer, end_of_text) for group in groups)


def pass_over(parts: Iterable[Part], n_done: int, where: str) -> Iterator[Part]:
    """The parts after those that have `n_done` bytes of text and ends of documents, together.

    >>> list(pass_over([Part("ab", True, 3), Part("c", True, 5)], 3, "a.txt"))
    [Part(text='c', is_end=True, n_read=5)]
    """
    for part in parts:
        if n_done == 0:
            yield part
        else:
            n_done -= len(utf8_bytes(part.text)) + part.is_end
        if n_done < 0:
            remedy = "To start anew, leave out --resume."
            raise LessonsError("cut into other parts than before", where=where, remedy=remedy)


def encode_parts(parts: list[Part], tokenizer: Tokenizer, end_of_text: int | None) -> Encoded:
    """The ids of `parts`, one after another.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> encode_parts([Part("ab", True, 2), Part("é", True, 4)], ByteTokenizer(), end_of_text=0).ids
    [97, 98, 0, 195, 169, 0]
    """
    ids: list[int] = []
    for part in parts:
        ids += tokenizer.encode_ordinary(part.text)
        if part.is_end and end_of_text is not None:
            ids.append(end_of_text)
    n_bytes = sum(len(utf8_bytes(part.text)) for part in parts)
    return Encoded(ids, sum(part.is_end for part in parts), n_bytes, parts[-1].n_read)


def encode_in_parallel(
    groups: Iterator[list[Part]], tokenizer: Tokenizer, end_of_text: int | None, n_workers: int
) -> Iterator[Encoded]:
    """`encode_parts` of each group, in order, by `n_workers` processes, a few groups at a time."""
    with tempfile.TemporaryDirectory() as folder, get_context().Pool(n_workers) as pool:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)  # a worker reads it once, which works however processes are started
        while some := list(islice(groups, 4 * n_workers)):
            tasks = [(group, path, end_of_text) for group in some]
            yield from pool.starmap(encode_in_worker, tasks, chunksize=1)


def encode_in_worker(parts: list[Part], path: Path, end_of_text: int | None) -> Encoded:
    """`encode_parts` with the tokenizer of the file `path`."""
    return encode_parts(parts, load_once(path), end_of_text)


@lru_cache(maxsize=1)
def load_once(path: Path) -> Tokenizer:
    """`load_tokenizer`, remembered: a worker process is given many groups, all for one file."""
    return load_tokenizer(path)


def group_parts(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """The parts in groups of about a million characters: enough to be worth a process's while."""
    group, size = [], 0
    for part in parts:
        group.append(part)
        size += len(part.text) + 1
        if size >= BLOCK:
            yield group
            group, size = [], 0
    if group:
        yield group


def read_parts(path: Path) -> Iterator[Part]:
    """The documents of a file: a .jsonl line {"text": ...} each, or a .txt file as a whole.

    A long .txt file comes in parts, cut where no token can go across (see `safe_blocks`); one that
    has no such place is held whole.
    """
    readers = {".jsonl": read_lines, ".txt": read_text}
    if path.suffix not in readers:
        remedy = "Give a .txt file, or a .jsonl file as `prepare` writes it."
        raise LessonsError("neither .jsonl nor .txt", where=str(path), remedy=remedy)
    try:
        yield from readers[path.suffix](path)
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None


def read_lines(path: Path) -> Iterator[Part]:
    """The documents of a .jsonl file; a line without one raises `LessonsError`, with its number."""
    n_read, number = 0, 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            n_read, number = n_read + len(line), number + 1
            where = f"{path}, line {number}"
            if len(line) > LONGEST_LINE:
                raise LessonsError(f"longer than {LONGEST_LINE:,} bytes", where=where)
            yield Part(text_of_line(line, where), True, n_read)


def text_of_line(line: bytes, where: str) -> str:
    """The text of one line of a .jsonl file.

    >>> text_of_line(b'{"text": "ab", "source": "a.txt"}', where="line 1")
    'ab'
    """
    remedy = 'A line is {"text": "…"}, with anything else beside it.'
    try:
        document = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LessonsError(f"not JSON: {error}", where=where, remedy=remedy) from None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise LessonsError('no "text" that is a string', where=where, remedy=remedy)
    try:
        utf8_bytes(text)
    except LessonsError as error:  # JSON can spell half a character: "\ud800"
        raise LessonsError(error.what, where=f"{where}, {error.where}") from None
    return text


def read_text(path: Path) -> Iterator[Part]:
    """A .txt file as one document; bytes that are not UTF-8 raise `LessonsError`."""
    with path.open("rb") as file:
        for text in safe_blocks(decode_file(file, str(path))):
            yield Part(text, False, file.tell())
        yield Part("", True, file.tell())


def decode_file(file: BinaryIO, where: str) -> Iterator[str]:
    """The text of an open UTF-8 file, about a million characters at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    block = b" "
    while block:
        start = file.tell() - len(decoder.getstate()[0])  # a character may lie across two blocks
        block = file.read(BLOCK)
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = f"{where}, byte {start + error.start}"
            raise LessonsError(f"not UTF-8: {error.reason}", where=place) from None
