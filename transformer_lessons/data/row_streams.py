"""Streams of rows from far away, by way of the library `datasets`, which is an optional extra.

The library says where a stream stands, and goes on from there. Beyond this file nothing knows it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, Protocol

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import name_of

FINEWEB = "HuggingFaceFW/fineweb"
SAMPLE = "sample-10BT"  # ten billion tokens, 28 GB, drawn from all of FineWeb


class RowStream(Protocol):
    """Rows {"text": …} that can be taken up at a place: an `IterableDataset` of `datasets`."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows from the place that was loaded, or from the first."""

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last row that was handed out, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place that `state_dict` returned."""


def open_fineweb() -> RowStream:
    """The rows of FineWeb's sample of ten billion tokens. Source: Penedo et al. 2024.

    Without a network, or without the library `datasets`, raises `LessonsError`.
    """
    load_dataset = import_datasets().load_dataset
    with named_errors(FINEWEB):
        # A row group, not a whole file of 2 GB, is what has to be read again to go on inside it.
        return load_dataset(FINEWEB, name=SAMPLE, split="train", streaming=True).reshard()


def open_parquet(paths: Iterable[Path | str]) -> RowStream:
    """The rows of parquet files on this disk, read as if they were far away."""
    load_dataset, paths = import_datasets().load_dataset, list(paths)
    with named_errors(", ".join(name_of(Path(path)) for path in paths)):
        # One split, whatever a file's name says; and no brackets in it are a pattern.
        files = {"train": [escape(str(path)) for path in paths]}
        options = {"data_files": files, "split": "train", "streaming": True}
        return load_dataset("parquet", **options).reshard()


def import_datasets() -> Any:
    """The library `datasets`; if it is missing, `LessonsError` says how to get it."""
    try:
        import datasets
    except ImportError:
        remedy = "Install it: pip install datasets."
        raise LessonsError("streaming needs the library datasets", remedy=remedy) from None
    return datasets


def texts_of(stream: RowStream, name: str) -> Iterator[str]:
    """The texts of a stream's rows; a row without one, or a failure, raises `LessonsError`.

    >>> list(texts_of([{"text": "Hello", "language": "en"}], name="letters"))
    ['Hello']
    """
    with named_errors(name):
        for row in stream:
            text = row.get("text")
            if not isinstance(text, str):
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
        remedy = "Is there a network, and are the files whole? What was fetched is kept."
        raise LessonsError(what, where=name, remedy=remedy) from None
