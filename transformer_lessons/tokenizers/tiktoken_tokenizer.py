"""The published tokenizers of GPT-2 and GPT-4, run by tiktoken, OpenAI's library. Lesson 3."""

from collections.abc import Iterable
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import join_tokens
from transformer_lessons.support.files import read_json, write_json
from transformer_lessons.support.tiktoken_files import published_encoding
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import PATTERNS, split_special

FORMAT = "transformer_lessons/tiktoken-1"


class TiktokenTokenizer:
    """A published tokenizer: `cl100k_base`, GPT-4's 100,277 ids, or `gpt2`, GPT-2's 50,257."""

    def __init__(self, name: str) -> None:
        self.name, self.encoding = name, published_encoding(name, PATTERNS)
        self.eos_ids: tuple[int, ...] = ()  # <|endoftext|> is known by its name

    @property
    def n_vocab(self) -> int:
        """One more than the largest id."""
        return self.encoding.n_vocab

    @property
    def special_tokens(self) -> dict[str, int]:
        """Strings that stand for themselves, and their ids."""
        return dict(self.encoding._special_tokens)

    def encode(self, text: str, allowed_special: Iterable[str] | str = ()) -> list[int]:
        """The ids of `text`; a special token that isn't allowed raises `LessonsError`."""
        ids: list[int] = []
        for part, is_special in split_special(text, self.special_tokens, allowed_special):
            ids += [self.special_tokens[part]] if is_special else self.encode_ordinary(part)
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which special tokens have no special meaning."""
        utf8_bytes(text)  # tiktoken would replace what is no character, and say nothing
        return self.encoding.encode_ordinary(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; an id that is not in the vocabulary raises `LessonsError`."""
        return join_tokens(ids, self.encoding.decode_single_token_bytes)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, path: Path | str) -> None:
        """Write a JSON file with the name; the vocabulary itself stays in the cache."""
        write_json(Path(path), {"format": FORMAT, "name": self.name})

    @classmethod
    def load(cls, path: Path | str) -> "TiktokenTokenizer":
        """The tokenizer that `save` wrote; another file raises `LessonsError`."""
        document = read_json(path)
        is_ours = isinstance(document, dict) and document.keys() == {"format", "name"}
        if not is_ours or document["format"] != FORMAT:
            raise LessonsError(f'not {{"format": "{FORMAT}", "name": …}}', where=str(path))
        return cls(document["name"])
