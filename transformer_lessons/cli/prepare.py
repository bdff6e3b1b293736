"""`prepare`: from files and folders to clean, distinct documents in three splits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.preparing import Counts, Manifest, prepare
from transformer_lessons.cli.train import option_value
from transformer_lessons.data.config import DataConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_sources, python_topics
from transformer_lessons.support.files import read_json

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
    """The output folder; it must be new or empty, but for --resume."""
    resume: bool = False
    """Go on where a run with the same options was interrupted, and end with the same files.

    Without such a run, start. With --resume, Ctrl-C too leaves a run that can be resumed."""
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
    console = PlainConsole()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        progress = ProgressLine(console, live)
        documents = CORPORA[options.corpus]()
        manifest = prepare(
            options.paths, options.out, options.data, progress, documents, options.resume
        )
    console.print(summary(manifest, progress))
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


class ProgressLine:
    """Shows the counts so far: refreshed in a terminal, else as a line now and then."""

    def __init__(self, console: Console, live: Live) -> None:
        self.console, self.live = console, live
        self.start = self.shown = time.perf_counter()
        self.before: Counts | None = None  # what an interrupted run had done

    def __call__(self, counts: Counts) -> None:
        """Show `counts`; the first ones are those that the run starts from."""
        if self.before is None:
            self.before = replace(counts)
            if counts.found:
                self.console.print(f"Going on after {counts.found:,} documents")
        now = time.perf_counter()
        if now - self.shown < REFRESH * (1 if self.console.is_terminal else 50):
            return
        self.shown = now
        kept = sum(counts.kept.values())
        line = f"{counts.found:,} found, {kept:,} kept, {self.rate(counts.characters)}"
        if self.console.is_terminal:
            self.live.update(Text(line), refresh=True)
        else:
            self.console.print(line)

    def rate(self, characters: int) -> str:
        """How fast it went since the start, up to the number of `characters`."""
        before = self.before.characters if self.before else characters
        seconds = time.perf_counter() - self.start
        return f"{(characters - before) / 1e6 / seconds:.1f} million characters/s"


def summary(manifest: Manifest, progress: ProgressLine) -> Table:
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
    seconds, rate = time.perf_counter() - progress.start, progress.rate(counts["characters"])
    table.add_row("time", f"{seconds:.1f} s", rate)
    return table
