"""Shards: a long row of documents in parquet files, of which a few rows are in memory at a time.

FineWeb is published as such files: the column "text" is read, and all others are left alone.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import check_text_column, name_of

ROWS_AT_ONCE = 64  # documents that are in memory at a time


class DocumentSource(Protocol):
    """A row of documents that is the same whenever it is read: `LocalShards`, `ShardCache`."""

    name: str  # equal for equal rows only

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents `start`, `start` + 1, … to the last."""


def read_texts(path: Path | str, start: int = 0) -> Iterator[str]:
    """The column "text" of a parquet file from row `start` on, counted from 0, a few at a time.

    Row groups before `start` are not read. A file that is cut off or damaged, has no such column,
    or has a row without a text, raises `LessonsError`.
    """
    import pyarrow  # here, because it takes a while
    import pyarrow.parquet

    path, first, row = Path(path), 0, start  # `first` is the number of a row group's first row
    options = {"buffer_size": 2**16, "pre_buffer": False, "page_checksum_verification": True}
    try:
        with pyarrow.parquet.ParquetFile(path, **options) as table:
            check_text_column(table, name_of(path))
            for group in range(table.metadata.num_row_groups):
                n_rows = table.metadata.row_group(group).num_rows
                if start < first + n_rows:
                    for row, data in enumerate(read_group(table, group), first):
                        if row >= start:
                            yield text_of_row(data, f"{name_of(path)}, row {row}")
                first += n_rows
    except LessonsError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"can't read it beyond row {row}: {str(error).splitlines()[0]}"
        remedy = "Get the file again; in a cache, delete it and it is fetched again."
        raise LessonsError(what, where=name_of(path), remedy=remedy) from None


def read_group(table: Any, group: int) -> Iterator[bytes | None]:
    """The values of the column "text" in one row group of an open parquet file, as bytes."""
    import pyarrow

    n_rows = 0
    choice = {"row_groups": [group], "columns": ["text"], "use_threads": False}
    for batch in table.iter_batches(ROWS_AT_ONCE, **choice):
        # As bytes, because a file can claim that anything is a string.
        for value in batch.column(0).cast(pyarrow.large_binary()):
            n_rows += 1
            yield value.as_py()
    expected = table.metadata.row_group(group).num_rows
    if n_rows != expected:  # damage between the pages, which have checksums, can hide some
        raise ValueError(f"row group {group} has {n_rows} rows, not {expected}")


def text_of_row(data: bytes | None, where: str) -> str:
    """The text of one row; a row that has none raises `LessonsError`.

    >>> text_of_row("Grüße".encode(), where="a.parquet, row 0")
    'Grüße'
    """
    remedy = "Take the row out; no document is left out in silence."
    if data is None:
        raise LessonsError("no text", where=where, remedy=remedy)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LessonsError(f"not UTF-8: byte {error.start}", where=where, remedy=remedy) from None


class LocalShards:
    """The documents of parquet files on this disk, file after file in the order given."""

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self.paths = [Path(path) for path in paths]
        self.counts = [count_rows(path) for path in self.paths]
        facts = [
            (path.name, n, path.stat().st_size)
            for path, n in zip(self.paths, self.counts, strict=True)
        ]
        self.name = f"parquet {hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents from number `start` on; files before it are not opened."""
        for path, n_rows in zip(self.paths, self.counts, strict=True):
            if start < n_rows:
                yield from read_texts(path, start)
            start = max(start - n_rows, 0)


def count_rows(path: Path) -> int:
    """How many rows the end of a parquet file says it has."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            check_text_column(table, name_of(path))
            return table.metadata.num_rows
    except LessonsError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"not a whole parquet file: {str(error).splitlines()[0]}"
        raise LessonsError(what, where=name_of(path), remedy="Get the file again.") from None
