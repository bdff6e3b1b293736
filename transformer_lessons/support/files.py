"""Writing files and folders so that they are whole or not there; reading text, JSON; hashes."""

import codecs
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin

from transformer_lessons.errors import LessonsError

# The byte-order marks of other encodings; UTF-32's begin as UTF-16's do, so they come first.
OTHER_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}
OTHER_MARKS |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
SAVE = "Save it as UTF-8."


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, beside `path`; it becomes `path` when the block ends well.

    So `path` is never half written: it holds the old content or the new, also after a power cut. A
    place that can't be written raises `LessonsError`, and what was there stays.
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except LessonsError:  # is a ValueError too, but not about writing
        raise
    except (OSError, ValueError) as error:  # ValueError: half a surrogate pair, a NUL in the path
        what = f"can't write it: {getattr(error, 'strerror', None) or error}"
        remedy = "Free space, choose another place, or make its folder first."
        raise LessonsError(what, where=str(path), remedy=remedy) from None
    finally:
        with suppress(OSError, ValueError):
            unfinished.unlink()


def replace_file(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path`, as `new_file` does."""
    with new_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write `value` to `path` as JSON and a line break, as `new_file` does; no nan, no infinity."""
    with new_file(path) as file:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
        file.write(text.encode("utf-8") + b"\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, beside `path`; it becomes `path` when the block ends well.

    `path` must not exist yet, or be an empty folder. After an exception nothing is left; what a
    killed run has left beside it is removed. A place that can't be written raises `LessonsError`.
    """
    unfinished = path.absolute().parent / f".{path.absolute().name}.unfinished"
    try:
        if path.exists() and (there := sorted(os.listdir(path))):
            what, remedy = f"the folder is not empty: it holds {there[0]}", "Choose a new folder."
            raise LessonsError(what, where=str(path), remedy=remedy)
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            for file in unfinished.iterdir():
                sync_file(file)
            sync_folder(unfinished)
            with suppress(FileNotFoundError):
                path.rmdir()  # empty: Windows renames to new names only
            os.rename(unfinished, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        what, remedy = f"can't write here: {error.strerror}", "Choose another output folder."
        raise LessonsError(what, where=str(path), remedy=remedy) from None


def sync_file(path: Path) -> None:
    """Have the contents of a file on the disk, and not only in memory, when this returns."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk, and not only in memory, when this returns."""
    if os.name != "posix":  # Windows can't open a folder, and writes names without being asked
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_start(data: bytes, where: str) -> None:
    """Raise `LessonsError` if a file that begins with `data` is in UTF-16 or a Git LFS pointer."""
    if data.startswith(b"version https://git-lfs"):
        remedy = "Run `git lfs pull` in its folder, or download the file itself."
        raise LessonsError("a Git LFS pointer, not the file itself", where=where, remedy=remedy)
    for mark, name in OTHER_MARKS.items():
        if data.startswith(mark):
            raise LessonsError(f"it is {name}, not UTF-8", where=where, remedy=SAVE)


def decode_utf8(data: bytes, where: str, start: int = 0) -> str:
    """The text of UTF-8 `data`, without the byte-order mark that some editors put in front of it.

    `start` is where `data` begins in its file. Anything else raises `LessonsError`: UTF-16 and
    UTF-32 by name, other bytes by their place.

    >>> decode_utf8(bytes([0xEF, 0xBB, 0xBF]) + b"one", "a.txt")
    'one'
    """
    if start == 0:
        check_start(data, where)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8: byte {start + error.start}"
        raise LessonsError(what, where=where, remedy=SAVE) from None
    return text.removeprefix("\ufeff") if start == 0 else text


def read_text(path: Path | str) -> str:
    """The text of the UTF-8 file `path`; `LessonsError` if it can't be read."""
    try:
        return decode_utf8(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None


def read_json(path: Path | str, largest: float = math.inf) -> Any:
    """The contents of a JSON file; over `largest` bytes or malformed: `LessonsError`."""
    try:
        if Path(path).stat().st_size > largest:
            raise LessonsError(f"over {largest:,} bytes", where=str(path))
        return json.loads(decode_utf8(Path(path).read_bytes(), str(path)))
    except LessonsError:
        raise
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise LessonsError(f"not JSON: {error.msg}", where=place) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise LessonsError(f"not JSON that can be read: {error}", where=str(path)) from None


def field(data: Any, name: str, kind: Any, where: str) -> Any:
    """The value under `name` in a JSON object, if it is of the type `kind`, as annotations say it.

    What is missing counts as null; anything of another type raises `LessonsError`.

    >>> field({"ids": [1, 2]}, "ids", list[int], "a.json")
    [1, 2]
    """
    if not isinstance(data, dict):
        raise LessonsError("not a JSON object", where=where)
    value = data.get(name)
    if not _is_a(value, kind):
        words = kind.__name__ if type(kind) is type else kind
        found = "missing" if value is None else repr(value)[:40]
        raise LessonsError(f"{name} is {found}, not of the type {words}", where=where)
    return value


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value has the type `kind` to its depth; true and false are no integers."""
    parts = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is_a(value, part) for part in parts)
    if type(value) is not (get_origin(kind) or kind):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not parts or all(_is_a(one, parts[-1]) for one in inner)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal (FIPS 180-4); `LessonsError` if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
