"""FineWeb from afar, or parquet files like its own, by way of shards on this disk."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import name_of
from transformer_lessons.support.fineweb import FINEWEB, SAMPLE, open_fineweb, open_parquet
from transformer_lessons.support.shards import SHARD_SIZE, ShardFolder, read_shard


def open_shards(
    folder: Path,
    parquet: str | None = None,
    max_bytes: int | None = None,
    shard_size: int = SHARD_SIZE,
) -> ShardFolder:
    """The shards in `folder`, of FineWeb, or of a parquet file or a folder of them."""
    if parquet is None:
        return ShardFolder(folder, f"{FINEWEB} {SAMPLE}", _open_far, shard_size, max_bytes)
    given = Path(parquet)
    paths = sorted(given.glob("*.parquet")) if given.is_dir() else [given]
    if not paths or not all(path.is_file() for path in paths):
        what, remedy = "no parquet file here", "Name a .parquet file, or a folder with some."
        raise LessonsError(what, where=name_of(given), remedy=remedy)
    name = f"parquet files {', '.join(name_of(Path(path.name)) for path in paths)}"
    return ShardFolder(folder, name, lambda: open_parquet(paths), shard_size, max_bytes)


def _open_far() -> Any:
    try:
        return open_fineweb()
    except LessonsError as error:
        remedy = "Is there a network? Without one, name files that are here: --from-parquet FILE."
        raise LessonsError(error.what, where=error.where, remedy=remedy) from None


def shard_folder(cache: Path, parquet: str | None) -> Path:
    """Where the shards of a source are kept."""
    name = hashlib.sha256(parquet.encode("utf-8", "surrogateescape")).hexdigest() if parquet else ""
    return cache / (f"parquet-{name[:16]}" if name else "fineweb")


class ReadAhead:
    """The documents of shards; the next shard is fetched while the present one is read."""

    def __init__(self, shards: ShardFolder) -> None:
        self.shards, self.name = shards, shards.name

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents from number `start` on."""
        number, row = divmod(start, self.shards.shard_size)
        with ThreadPoolExecutor(1) as pool:
            path = self.shards.find(number)
            while path is not None:
                texts = read_shard(path, row)
                first = list(islice(texts, 1))  # now it is open, and may be deleted
                number, row = number + 1, 0
                following = pool.submit(self.shards.find, number)
                yield from chain(first, texts)
                path = following.result()
