"""`tokenizer`: learn a vocabulary, turn text into token files, look at both, hand them on."""

import base64
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.progress import Progress
from rich.table import Column, Table

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.display import visible
from transformer_lessons.data.documents import END_OF_TEXT
from transformer_lessons.data.token_files import open_tokens, tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.files import replace_file, sha256
from transformer_lessons.tokenizers import (
    BPETokenizer,
    TiktokenTokenizer,
    Tokenizer,
    fingerprint,
    load_tokenizer,
)
from transformer_lessons.tokenizers.pretokenizer import PATTERNS

SAMPLE = 1_000_000  # characters are enough to measure compression
Where = Annotated[str, tyro.conf.Positional]  # a tokenizer's file, folder or name, say


@dataclass(frozen=True)
class Train:
    """Learn byte-pair encoding from .txt and .jsonl files, or from Python's documentation."""

    texts: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files to learn from: .txt, or .jsonl with {"text": …} lines."""
    corpus: bool = False
    """Learn from Python's documentation, which this Python carries."""
    vocab_size: int = 4096
    """How many tokens: 256 bytes, the special tokens, and merges."""
    special_tokens: tuple[str, ...] = (END_OF_TEXT,)
    """Strings that stand for themselves."""
    pattern: str = "gpt4"
    """How text is cut into words: gpt2 or gpt4."""
    n_workers: int = 1
    """Processes that split and count."""
    out: Path = Path("tokenizer.json")
    """Where the tokenizer goes; there must be nothing yet."""


@dataclass(frozen=True)
class Encode:
    """Turn a .txt or .jsonl file into a token file, which training maps into memory.

    It is written whole or not at all. One of the same text and tokenizer is kept.
    """

    tokenizer: Where
    """A tokenizer's file or folder, or one of the names bytes, gpt2 and cl100k_base."""
    text: Annotated[Path, tyro.conf.Positional]
    """One document as .txt, or many as .jsonl with {"text": …} lines."""
    out: Path | None = None
    """The token file; by default beside the text, with its name."""


@dataclass(frozen=True)
class Inspect:
    """Show what a tokenizer or a token file is made of."""

    file: Where
    """A tokenizer's file or folder, one of the names bytes, gpt2, cl100k_base, or a token file."""
    text: Path | None = None
    """Measure compression on this .txt or .jsonl file, not on Python's documentation."""
    longest: int = 10
    """How many of the longest tokens to show."""


@dataclass(frozen=True)
class Export:
    """Write a tokenizer in the format of another library; ids stay the same."""

    tokenizer: Where
    """A tokenizer's file or folder, or one of the names bytes, gpt2 and cl100k_base."""
    out: Path
    """The file to write; there must be nothing yet."""
    format: Literal["tiktoken", "huggingface"] = "huggingface"
    """huggingface: a tokenizer.json. tiktoken: tokens and ranks, a line each."""


def run(arguments: Sequence[str]) -> int:
    """Run one of the four; returns the exit code."""
    actions: dict[type, Callable] = {Train: train, Encode: encode, Inspect: show, Export: export}
    kinds: dict[str, Callable] = {kind.__name__.lower(): kind for kind in actions}
    prog = "python -m transformer_lessons tokenizer"
    options: Any = tyro.extras.subcommand_cli_from_dict(kinds, prog=prog, args=list(arguments))
    actions[type(options)](options, PlainConsole())
    return 0


def train(options: Train, console: PlainConsole) -> None:
    """Learn merges and write the tokenizer."""
    if bool(options.texts) == options.corpus:
        raise LessonsError("give either files to learn from or --corpus")
    check_start(options.out, options.n_workers)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        n_bytes = sum(path.stat().st_size for path in options.texts if path.exists())
        reading = bars.add_task("reading", total=n_bytes)
        n_merges = options.vocab_size - 256 - len(set(options.special_tokens))
        learning = bars.add_task("learning merges", total=n_merges)
        tokenizer = BPETokenizer.train(
            pieces(options, lambda n_read: bars.update(reading, completed=n_read)),
            options.vocab_size,
            options.special_tokens,
            options.pattern,
            options.n_workers,
            report=lambda n_done: bars.update(learning, completed=n_done),
        )
    tokenizer.save(options.out)
    wanted = "" if tokenizer.n_vocab == options.vocab_size else ": no pair was left to join"
    rows = {"vocabulary": f"{tokenizer.n_vocab:,} of {options.vocab_size:,}{wanted}"}
    print_table(console, "after training", facts_of(tokenizer) | rows)
    console.print(f"Saved: {options.out}", soft_wrap=True)


def encode(options: Encode, console: PlainConsole) -> None:
    """Write the token file, unless it is there."""
    tokenizer, source = load_tokenizer(options.tokenizer), options.text
    out = options.out or source.with_suffix(".npy")
    if facts := token_facts(out):
        made_of = {fingerprint(tokenizer), sha256(source)}
        if made_of == {facts["tokenizer_sha256"], facts["source_sha256"]}:
            print_table(console, "token file", facts)
            console.print(f"There already, of the same text and tokenizer: {out}", soft_wrap=True)
            return
    check_start(out)
    with (
        warnings.catch_warnings(record=True) as warned,
        Progress(console=console, disable=not console.is_terminal) as bars,
    ):
        warnings.simplefilter("always")
        task = bars.add_task("encoding", total=source.stat().st_size if source.exists() else 0)
        report = lambda n_bytes, _: bars.update(task, completed=n_bytes)  # noqa: E731
        tokenize_corpus(source, tokenizer, out, report=report)
    for warning in warned:
        console.print(f"Warning: {warning.message}", soft_wrap=True)
    print_table(console, "token file", token_facts(out) or {})
    console.print(f"Saved: {out}", soft_wrap=True)


def show(options: Inspect, console: PlainConsole) -> None:
    """Print what a file is made of."""
    if facts := token_facts(Path(options.file)):
        print_table(console, "token file", facts)
        return
    tokenizer = load_tokenizer(options.file)
    name, text = options.text or "Python's documentation", sample_text(options.text)
    ratio = len(text.encode()) / len(tokenizer.encode_ordinary(text))
    rows = facts_of(tokenizer) | {f"bytes per token of {name}": f"{ratio:.2f}"}
    print_table(console, type(tokenizer).__name__, rows)
    tokens: dict[int, bytes] = {}
    for id in set(range(tokenizer.n_vocab)) - set(tokenizer.special_tokens.values()):
        with suppress(LessonsError):  # an id that no token has
            tokens[id] = tokenizer.decode_bytes([id])
    longest = sorted(tokens, key=lambda id: (-len(tokens[id]), id))[: max(options.longest, 0)]
    rows = {f'"{visible(tokens[id])}"': f"{id} {len(tokens[id])}" for id in longest}
    print_table(console, "longest tokens, with id and bytes", rows)


def export(options: Export, console: PlainConsole) -> None:
    """Write the tokenizer in another library's format."""
    check_start(options.out)
    tokenizer = load_tokenizer(options.tokenizer)
    if isinstance(tokenizer, TiktokenTokenizer):
        tokenizer = BPETokenizer.from_tiktoken(tokenizer.encoding)
    if not isinstance(tokenizer, BPETokenizer):
        remedy = "Train one with `python -m transformer_lessons tokenizer train`."
        raise LessonsError("only byte-pair encoding can be exported", where="bytes", remedy=remedy)
    opens = "tokenizers.Tokenizer.from_file"
    if options.format == "huggingface":
        tokenizer.to_huggingface(options.out)
    else:
        opens = "tiktoken.load.load_tiktoken_bpe"
        ranks = tokenizer.to_tiktoken()._mergeable_ranks
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
        replace_file(options.out, "".join(lines))
        console.print("This format holds neither the pattern nor the special tokens:")
        console.print(f"pat_str={PATTERNS[tokenizer.pattern]!r}", soft_wrap=True)
        console.print(f"special_tokens={tokenizer.special_tokens}", soft_wrap=True)
    console.print(f"Saved: {options.out}", soft_wrap=True)
    console.print(f"Open it with {opens}({str(options.out)!r})", soft_wrap=True)


def pieces(options: Train, report: Callable[[int], None]) -> Iterator[str]:
    """All the text to learn from; what is between documents keeps them from running together."""
    apart = END_OF_TEXT if END_OF_TEXT in options.special_tokens else "\n"
    if not options.texts:
        yield python_documentation()
    n_read = 0
    for document in read_documents(options.texts):
        yield document.text + (apart if document.is_end else "")
        n_read += len(document.text)  # about as many bytes
        report(n_read)


def token_facts(path: Path) -> dict[str, str] | None:
    """What a token file says about itself; None for a file that isn't one."""
    if path.suffix != ".npy" or not path.is_file():
        return None
    facts = open_tokens(path).facts
    rows = {name: str(value) for name, value in facts.items()}
    return rows | {"bytes per token": f"{facts['n_bytes'] / max(facts['n_tokens'], 1):.2f}"}


def sample_text(path: Path | None) -> str:
    """Text to measure compression on: the first million characters of a file."""
    if path is None:
        return python_documentation()
    if text := "".join(part.text for part in islice(read_documents([path]), 100))[:SAMPLE]:
        return text
    raise LessonsError("no text to measure compression on", where=str(path))


def facts_of(tokenizer: Tokenizer) -> dict[str, str]:
    """What a tokenizer is made of."""
    facts = {"vocabulary": f"{tokenizer.n_vocab:,}"}
    if isinstance(tokenizer, BPETokenizer):
        facts |= {"merges": f"{len(tokenizer.merges):,}", "pattern": tokenizer.pattern}
    special = [f"{text} {id}" for text, id in tokenizer.special_tokens.items()]
    sha256 = f"{fingerprint(tokenizer)[:16]}…"
    return facts | {"special tokens": ", ".join(special) or "none", "SHA-256": sha256}


def print_table(console: PlainConsole, title: str, rows: dict[str, str]) -> None:
    """Print names and values under a title."""
    table = Table(Column(title, no_wrap=True), "", box=None)
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def check_start(out: Path, n_workers: int = 1) -> None:
    """Raise `LessonsError` now, not after all the work, if `out` can't be written or is taken."""
    if not 1 <= n_workers <= 256:
        raise LessonsError(f"n_workers = {n_workers} is not from 1 to 256", where="--n-workers")
    if out.exists():
        remedy = "Choose another --out, or remove it."
        raise LessonsError("there is a file here already", where=str(out), remedy=remedy)
    if not out.parent.is_dir():
        raise LessonsError("no such folder", where=str(out.parent), remedy="Make it first.")
