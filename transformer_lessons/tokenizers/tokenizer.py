"""What every tokenizer of the book can do, and how any of them is found again. Lessons 3 and 4."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import bpe_files
from transformer_lessons.support.files import read_json, sha256
from transformer_lessons.support.tiktoken_files import SPECIAL_TOKENS
from transformer_lessons.tokenizers import byte_tokenizer, tiktoken_tokenizer
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back: `ByteTokenizer`, `BPETokenizer`, `TiktokenTokenizer`, or yours.

    Every id is below `n_vocab`; an id without a token raises `LessonsError`. `special_tokens` such
    as <|endoftext|> stand for themselves: `encode` refuses a text with one in it, to
    `encode_ordinary` it is plain text, and `decode(encode_ordinary(text)) == text` for any text.
    With one of `eos_ids`, which the files of its model name, a text ends.

    >>> isinstance(ByteTokenizer(), Tokenizer)
    True
    """

    @property
    def n_vocab(self) -> int: ...
    @property
    def special_tokens(self) -> Mapping[str, int]: ...
    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_ordinary(self, text: str) -> list[int]: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def save(self, path: Path | str) -> None: ...
    @classmethod
    def load(cls, path: Path | str) -> Self: ...


def load_tokenizer(path_or_name: Path | str) -> Tokenizer:
    """The tokenizer of a name (bytes, cl100k_base, gpt2), a file or a folder.

    A file is one that `save` wrote, or Hugging Face's `tokenizer.json`. A folder has such a file,
    as a run's folder does, or is one of its checkpoints.

    >>> load_tokenizer("bytes").n_vocab
    256
    """
    if path_or_name == "bytes":
        return ByteTokenizer()
    if path_or_name in SPECIAL_TOKENS:
        return TiktokenTokenizer(str(path_or_name))
    path = Path(path_or_name)
    if path.is_dir():
        files = [folder / "tokenizer.json" for folder in (path, path.resolve().parent)]
        path = next((file for file in files if file.is_file()), files[0])
    document = read_json(path)
    document = document if isinstance(document, dict) else {}
    kinds = (byte_tokenizer, ByteTokenizer), (bpe_files, BPETokenizer)
    for module, kind in (*kinds, (tiktoken_tokenizer, TiktokenTokenizer)):
        if document.get("format") == module.FORMAT:
            return kind.load(path)
    if "model" in document:
        return BPETokenizer.from_huggingface(path)
    what, remedy = "not a tokenizer of this book", "`save` writes one; or use a tokenizer.json."
    raise LessonsError(what, where=str(path), remedy=remedy)


def fingerprint(tokenizer: Tokenizer) -> str:
    """The SHA-256 of the file that `tokenizer.save` writes: equal for equal tokenizers only.

    >>> fingerprint(ByteTokenizer())[:8]
    '9a14ae10'
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        return sha256(path)
