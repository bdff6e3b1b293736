"""The files of a shard cache: shards, the facts that stay of each, and what a folder is for.

A shard is `shard_size` documents: a parquet file, called by its number. No name of a file is ever
taken from what is written in a file.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes

FORMAT = "transformer_lessons/shards-1"
CLAIM = "source.json"  # says what a folder is for
GROUP_SIZE = 500  # documents of a row group, which are in memory while they are written


@dataclass(frozen=True)
class ShardFacts:
    """What stays of a shard that was fetched once."""

    n_documents: int
    n_bytes: int  # of the file
    sha256: str  # of the documents
    behind: dict[str, Any]  # the state of the stream behind the last document


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard.

    >>> shard_path(Path("cache"), 12).as_posix()
    'cache/shard-000012.parquet'
    """
    return folder / f"shard-{number:06d}.parquet"


def facts_path(folder: Path, number: int) -> Path:
    """The file of a shard's facts, which stays when the shard is deleted."""
    return shard_path(folder, number).with_suffix(".json")


def known_shards(folder: Path) -> list[int]:
    """The numbers of the shards in `folder` that have facts, in order."""
    matches = (re.fullmatch(r"shard-(\d{6,18})\.json", path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def write_shard(texts: Iterator[str], file: BinaryIO) -> tuple[int, str]:
    """Write `texts` as a parquet file; returns their number, and a hash of them in their order."""
    import pyarrow
    import pyarrow.parquet

    n_documents, sha256 = 0, hashlib.sha256()
    schema = pyarrow.schema([("text", pyarrow.string())])
    options = {"compression": "zstd", "write_page_checksum": True}
    with pyarrow.parquet.ParquetWriter(file, schema, **options) as writer:
        while group := list(islice(texts, GROUP_SIZE)):
            for data in map(utf8_bytes, group):
                sha256.update(len(data).to_bytes(8, "little") + data)
            writer.write_table(pyarrow.table({"text": group}, schema))
            n_documents += len(group)
    return n_documents, sha256.hexdigest()


def make_room(
    folder: Path, n_bytes: int, max_bytes: int | None, in_use: Collection[Path] = ()
) -> list[Path]:
    """Delete the shards read longest ago until `n_bytes` more fit in; returns those deleted.

    Those `in_use` stay. If that leaves too little room, nothing is deleted, and `LessonsError`.
    """
    if max_bytes is None:
        return []
    found = {}  # path -> when it was read, its size
    for path in folder.iterdir():
        if re.fullmatch(r"shard-\d{6,18}\.parquet", path.name):
            with suppress(FileNotFoundError):  # another process makes room as well
                found[path] = path.stat()
    total = n_bytes + sum(facts.st_size for facts in found.values())
    free = sorted(found.keys() - set(in_use), key=lambda path: (found[path].st_mtime_ns, path.name))
    if total - sum(found[path].st_size for path in free) > max_bytes:
        what = f"no room for a shard of {n_bytes:,} bytes within a limit of {max_bytes:,}"
        remedy = "Allow more, or begin a new folder with smaller shards."
        raise LessonsError(what, where=str(folder), remedy=remedy)
    deleted = []
    while total > max_bytes:
        path = free[len(deleted)]
        path.unlink(missing_ok=True)
        total -= found[path].st_size
        deleted.append(path)
    return deleted


def read_facts(folder: Path, number: int) -> ShardFacts | None:
    """The facts of shard `number`, None if it was never fetched."""
    path = facts_path(folder, number)
    if not path.exists():
        return None
    document, kinds = read_json(path), {"n_documents": int, "n_bytes": int, "sha256": str}
    kinds["behind"] = dict
    if not isinstance(document, dict) or {k: type(v) for k, v in document.items()} != kinds:
        remedy = "Delete it, and the shard is fetched again."
        raise LessonsError("not the facts of a shard", where=str(path), remedy=remedy)
    return ShardFacts(**document)


def claim_folder(folder: Path, name: str, shard_size: int) -> None:
    """Make `folder` the cache of one source, or raise `LessonsError` if it is something else."""
    if type(shard_size) is not int or shard_size < 1:
        what = f"shard_size = {shard_size!r} is not an integer of at least 1"
        raise LessonsError(what, where="ShardCache.shard_size")
    claim = {"format": FORMAT, "name": name, "shard_size": shard_size}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        remedy = "Choose another folder."
        what = f"can't make the folder: {error.strerror}"
        raise LessonsError(what, where=str(folder), remedy=remedy) from None
    if is_empty:
        replace_file(folder / CLAIM, json.dumps(claim) + "\n")
    there = read_claim(folder)
    if there != claim:
        what = f"it holds shards of {there['shard_size']} documents from {there['name']}, "
        what += f"not of {shard_size} from {name}"
        raise LessonsError(what, where=str(folder), remedy="Choose another folder.")


def read_claim(folder: Path) -> dict[str, Any]:
    """What `claim_folder` wrote: of which source the folder has shards, and of which size."""
    remedy = "Choose a new or empty folder, or one with shards."
    if not (folder / CLAIM).is_file():
        raise LessonsError("not a folder of shards", where=str(folder), remedy=remedy)
    claim = read_json(folder / CLAIM)
    kinds = {"format": str, "name": str, "shard_size": int}
    fits = isinstance(claim, dict) and {k: type(v) for k, v in claim.items()} == kinds
    if not fits or claim["format"] != FORMAT or claim["shard_size"] < 1:
        what = f"not the facts of a folder of shards, {FORMAT}"
        raise LessonsError(what, where=str(folder / CLAIM), remedy=remedy)
    return claim


def check_size(path: Path, n_bytes: int) -> None:
    """Raise `LessonsError` unless the file has the size that it was written with."""
    size = path.stat().st_size
    if size != n_bytes:
        what = f"{size:,} bytes instead of {n_bytes:,}"
        raise LessonsError(what, where=str(path), remedy="Delete it, and it is fetched again.")


def check_same(path: Path, before: ShardFacts | None, now: ShardFacts) -> None:
    """Raise `LessonsError` when a shard that was fetched again has other documents than before."""
    if before and (before.n_documents, before.sha256) != (now.n_documents, now.sha256):
        what = f"fetched again, it has other documents: {now.n_documents:,} with the hash "
        what += f"{now.sha256[:16]}…, not {before.n_documents:,} with {before.sha256[:16]}…"
        remedy = "The source has changed; begin with a new folder."
        raise LessonsError(what, where=str(path), remedy=remedy)
