"""FineWeb, row by row from far away, by way of the library `datasets`, an optional extra.

A row stream of that library is an iterator of rows {"text": …}; `state_dict` says where it stands,
and `load_state_dict` goes on from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import name_of

FINEWEB, SAMPLE = "HuggingFaceFW/fineweb", "sample-10BT"  # ten billion tokens, 28 GB


def open_rows(paths: Sequence[Path] = ()) -> Any:
    """The rows of FineWeb's sample; or of parquet files here, read as if they were far away.

    Without a network, or without the library `datasets`, raises `LessonsError`.
    Source: Penedo et al. 2024.
    """
    try:
        import datasets
    except ImportError:
        remedy = "Install it: pip install datasets."
        raise LessonsError("streaming needs the library datasets", remedy=remedy) from None
    kind, options = FINEWEB, dict[str, Any](name=SAMPLE)
    if paths:  # one split, whatever a file's name says; and no brackets in it are a pattern
        kind, options = "parquet", {"data_files": {"train": [escape(str(p)) for p in paths]}}
    with named_errors(", ".join(map(name_of, paths)) or FINEWEB):
        # A row group, not a whole file of 2 GB, is what has to be read again to go on inside it.
        return datasets.load_dataset(kind, split="train", streaming=True, **options).reshard()


def texts_of(stream: Any, name: str) -> Iterator[str]:
    """The texts of a stream's rows; a row without one, or a failure, raises `LessonsError`."""
    with named_errors(name):
        for row in stream:
            if not isinstance(text := row.get("text"), str):
                what = f'a row without a "text" that is a string; it has: {", ".join(row)}'
                raise LessonsError(what, where=name)
            yield text


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turns whatever goes wrong in a library, or on the way to a far source, to `LessonsError`."""
    try:
        yield
    except LessonsError:
        raise
    except Exception as error:  # of a dozen kinds, from several libraries
        lines = str(error).strip().splitlines() or ["no reason given"]
        what = f"can't read it: {type(error).__name__}: {lines[0]}"
        remedy = "Is there a network, and are the files whole? What was fetched is kept. "
        remedy += "Without a network, name files that are here: --from-parquet FILE."
        raise LessonsError(what, where=name, remedy=remedy) from None
