"""An output folder that is complete or visibly not, and the files of JSON lines in it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError

UNFINISHED = ".unfinished-"  # how the name of the folder starts in which a run works


class JsonLines:
    """A new file of JSON lines that counts and hashes what is written to it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "xb")  # noqa: SIM115, closed by __exit__
        self.sha256 = hashlib.sha256()
        self.n_lines = self.n_bytes = 0

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())  # on the disk before the manifest says it is there

    def write(self, record: dict[str, str]) -> None:
        """Write one line."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        # Half a character, as in a strange file name, becomes \udcff: JSON for the same.
        data = line.encode("utf-8", errors="backslashreplace")
        self.file.write(data)
        self.sha256.update(data)
        self.n_lines += 1
        self.n_bytes += len(data)

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the file."""
        return {"lines": self.n_lines, "bytes": self.n_bytes, "sha256": self.sha256.hexdigest()}


@contextmanager
def unfinished_folder(out: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder inside `out` to write the files `names` to; at the end they are moved to `out`.

    They are moved in order, so the last one says that all are there. `out` must be new or empty,
    or hold only what a killed run has left, which is removed. After an exception nothing is left.
    A place that can't be written raises `LessonsError`.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out, names)
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=out))
        try:
            yield folder
            for name in names:
                os.replace(folder / name, out / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        what, remedy = f"can't write here: {error.strerror}", "Choose another output folder."
        raise LessonsError(what, where=str(out), remedy=remedy) from None


def remove_leftovers(out: Path, names: Sequence[str]) -> None:
    """Empty `out` of what a killed run left; anything else there raises, and is not touched."""
    there = sorted(os.listdir(out))
    unfinished = [name for name in there if name.startswith(UNFINISHED)]
    # Without its working folder, a train.jsonl is not a leftover but somebody's file.
    ours = [*unfinished, *names[:-1]] if unfinished else []
    if strange := [name for name in there if name not in ours]:
        what = f"the folder is not empty: it holds {strange[0]}"
        remedy = "Choose a new or empty output folder."
        raise LessonsError(what, where=str(out), remedy=remedy)
    for name in unfinished:
        shutil.rmtree(out / name)
    for name in set(there) - set(unfinished):
        (out / name).unlink()
