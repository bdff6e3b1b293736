"""Reading the column "text" of parquet files, the form in which FineWeb is published."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from transformer_lessons.errors import LessonsError

MAX_ROW_GROUP = 2**32  # bytes that a file may hold in one row group


def read_rows(file: BinaryIO, source: str, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """The values of the column "text" of a parquet file, with their row numbers, from `start` on.

    A few are in memory at a time; row groups before `start` are not read. A file that is cut off or
    damaged, or has no such column of strings, raises `LessonsError`.
    """
    import pyarrow  # here, because only this function needs it, and it takes a while
    import pyarrow.parquet

    first, last = 0, start  # of a row group; and the last row that was read
    # Read as the rows are asked for, not a whole row group ahead.
    options = {"buffer_size": 2**16, "pre_buffer": False, "page_checksum_verification": True}
    try:
        table = pyarrow.parquet.ParquetFile(file, **options)
        _check_text_column(table, source)
        for group in range(table.metadata.num_row_groups):
            behind = first + table.metadata.row_group(group).num_rows
            if start < behind:
                n_rows = 0
                for batch in table.iter_batches(16, [group], ["text"], use_threads=False):
                    # As bytes, because a file can claim that anything is a string.
                    for value in batch.column(0).cast(pyarrow.large_binary()):
                        last, n_rows = first + n_rows, n_rows + 1
                        if last >= start:
                            yield last, value.as_py()
                # Damage between the pages, which have checksums, can hide some.
                if first + n_rows != behind:
                    raise ValueError(f"row group {group} has {n_rows} rows")
            first = behind
    except LessonsError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"not a whole parquet file, can't read it beyond row {last + 1}: "
        what += str(error).splitlines()[0]
        raise LessonsError(what, where=source, remedy="Get the file again.") from None


def _check_text_column(table: Any, source: str) -> None:
    """Raise `LessonsError` unless a parquet file has a column "text" that can be read."""
    names, metadata = table.schema_arrow.names, table.metadata
    if names.count("text") != 1:
        what = f'{names.count("text")} columns "text"; columns: {", ".join(names)[:200]}'
        raise LessonsError(what, where=source, remedy='Name the column with the texts "text".')
    if (kind := str(table.schema_arrow.field("text").type)) not in ("string", "large_string"):
        raise LessonsError(f'the column "text" holds {kind}, not strings', where=source)
    for group in range(metadata.num_row_groups):
        # Of the group, not of its column: pyarrow ends the process when a column's facts are bad.
        if (size := metadata.row_group(group).total_byte_size) > MAX_ROW_GROUP:
            what = f"row group {group} holds {size:,} bytes, over {MAX_ROW_GROUP:,}"
            raise LessonsError(what, where=source, remedy="Write it with smaller row groups.")
