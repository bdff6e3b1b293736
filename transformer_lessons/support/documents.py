"""Finding and reading documents: .txt, .md, .py, .jsonl and .parquet, one document at a time.

Nothing is dropped in silence: what can't be a document is reported as `Dropped`, by name, and the
reading goes on; or, without a `report`, it raises `LessonsError`. Memory doesn't grow with a file.
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import check_start, decode_utf8
from transformer_lessons.support.parquet import read_rows

MAX_BYTES = 1_000_000  # of one document: a longer text comes as several
MAX_LINE = 2**23  # bytes of one line of JSON, which writes some characters as six


@dataclass(frozen=True)
class Document:
    """A text, and where it came from."""

    text: str
    source: str
    is_end: bool = True  # False: it was cut, and the next document goes on with it


@dataclass(frozen=True)
class Dropped:
    """What was not taken, and why. A reason is the same words each time, so it can be counted."""

    source: str
    reason: str
    detail: str = ""


Report = Callable[[Dropped], None]


def refuse(dropped: Dropped) -> None:
    """The report of those who need all documents: raises `LessonsError`."""
    what = f"{dropped.reason}: {dropped.detail}" if dropped.detail else dropped.reason
    remedy = "Mend it or take it out; `prepare` drops what can't be read, and lists it."
    raise LessonsError(what, where=dropped.source, remedy=remedy)


def read_documents(paths: Iterable[Path | str], report: Report = refuse) -> Iterator[Document]:
    """The documents of files and folders, in order of their names; `report` gets what is dropped.

    A path that doesn't exist raises `LessonsError`.
    """
    return chain.from_iterable(read_file(path, report) for path in find_files(paths, report))


def find_files(paths: Iterable[Path | str], report: Report) -> Iterator[Path]:
    """The files that can be read, folder by folder, in order of their names.

    Links out of a folder, links to folders, hidden files and other kinds of files are reported.
    """
    starts = [Path(path) for path in paths]
    for path in starts:
        if not os.path.exists(path):
            remedy = "Give files or folders that exist."
            raise LessonsError("no such file or folder", where=name_of(path), remedy=remedy)
    return chain.from_iterable(_find_below(path, report) for path in starts)


def _find_below(start: Path, report: Report) -> Iterator[Path]:
    """`start` itself when it is a file, or the files below it when it is a folder."""
    waiting = [start]
    while waiting:
        path = waiting.pop()
        try:
            if reason := _why_refused(path, start):
                report(Dropped(name_of(path), reason))
            elif path.is_dir():
                waiting += sorted(path.iterdir(), reverse=True)
            else:
                yield path
        except OSError as error:  # a folder that is closed to us, say
            report(Dropped(name_of(path), "unreadable", str(error.strerror)))


def _why_refused(path: Path, start: Path) -> str:
    """Why a file or folder is passed over, "" when it is not; what was asked for may be a link."""
    if path != start and path.name.startswith("."):
        return "hidden"
    if path != start and path.is_symlink():
        if not path.exists():
            return "broken link"
        if not path.resolve().is_relative_to(start.resolve()):
            return "link out of the folder"
        if path.is_dir():  # it is read where it really is, and links could go round in circles
            return "link to a folder"
    if not path.is_dir() and path.suffix.lower() not in READERS:
        return "not a kind of file that is read"
    if not path.is_dir() and not path.is_file():  # a pipe, say, would be waited for
        return "not a regular file"
    return ""


def read_file(path: Path, report: Report) -> Iterator[Document]:
    """The documents of one file; if it can't be read, or not to its end, that is reported."""
    try:
        with open(path, "rb") as file:
            check_start(file.read(64), name_of(path))
            file.seek(0)
            yield from READERS[path.suffix.lower()](file, name_of(path), report)
    except LessonsError as error:
        if report is refuse:
            raise
        report(Dropped(error.where, "unreadable", error.what))
    except OSError as error:
        report(Dropped(name_of(path), "unreadable", str(error.strerror)))


def read_text(file: BinaryIO, source: str, report: Report) -> Iterator[Document]:
    """The documents of a text file: one, or several when it has more than a million bytes.

    A piece that is not UTF-8 is reported with the place of its first bad byte.
    """
    for place, piece, is_end in read_pieces(file):
        where = f"{source}, byte {place}" if place else source
        if not piece:
            report(Dropped(where, "empty"))
            continue
        try:
            yield Document(decode_utf8(piece, where, place), where, is_end)
        except LessonsError as error:
            report(Dropped(where, *error.what.split(": ")))


def read_pieces(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """The bytes of a file in pieces of at most `MAX_BYTES`: place in the file, bytes, the last?"""
    place, held = 0, b""
    while True:
        held += file.read(MAX_BYTES + 1 - len(held))
        if len(held) <= MAX_BYTES:
            if held or place == 0:
                yield place, held, True
            return
        end = _cut_place(held)
        yield place, held[:end], False
        place, held = place + end, held[end:]


def _cut_place(held: bytes) -> int:
    """Where to end a piece: at the last line break, else at the last space, else at a character.

    Only the second half is searched, so that a short first line doesn't become a document.
    """
    for mark in (b"\n", b" "):
        if (place := held.rfind(mark, MAX_BYTES // 2, MAX_BYTES)) >= 0:
            return place + 1
    # The bytes 10xxxxxx go on with a character; at most three of them do.
    starts = (place for place in range(MAX_BYTES, MAX_BYTES - 4, -1) if held[place] >> 6 != 0b10)
    return next(starts, MAX_BYTES)


def read_json_lines(file: BinaryIO, source: str, report: Report) -> Iterator[Document]:
    """The documents of a .jsonl file: {"text": ...} on each line; bad lines are reported."""
    for number in count(1):
        line, where = file.readline(MAX_LINE), f"{source}, line {number}"
        if not line:
            return
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            report(Dropped(where, "line too long", f"over {MAX_LINE:,} bytes"))
            continue
        try:
            record = json.loads(decode_utf8(line, where))
        except LessonsError as error:
            report(Dropped(where, *error.what.split(": ")))
        except (ValueError, RecursionError) as error:
            report(Dropped(where, "not JSON", str(error)))
        else:
            if not isinstance(record, dict) or not isinstance(text := record.get("text"), str):
                report(Dropped(where, "no text", 'no string under the key "text"'))
                continue
            # JSON can spell half a character, \ud800; read_text then finds that it is not UTF-8.
            data = text.encode("utf-8", errors="surrogatepass")
            yield from read_text(io.BytesIO(data), where, report)


def read_parquet(file: BinaryIO, source: str, report: Report) -> Iterator[Document]:
    """The documents of a parquet file: its column "text", as in FineWeb's files."""
    for row, data in read_rows(file, source):
        yield from read_text(io.BytesIO(data or b""), f"{source}, row {row + 1}", report)


def name_of(path: Path) -> str:
    """A path as text that can be written to any file, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", errors="replace")


READERS = dict.fromkeys((".txt", ".md", ".py"), read_text)
READERS |= {".jsonl": read_json_lines, ".parquet": read_parquet}
