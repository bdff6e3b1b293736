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
CHECKPOINT = "checkpoint.json"  # in that folder: from here a later run can go on
BLOCK = 1 << 20  # bytes read at a time


class JsonLines:
    """A file of JSON lines that counts and hashes what is written to it.

    With `before`, what `facts` said when it had grown so far, the file is there, and goes on from
    that point: what came after is cut off. One that was not so then raises `LessonsError`.
    """

    def __init__(self, path: Path, before: dict[str, Any] | None = None) -> None:
        self.path = path
        self.file = open(path, "xb" if before is None else "a+b")  # noqa: SIM115, by __exit__
        self.sha256 = hashlib.sha256()
        self.n_lines = self.n_bytes = 0
        if before is not None:
            self.go_back(before)

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self.flush()  # on the disk before the manifest says it is there

    def go_back(self, before: dict[str, Any]) -> None:
        """Cut the file where it was when `facts` said `before`."""
        self.file.seek(0)
        while data := self.file.read(min(BLOCK, before["bytes"] - self.n_bytes)):
            self.count(data)
        if self.facts() != before:
            self.file.close()
            what, remedy = (
                "not as the interrupted run left it",
                "To start anew, leave out --resume.",
            )
            raise LessonsError(what, where=str(self.path), remedy=remedy)
        self.file.truncate(self.n_bytes)

    def count(self, data: bytes) -> None:
        """Count and hash `data`, some more bytes of the file."""
        self.sha256.update(data)
        self.n_lines += data.count(b"\n")
        self.n_bytes += len(data)

    def write(self, record: dict[str, Any]) -> None:
        """Write one line."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        # Half a character, as in a strange file name, becomes \udcff: JSON for the same.
        data = line.encode("utf-8", errors="backslashreplace")
        self.file.write(data)
        self.count(data)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The records of the file."""
        with open(self.path, "rb") as file:
            yield from map(json.loads, file)

    def flush(self) -> None:
        """Bring all that was written to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the file."""
        return {"lines": self.n_lines, "bytes": self.n_bytes, "sha256": self.sha256.hexdigest()}


@contextmanager
def unfinished_folder(out: Path, names: Sequence[str], resume: bool = False) -> Iterator[Path]:
    """A folder inside `out` to write the files `names` to; at the end they are moved to `out`.

    They are moved in order, so the last one says that all are there. `out` must be new or empty,
    or hold only what a killed run has left. That is removed; with `resume`, a folder with a
    checkpoint is given instead. After an exception nothing is left, or, with `resume`, a folder
    with a checkpoint. A place that can't be written raises `LessonsError`.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = find_interrupted(out, names) if resume else None
        if folder is None:
            remove_leftovers(out, names)
            folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=out))
        is_kept = False
        try:
            yield folder
            for name in names:
                os.replace(folder / name, out / name)
        except BaseException:
            is_kept = resume and (folder / CHECKPOINT).exists()
            raise
        finally:
            if not is_kept:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        what, remedy = f"can't write here: {error.strerror}", "Choose another output folder."
        raise LessonsError(what, where=str(out), remedy=remedy) from None


def find_interrupted(out: Path, names: Sequence[str]) -> Path | None:
    """The folder with a checkpoint that a killed run has left in `out`, whole; None without one."""
    unfinished = [name for name in os.listdir(out) if (out / name / CHECKPOINT).is_file()]
    if not unfinished:
        return None
    list_leftovers(out, names)
    folder = out / unfinished[0]
    for name in names:  # killed while it moved them: back to the others
        if (out / name).exists():
            os.replace(out / name, folder / name)
    return folder


def remove_unfinished(out: Path) -> None:
    """Remove the folder of a run that was killed after its last move."""
    for path in out.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(out: Path, names: Sequence[str]) -> None:
    """Empty `out` of what a killed run left; anything else there raises, and is not touched."""
    for path in list_leftovers(out, names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def list_leftovers(out: Path, names: Sequence[str]) -> list[Path]:
    """All that is in `out`; `LessonsError` unless a killed run left it."""
    there = sorted(os.listdir(out))
    unfinished = [name for name in there if name.startswith(UNFINISHED)]
    # Without its working folder, a train.jsonl is not a leftover but somebody's file.
    ours = [*unfinished, *names[:-1]] if unfinished else []
    if strange := [name for name in there if name not in ours]:
        what = f"the folder is not empty: it holds {strange[0]}"
        remedy = "Choose a new or empty output folder."
        raise LessonsError(what, where=str(out), remedy=remedy)
    return [out / name for name in there]
