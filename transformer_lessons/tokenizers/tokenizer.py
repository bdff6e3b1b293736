"""What every tokenizer of the book can do, and how any of them is read back from its file."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import bpe_files
from transformer_lessons.support.files import read_json, sha256
from transformer_lessons.tokenizers import byte_tokenizer
from transformer_lessons.tokenizers import tiktoken_tokenizer as tiktoken_bridge
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back: `ByteTokenizer`, `BPETokenizer`, `TiktokenTokenizer`, or yours.

    For any text, `decode(encode_ordinary(text)) == text`. Every id is below `n_vocab`.

    >>> isinstance(ByteTokenizer(), Tokenizer)
    True
    """

    @property
    def n_vocab(self) -> int:
        """One more than the largest id."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Strings that stand for themselves, such as <|endoftext|>, and their ids."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; one with a special token in it raises `LessonsError`."""

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which special tokens have no special meaning."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; an id that is not in the vocabulary raises `LessonsError`."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""

    def save(self, path: Path | str) -> None:
        """Write a JSON file, which `load` and `load_tokenizer` read."""

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The tokenizer that `save` wrote; what doesn't fit in the file raises `LessonsError`."""


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer in a JSON file, of the kind that the file's "format" names."""
    kinds: dict[str, type[Tokenizer]] = {
        byte_tokenizer.FORMAT: ByteTokenizer,
        bpe_files.FORMAT: BPETokenizer,
        tiktoken_bridge.FORMAT: TiktokenTokenizer,
    }
    document = read_json(path)
    name = document.get("format") if isinstance(document, dict) else None
    if not isinstance(name, str) or name not in kinds:
        remedy = f"Its format must be one of {', '.join(kinds)}."
        raise LessonsError("not a tokenizer of this book", where=str(path), remedy=remedy)
    return kinds[name].load(path)


def fingerprint(tokenizer: Tokenizer) -> str:
    """The SHA-256 of the file that `tokenizer.save` writes: equal for equal tokenizers only.

    >>> fingerprint(ByteTokenizer())[:8]
    '9a14ae10'
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        return sha256(path)
