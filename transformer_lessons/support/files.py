"""Writing files so that they are whole or not there."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError


def replace_file(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path` by way of a file beside it.

    So `path` is never half written: it holds the old content or the new, also after a power cut. A
    place that can't be written raises `LessonsError`, and what was there stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder) / "a.txt", "new")
    ...     print(os.listdir(folder))
    ['a.txt']
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        content = content.encode("utf-8") if isinstance(content, str) else content
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: half a surrogate pair, a NUL in the path
        with suppress(OSError, ValueError):
            unfinished.unlink()
        what = f"can't write it: {getattr(error, 'strerror', None) or error}"
        remedy = "Choose another place, or make its folder first."
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


def read_json(path: Path | str) -> Any:
    """The contents of a JSON file; a missing or malformed file raises `LessonsError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise LessonsError("not UTF-8 text", where=str(path)) from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise LessonsError(f"not JSON: {error.msg}", where=place) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise LessonsError(f"not JSON that can be read: {error}", where=str(path)) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal (FIPS 180-4)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
