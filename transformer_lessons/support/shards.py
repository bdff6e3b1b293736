"""Shards: the documents of a source far away, of which a part is in a folder on this disk.

A shard is a parquet file of `shard_size` documents. When there is no room, those read longest ago
are deleted; their facts (number, hash, where the source goes on) stay, so that a shard fetched
again is the same or refused.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import fineweb
from transformer_lessons.support.documents import name_of
from transformer_lessons.support.files import decode_utf8, field, new_file, read_json, write_json
from transformer_lessons.support.parquet import read_rows

FORMAT, CLAIM = "transformer_lessons/shards-1", "source.json"  # of the file that says whose shards
SHARD_SIZE, GROUP_SIZE = 5_000, 500  # documents of a shard: of FineWeb, 15 MB; of a row group
_SHARD = re.compile(r"shard-(\d{6,18})\.(parquet|json)")


@dataclass(frozen=True)
class ShardFacts:
    """What stays of a shard that was fetched once."""

    n_documents: int
    n_bytes: int  # of the file
    sha256: str  # of the documents
    behind: dict  # the state of the stream behind the last document


def open_shards(
    folder: Path, parquet: str | None = None, max_bytes: int | None = None,
    shard_size: int = SHARD_SIZE,
) -> "ShardFolder":  # fmt: skip
    """The shards in `folder`, of FineWeb, or of a parquet file or a folder of them."""
    if parquet is None:
        name = f"{fineweb.FINEWEB} {fineweb.SAMPLE}"
        return ShardFolder(folder, name, fineweb.open_rows, shard_size, max_bytes)
    given = Path(parquet)
    paths = sorted(given.glob("*.parquet")) if given.is_dir() else [given]
    if not paths or not all(path.is_file() for path in paths):
        what, remedy = "no parquet file here", "Name a .parquet file, or a folder with some."
        raise LessonsError(what, where=name_of(given), remedy=remedy)
    name = f"parquet files {', '.join(name_of(Path(path.name)) for path in paths)}"
    return ShardFolder(folder, name, lambda: fineweb.open_rows(paths), shard_size, max_bytes)


class ShardFolder:
    """The documents of the source `name`, by way of the shards in `folder`.

    `open_stream` opens the source at its first row, as a row stream of the library `datasets`:
    an iterator of rows {"text": …} with `state_dict` and `load_state_dict`. The shards take
    `max_bytes` of the disk at most, and one more while it comes.
    """

    def __init__(
        self, folder: Path, name: str, open_stream: Callable[[], Any],
        shard_size: int = SHARD_SIZE, max_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.name, self.open_stream = folder, name, open_stream
        self.shard_size, self.max_bytes = shard_size, max_bytes
        self.stream: Any = None
        self.texts: Iterator[str] = iter(())  # of the open stream
        self.next_shard = -1  # the one that the open stream stands in front of
        _claim(folder, {"format": FORMAT, "name": name, "shard_size": shard_size})

    def path(self, number: int) -> Path:
        """The file of shard `number`; its facts are beside it, as .json."""
        return self.folder / f"shard-{number:06d}.parquet"

    def known(self) -> list[int]:
        """The numbers of the shards that have facts, in order."""
        found = (_SHARD.fullmatch(path.name) for path in self.folder.glob("*.json"))
        return sorted(int(match[1]) for match in found if match)

    def facts(self, number: int) -> ShardFacts | None:
        """The facts of shard `number`, None if it was never fetched."""
        path = self.path(number).with_suffix(".json")
        if not path.exists():
            return None
        values, kinds = read_json(path), ShardFacts.__annotations__.items()
        return ShardFacts(*(field(values, name, kind, str(path)) for name, kind in kinds))

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents from number `start` on.

        The next shard is fetched while the present one is read.
        """
        number, row = divmod(start, self.shard_size)
        with ThreadPoolExecutor(1) as pool:
            path = self.find(number)
            while path is not None:
                texts = read_shard(path, row)
                first = list(islice(texts, 1))  # now it is open, and may be deleted
                number, row = number + 1, 0
                following = pool.submit(self.find, number)
                yield from chain(first, texts)
                path = following.result()

    def find(self, number: int) -> Path | None:
        """The file of shard `number`, fetched if it isn't there; None behind the last shard."""
        path, facts, last = self.path(number), self.facts(number), max(self.known(), default=-1)
        if facts is None and number > last:  # a shard that isn't full is the source's last
            final = self.facts(last) if last >= 0 else None
            if final and final.n_documents < self.shard_size:
                return None
        if facts is None or not path.exists():
            facts = self.fetch(number)
        if (size := path.stat().st_size) != facts.n_bytes:
            what, remedy = f"{size:,} bytes instead of {facts.n_bytes:,}", "Delete it."
            raise LessonsError(what, where=str(path), remedy=remedy)
        with suppress(OSError):  # in a folder that is not ours to write, nothing is deleted
            os.utime(path, ns=(time.time_ns(),) * 2)
        return path

    def fetch(self, number: int) -> ShardFacts:
        """Fetch shard `number`: the same documents as the last time, or `LessonsError`."""
        path, before = self.path(number), self.facts(number)
        if number != self.next_shard:
            self._go_to(number)
        self.next_shard = -1  # until the shard is written
        with new_file(path) as file:
            n_documents, sha256 = write_shard(islice(self.texts, self.shard_size), file)
            facts = ShardFacts(n_documents, file.tell(), sha256, self.stream.state_dict())
            if before and (before.n_documents, before.sha256) != (n_documents, sha256):
                what = f"fetched again, it has other documents: {n_documents:,} with the hash "
                what += f"{sha256[:16]}…, not {before.n_documents:,} with {before.sha256[:16]}…"
                remedy = "The source has changed; begin with a new folder."
                raise LessonsError(what, where=str(path), remedy=remedy)
            self.make_room(facts.n_bytes)
        write_json(path.with_suffix(".json"), asdict(facts))
        self.next_shard = number + 1
        return facts

    def make_room(self, n_bytes: int) -> None:
        """Delete the shards read longest ago until `n_bytes` more fit in `max_bytes`."""
        if self.max_bytes is None:
            return
        if n_bytes > self.max_bytes:
            what = f"no room for a shard of {n_bytes:,} bytes within a limit of {self.max_bytes:,}"
            raise LessonsError(what, where=str(self.folder), remedy="Allow more.")
        found = [path for path in self.folder.glob("*.parquet") if _SHARD.fullmatch(path.name)]
        total = n_bytes + sum(path.stat().st_size for path in found)
        for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            if total > self.max_bytes:
                total -= path.stat().st_size
                path.unlink()

    def _go_to(self, number: int) -> None:
        """Open the source, go to the known place nearest to shard `number`, pass over the rest."""
        start = 1 + max((k for k in self.known() if k < number), default=-1)
        with fineweb.named_errors(self.name):
            self.stream = self.open_stream()
            if start > 0 and (facts := self.facts(start - 1)):
                self.stream.load_state_dict(facts.behind)
        self.texts = fineweb.texts_of(self.stream, self.name)
        n_between = (number - start) * self.shard_size
        if sum(1 for _ in islice(self.texts, n_between)) < n_between:
            what = f"the source has no document {number * self.shard_size:,}"
            raise LessonsError(what, where=self.name, remedy="Use a state of this very source.")


def read_shard(path: Path, start: int = 0) -> Iterator[str]:
    """The texts of a parquet file from row `start` on; a row without one raises `LessonsError`."""
    with open(path, "rb") as file:
        for row, data in read_rows(file, name_of(path), start):
            where = f"{name_of(path)}, row {row + 1}"
            if data is None:
                raise LessonsError("no text", where=where)
            yield decode_utf8(data, where)


def write_shard(texts: Iterator[str], file: BinaryIO) -> tuple[int, str]:
    """Write `texts` as a parquet file; returns their number, and a hash of them in their order."""
    import pyarrow
    import pyarrow.parquet

    n_documents, sha256 = 0, hashlib.sha256()
    schema = pyarrow.schema([("text", pyarrow.string())])
    options = {"compression": "zstd", "write_page_checksum": True}
    with pyarrow.parquet.ParquetWriter(file, schema, **options) as writer:
        while group := list(islice(texts, GROUP_SIZE)):
            for data in (text.encode("utf-8") for text in group):
                sha256.update(len(data).to_bytes(8, "little") + data)
            writer.write_table(pyarrow.table({"text": group}, schema))
            n_documents += len(group)
    return n_documents, sha256.hexdigest()


def _claim(folder: Path, claim: dict[str, Any]) -> None:
    """Say in `folder`, if it is empty, whose shards it holds; another's raises `LessonsError`."""
    where, remedy = folder / CLAIM, "Choose a new or empty folder, or one with shards."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            write_json(where, claim)
    except OSError as error:
        what = f"can't make the folder: {error.strerror}"
        raise LessonsError(what, where=str(folder), remedy=remedy) from None
    if not where.is_file():
        raise LessonsError("not a folder of shards", where=str(folder), remedy=remedy)
    there = read_json(where)
    found = {name: field(there, name, type(value), str(where)) for name, value in claim.items()}
    if found != claim:
        what = "it holds shards of {shard_size} documents from {name} ({format})".format(**found)
        what += ", not of {shard_size} from {name} ({format})".format(**claim)
        raise LessonsError(what, where=str(folder), remedy=remedy)
