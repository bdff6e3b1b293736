"""`prepare`: from files and folders to clean, distinct documents in three splits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from transformer_lessons.commands import PlainConsole
from transformer_lessons.commands.train import option_value
from transformer_lessons.config import read_json
from transformer_lessons.errors import LessonsError
from transformer_lessons.text.corpus import python_sources, python_topics
from transformer_lessons.text.data_config import DataConfig
from transformer_lessons.text.prepare import Counts, Manifest, prepare

CORPORA = {"none": tuple, "documentation": python_topics, "sources": python_sources}
REFRESH = 0.2  # seconds between two looks at the counts; without a terminal, 50 times as long


@dataclass(frozen=True)
class Prepare:
    """Clean documents, drop bad ones and duplicates, and split them for training.

    Writes train.jsonl, validation.jsonl, test.jsonl, dropped.jsonl and manifest.json.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files and folders with .txt, .md, .py, .jsonl and .parquet files."""
    corpus: str = "none"
    """What comes with Python goes first: its documentation, or the sources of its library."""
    out: Path = Path("runs/data")
    """The output folder; it must be new or empty."""
    config: Path | None = None
    """A JSON file with choices for --data; what it leaves out is as shown here."""
    data: DataConfig = field(default_factory=DataConfig)
    """Choices of cleaning, quality, duplicates and splits."""


def run(arguments: Sequence[str]) -> int:
    """Prepare, and say what came of it; returns the exit code."""
    options = parse(arguments)
    if options.corpus not in CORPORA:
        remedy = f"Known: {', '.join(CORPORA)}."
        raise LessonsError(f"no corpus {options.corpus!r}", where="--corpus", remedy=remedy)
    if not options.paths and options.corpus == "none":
        raise LessonsError("give files or folders to read, or --corpus documentation")
    console, start = PlainConsole(), time.perf_counter()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        manifest = prepare(
            options.paths,
            options.out,
            options.data,
            progress_line(console, live),
            CORPORA[options.corpus](),
        )
    console.print(summary(manifest, time.perf_counter() - start))
    console.print(
        f"Written to {options.out}; what was dropped is in {options.out / 'dropped.jsonl'}",
        soft_wrap=True,
    )
    return 0


def parse(arguments: Sequence[str]) -> Prepare:
    """The options; --config is read first, because it gives the defaults of --data."""
    data = DataConfig()
    if file := option_value(arguments, "--config"):
        values = read_json(file)
        data = DataConfig.from_dict(values, where=file)
    prog = "python -m transformer_lessons prepare"
    return tyro.cli(Prepare, args=arguments, default=Prepare(data=data), prog=prog)


def progress_line(console: Console, live: Live) -> Callable[[Counts], None]:
    """Shows the counts so far: refreshed in a terminal, else as a line now and then."""
    start = shown = time.perf_counter()

    def show(counts: Counts) -> None:
        nonlocal shown
        now = time.perf_counter()
        if now - shown < REFRESH * (1 if console.is_terminal else 50):
            return
        shown = now
        rate = counts.characters / 1e6 / (now - start)
        kept = sum(counts.kept.values())
        line = f"{counts.found:,} found, {kept:,} kept, {rate:.1f} million characters/s"
        if console.is_terminal:
            live.update(Text(line), refresh=True)
        else:
            console.print(line)

    return show


def summary(manifest: Manifest, seconds: float) -> Table:
    """What the run came to, as a table."""
    counts = manifest.to_dict()["counts"]
    table = Table("", "documents", "bytes", box=None)
    table.add_row("found", f"{counts['found']:,}")
    for reason, n in counts["dropped"].items():
        table.add_row(f"dropped: {reason}", f"{n:,}")
    for split, n in counts["kept"].items():
        table.add_row(
            f"kept: {split}", f"{n:,}", f"{manifest.outputs[f'{split}.jsonl']['bytes']:,}"
        )
    for step, n in counts["changed"].items():
        table.add_row(f"changed by {step}", f"{n:,}")
    rate = counts["characters"] / 1e6 / seconds
    table.add_row("time", f"{seconds:.1f} s", f"{rate:.1f} million characters/s")
    return table
