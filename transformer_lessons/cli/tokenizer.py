"""`tokenizer`: learn a vocabulary, turn text into token files, look at both, hand them on."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.tokenizer_tables import (
    export_table,
    facts_of,
    longest_table,
    progress,
    sample_text,
    size_of,
    token_file_table,
    tokenizer_table,
)
from transformer_lessons.data.token_files import END_OF_TEXT, tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.files import replace_file, sha256
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.pretokenizer import PATTERNS
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint, load_tokenizer


@dataclass(frozen=True)
class Train:
    """Learn byte-pair encoding from .txt and .jsonl files, or from Python's documentation.

    It can't be resumed: it takes seconds, and more where there is much text to read, for which
    --n-workers helps. What it has counted is in memory until the tokenizer is written.
    """

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

    A token file that is there already, of the same text and tokenizer, is kept.
    """

    tokenizer: Annotated[str, tyro.conf.Positional]
    """A tokenizer's .json file, or one of the names bytes, gpt2 and cl100k_base."""
    text: Annotated[Path, tyro.conf.Positional]
    """One document as .txt, or many as .jsonl with {"text": …} lines."""
    out: Path | None = None
    """The token file, NAME.npy with NAME.json beside it; by default the text's name."""
    n_workers: int = 1
    """Processes that encode."""


@dataclass(frozen=True)
class Inspect:
    """Show what a tokenizer or a token file is made of."""

    file: Annotated[str, tyro.conf.Positional]
    """A tokenizer's .json file, one of the names bytes, gpt2 and cl100k_base, or a token file."""
    text: Path | None = None
    """Measure compression on this .txt or .jsonl file, not on Python's documentation."""
    longest: int = 10
    """How many of the longest tokens to show."""


@dataclass(frozen=True)
class Export:
    """Write a tokenizer in the format of another library; ids stay the same."""

    tokenizer: Annotated[str, tyro.conf.Positional]
    """A tokenizer's .json file, or one of the names gpt2 and cl100k_base."""
    out: Path
    """The file to write; there must be nothing yet."""
    format: Literal["tiktoken", "huggingface"] = "huggingface"
    """huggingface: a tokenizer.json. tiktoken: tokens and ranks, a line each."""


def run(arguments: Sequence[str]) -> int:
    """Run one of the four; returns the exit code."""
    actions = {"train": train, "encode": encode, "inspect": show, "export": export}
    kinds = {"train": Train, "encode": Encode, "inspect": Inspect, "export": Export}
    prog = "python -m transformer_lessons tokenizer"
    options = tyro.extras.subcommand_cli_from_dict(kinds, prog=prog, args=list(arguments))
    actions[type(options).__name__.lower()](options, PlainConsole())
    return 0


def train(options: Train, console: PlainConsole) -> None:
    """Learn merges and write the tokenizer."""
    if bool(options.texts) == options.corpus:
        raise LessonsError("give either files to learn from or --corpus")
    check_workers(options.n_workers)
    check_new(options.out)
    special = options.special_tokens
    apart = END_OF_TEXT if END_OF_TEXT in special else "\n"  # documents must not run together
    n_merges = options.vocab_size - 256 - len(set(special))
    start = time.perf_counter()
    with progress(console) as bars:
        reading = bars.add_task("reading", total=sum(map(size_of, options.texts)))
        learning = bars.add_task("learning merges", total=n_merges)
        tokenizer = BPETokenizer.train(
            pieces(options.texts, apart, lambda n_read: bars.update(reading, completed=n_read)),
            options.vocab_size,
            special,
            options.pattern,
            n_workers=options.n_workers,
            report=lambda n_done: bars.update(learning, completed=n_done),
        )
    tokenizer.save(options.out)
    table = Table("after training", "", box=None)
    wanted = "" if tokenizer.n_vocab == options.vocab_size else ": no pair was left to join"
    table.add_row("vocabulary", f"{tokenizer.n_vocab:,} of {options.vocab_size:,}{wanted}")
    table.add_row("merges", f"{len(tokenizer.merges):,}")
    table.add_row("special tokens", ", ".join(tokenizer.special_tokens) or "none")
    table.add_row("time", f"{time.perf_counter() - start:.1f} s")
    console.print(table)
    console.print(f"Saved: {options.out}", soft_wrap=True)


def encode(options: Encode, console: PlainConsole) -> None:
    """Write the token file, unless it is there."""
    check_workers(options.n_workers)
    tokenizer, out = find_tokenizer(options.tokenizer), options.out
    if out is None:
        out = options.text.with_suffix(".npy")
    if out.exists():
        facts = facts_of(out)
        made_of = (fingerprint(tokenizer), sha256(options.text))
        if facts is None or (facts.tokenizer_sha256, facts.source_sha256) != made_of:
            check_new(out)
        console.print(token_file_table(facts))
        console.print(f"There already, of the same text and tokenizer: {out}", soft_wrap=True)
        return
    check_new(out)
    start = time.perf_counter()
    with progress(console) as bars:
        task = bars.add_task("encoding", total=size_of(options.text))
        tokens = tokenize_corpus(
            options.text,
            tokenizer,
            out,
            options.n_workers,
            report=lambda n_bytes, n_tokens: bars.update(task, completed=n_bytes),
        )
        bars.update(task, completed=size_of(options.text))
    seconds = time.perf_counter() - start
    table = token_file_table(tokens.facts)
    table.add_row("time", f"{seconds:.1f} s, {tokens.facts.n_bytes / 1e6 / seconds:.1f} MB/s")
    console.print(table)
    console.print(f"Saved: {out}", soft_wrap=True)


def show(options: Inspect, console: PlainConsole) -> None:
    """Print what a file is made of."""
    facts = facts_of(Path(options.file))
    if facts is not None:
        console.print(token_file_table(facts))
        return
    tokenizer = find_tokenizer(options.file)
    console.print(tokenizer_table(tokenizer, *sample_text(options.text)))
    console.print(longest_table(tokenizer, options.longest))


def export(options: Export, console: PlainConsole) -> None:
    """Write the tokenizer in another library's format."""
    check_new(options.out)
    tokenizer = find_tokenizer(options.tokenizer)
    if isinstance(tokenizer, TiktokenTokenizer):
        tokenizer = BPETokenizer.from_tiktoken(tokenizer.encoding)
    if not isinstance(tokenizer, BPETokenizer):
        remedy = "Train one with `python -m transformer_lessons tokenizer train`."
        raise LessonsError("only byte-pair encoding can be exported", where="bytes", remedy=remedy)
    if options.format == "huggingface":
        tokenizer.to_huggingface(options.out)
        opens = f"tokenizers.Tokenizer.from_file({str(options.out)!r})"
    else:
        ranks = tokenizer.to_tiktoken()._mergeable_ranks
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
        replace_file(options.out, "".join(lines))
        opens = f"tiktoken.load.load_tiktoken_bpe({str(options.out)!r})"
        console.print("This format holds neither the pattern nor the special tokens:")
        console.print(f"pat_str={PATTERNS[tokenizer.pattern]!r}", soft_wrap=True)
        console.print(f"special_tokens={tokenizer.special_tokens}", soft_wrap=True)
    console.print(export_table(tokenizer, options.format, options.out))
    console.print(f"Saved: {options.out}\nOpen it with {opens}", soft_wrap=True)


def find_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called bytes, gpt2 or cl100k_base, or the one in a file."""
    if name == "bytes":
        return ByteTokenizer()
    return TiktokenTokenizer(name) if name in ("gpt2", "cl100k_base") else load_tokenizer(name)


def pieces(texts: Sequence[Path], apart: str, report: Callable[[int], None]) -> Iterator[str]:
    """All the text to learn from, with `apart` after each document."""
    if not texts:
        yield python_documentation()
    n_read = 0
    for path in texts:
        for document in read_documents([path]):
            yield document.text
            if document.is_end:
                yield apart
            n_read += len(document.text)  # about as many bytes
            report(n_read)


def check_new(path: Path) -> None:
    """Raise `LessonsError` now, not after all the work, if `path` can't be written or is taken."""
    if path.exists():
        remedy = "Choose another --out, or remove it."
        raise LessonsError("there is a file here already", where=str(path), remedy=remedy)
    if not path.parent.is_dir():
        raise LessonsError("no such folder", where=str(path.parent), remedy="Make it first.")


def check_workers(n_workers: int) -> None:
    """Raise `LessonsError` for a number of processes that can't be started."""
    if not 1 <= n_workers <= 256:
        raise LessonsError(f"n_workers = {n_workers} is not from 1 to 256", where="--n-workers")
