"""What `tokenizer` prints about tokenizers and token files."""

from contextlib import suppress
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.display import visible
from transformer_lessons.data.token_files import TokenFacts, open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.documents import read_documents
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint

SAMPLE = 1_000_000  # characters are enough to measure compression


def facts_of(path: Path) -> TokenFacts | None:
    """What a token file says about itself; None for a file that isn't one."""
    return open_tokens(path).facts if path.suffix == ".npy" and path.is_file() else None


def token_file_table(facts: TokenFacts) -> Table:
    """What a token file holds, as a table."""
    table = Table("token file", "", box=None)
    table.add_row("documents", f"{facts.n_documents:,}")
    table.add_row("tokens", f"{facts.n_tokens:,}, {facts.dtype.itemsize} bytes each")
    table.add_row("bytes of text", f"{facts.n_bytes:,}")
    table.add_row("bytes per token", f"{facts.n_bytes / max(facts.n_tokens, 1):.2f}")
    table.add_row("vocabulary", f"{facts.n_vocab:,}")
    table.add_row("tokenizer", f"{facts.tokenizer_sha256[:16]}…")
    table.add_row("source", f"{facts.source_sha256[:16]}…")
    return table


def tokenizer_table(tokenizer: Tokenizer, name: str, text: str) -> Table:
    """What a tokenizer is made of, and how well it compresses `text`."""
    table = Table(type(tokenizer).__name__, "", box=None)
    table.add_row("vocabulary", f"{tokenizer.n_vocab:,}")
    if isinstance(tokenizer, BPETokenizer):
        table.add_row("merges", f"{len(tokenizer.merges):,}")
        table.add_row("pattern", tokenizer.pattern)
    special = [f"{text} {id}" for text, id in tokenizer.special_tokens.items()]
    table.add_row("special tokens", ", ".join(special) or "none")
    table.add_row("SHA-256", f"{fingerprint(tokenizer)[:16]}…")
    n_bytes, n_tokens = len(utf8_bytes(text)), len(tokenizer.encode_ordinary(text))
    table.add_row(f"bytes per token of {name}", f"{n_bytes / n_tokens:.2f}")
    return table


def export_table(tokenizer: BPETokenizer, format: str, path: Path) -> Table:
    """What was written to `path`, as a table."""
    table = Table(f"in {format}'s format", "", box=None)
    table.add_row("vocabulary", f"{tokenizer.n_vocab:,}")
    table.add_row("merges", f"{len(tokenizer.merges):,}")
    table.add_row("special tokens", ", ".join(tokenizer.special_tokens) or "none")
    table.add_row("bytes of the file", f"{size_of(path):,}")
    return table


def longest_table(tokenizer: Tokenizer, n: int) -> Table:
    """The `n` longest tokens, as a table."""
    table = Table(Column("longest tokens", no_wrap=True), "id", "bytes", box=None)
    for token, id in longest_tokens(tokenizer, n):
        table.add_row(f'"{visible(token)}"', str(id), str(len(token)))
    return table


def sample_text(path: Path | None) -> tuple[str, str]:
    """The name and the first million characters of the text to measure compression on."""
    if path is None:
        return "Python's documentation", python_documentation()
    text = ""
    for document in read_documents([path]):
        text += document.text[: SAMPLE - len(text)]
        if len(text) >= SAMPLE:
            break
    if not text:
        raise LessonsError("no text to measure compression on", where=str(path))
    return str(path), text


def longest_tokens(tokenizer: Tokenizer, n: int) -> list[tuple[bytes, int]]:
    """The `n` tokens with the most bytes and their ids; special tokens are left out."""
    special, tokens = set(tokenizer.special_tokens.values()), []
    for id in range(tokenizer.n_vocab):
        if id not in special:
            with suppress(LessonsError):  # an id that no token has
                tokens.append((tokenizer.decode_bytes([id]), id))
    return sorted(tokens, key=lambda item: (-len(item[0]), item[1]))[: max(n, 0)]


def size_of(path: Path) -> int:
    """The size of a file in bytes; one that isn't there raises `LessonsError`."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None


def progress(console: PlainConsole) -> Progress:
    """Bars with a share and the time left, while someone is watching."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn())
    left = TimeRemainingColumn(compact=True)
    return Progress(*columns, left, console=console, disable=not console.is_terminal)
