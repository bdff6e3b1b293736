"""`download`: what is fetched before it is used, so that it can be used without a network."""

from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.cli.options.data import FineWeb, SmolLM2
from transformer_lessons.cli.options.models import SMOLLM2
from transformer_lessons.support.assets import ASSETS, fetch, find_cached
from transformer_lessons.support.shards import open_shards


def run(options: FineWeb | SmolLM2) -> int:
    """Download what is named; returns the exit code."""
    if isinstance(options, FineWeb):
        download_fineweb(options, cli.PlainConsole())
    else:
        download_smollm2(cli.PlainConsole())
    return 0


def download_smollm2(console: cli.PlainConsole) -> None:
    """Fetch the model into the cache, unless it is there."""
    if (path := find_cached(SMOLLM2)) is not None:
        console.print(f"Already there: {path}", soft_wrap=True)
        return
    megabytes = ASSETS[SMOLLM2].n_bytes / 1e6
    with progress_line(console) as show:
        path = fetch(SMOLLM2, lambda n: show(f"{n / 1e6:.1f} of about {megabytes:.1f} MB"))
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
