"""The tokenizer of GPT and its kin: bytes, joined into longer tokens by merges it has learned."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import tiktoken

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import read_bpe, write_bpe
from transformer_lessons.support.tokenizer_json import write_huggingface
from transformer_lessons.tokenizers.bpe_encoding import merge_chunk
from transformer_lessons.tokenizers.bpe_training import learn_merges, learn_merges_naively
from transformer_lessons.tokenizers.bpe_vocabulary import add_special_tokens, check_vocabulary
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.counting import count_chunks
from transformer_lessons.tokenizers.pretokenizer import (
    special_pattern,
    split_pattern,
    stream_chunks,
)
from transformer_lessons.tokenizers.quick_split import find_chunks
from transformer_lessons.tokenizers.tiktoken_tokenizer import encoding_parts, make_encoding

CACHED_CHUNKS, LONGEST_CACHED = 100_000, 256  # how many chunks, of how many characters at most


class BPETokenizer:
    """Byte-pair encoding on bytes: any text in, the same text out, whatever it was trained on.

    `vocab` maps ids to tokens, `merges` are pairs of tokens, the first learned first, and
    `special_tokens` are strings that stand for themselves; those not yet in `vocab` get the next
    ids. `pattern` names how text is cut into chunks, gpt2 or gpt4, say. Some published vocabularies
    lack a few bytes; `missing_bytes` says which, and a text that needs one raises `LessonsError`.
    Some models were trained on text in Unicode's form NFC, where an accent is joined to its letter;
    `normal_form="NFC"` brings text into it, which then comes back in it.

    >>> tokenizer = BPETokenizer.train("low lower lowest", vocab_size=258)
    >>> [tokenizer.vocab[token] for token in tokenizer.encode("lower")]
    [b'low', b'e', b'r']
    >>> tokenizer.decode(tokenizer.encode("slow ✓"))
    'slow ✓'
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
        pattern: str = "gpt4",
        missing_bytes: Iterable[int] = (),
        normal_form: str | None = None,
    ) -> None:
        self.vocab, self.merges, self.pattern = dict(vocab), list(merges), pattern
        self.special_tokens = add_special_tokens(self.vocab, special_tokens or ())
        self.missing_bytes, self.normal_form = sorted(missing_bytes), normal_form
        if normal_form not in (None, "NFC"):
            raise LessonsError(f"{str(normal_form)[:40]!r} is not NFC", where="normal_form")
        check_vocabulary(self.vocab, self.merges, self.special_tokens, self.missing_bytes)
        special = set(self.special_tokens.values())
        self.ids = {token: id for id, token in self.vocab.items() if id not in special}
        self.ranks = {left + right: rank for rank, (left, right) in enumerate(self.merges)}
        split_pattern(pattern)  # an unknown one is refused here, not when it is first used
        self.special = special_pattern(self.special_tokens)
        self.encode_cached = lru_cache(CACHED_CHUNKS)(self.encode_chunk)

    def __reduce__(self) -> tuple:
        # The cache can't be pickled; worker processes get a tokenizer made from the same parts.
        special_tokens = list(self.special_tokens)
        parts = (self.vocab, self.merges, special_tokens, self.pattern, self.missing_bytes)
        return BPETokenizer, (*parts, self.normal_form)

    @property
    def n_vocab(self) -> int:
        """One more than the largest id."""
        return max(self.vocab) + 1

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt4",
        method: str = "heap",
        n_workers: int = 1,
        report: Callable[[int], None] = lambda n_done: None,
    ) -> "BPETokenizer":
        """Learn a vocabulary of `vocab_size`: 256 bytes, the special tokens, the rest merges.

        `text` is a string or pieces of one, cut anywhere. Special tokens in it are boundaries and
        are not learned from. Both `method`s, "heap" and "naive", learn the same merges; when no
        pair is left to join, there are fewer. `n_workers` processes split and count; `report` is
        called with the number of merges so far.
        """
        if method not in ("heap", "naive"):
            raise LessonsError(f"method = {method!r} is not heap or naive", where="method")
        if isinstance(special_tokens, str):
            raise LessonsError("one string", where="special_tokens", remedy="Give a list of them.")
        n_merges = vocab_size - 256 - len(set(special_tokens))
        if n_merges < 0:
            what = f"vocab_size = {vocab_size} can't hold 256 bytes and the special tokens"
            remedy = f"Use at least {vocab_size - n_merges}."
            raise LessonsError(what, where="vocab_size", remedy=remedy)
        pieces = [text] if isinstance(text, str) else text
        counts = count_chunks(pieces, pattern, special_tokens, n_workers)
        if method == "heap":
            merges = learn_merges(counts, n_merges, report)
        else:
            merges = learn_merges_naively(counts, n_merges)
        tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
        return cls(dict(enumerate(tokens)), merges, list(dict.fromkeys(special_tokens)), pattern)

    def encode_chunk(self, chunk: str) -> tuple[int, ...]:
        """The ids of one chunk; `encode_cached` remembers those of the last 100,000 chunks."""
        token = utf8_bytes(chunk)
        if token in self.ids:  # a whole word is one token, most of the time
            return (self.ids[token],)
        parts = merge_chunk(token, self.ranks)
        if missing := [part for part in parts if part not in self.ids]:
            what = f"the vocabulary lacks the byte {missing[0][0]:#04x}, which is in {chunk[:40]!r}"
            raise LessonsError(what, where="text", remedy="Leave the character out.")
        return tuple(self.ids[part] for part in parts)

    def encode_any(self, chunk: str) -> tuple[int, ...]:
        """The ids of one chunk; one as long as a page is not remembered: many would fill memory."""
        short = len(chunk) <= LONGEST_CACHED
        return self.encode_cached(chunk) if short else self.encode_chunk(chunk)

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which special tokens have no special meaning."""
        utf8_bytes(text)
        if self.normal_form is not None:
            text = unicodedata.normalize(self.normal_form, text)
        chunks = find_chunks(text, self.pattern)
        encode = self.encode_cached
        if max(map(len, chunks), default=0) > LONGEST_CACHED:
            encode = self.encode_any
        return list(chain.from_iterable(map(encode, chunks)))

    def encode(self, text: str, allowed_special: Iterable[str] | str = ()) -> list[int]:
        """The ids of `text`; special tokens in it become their ids if they are allowed.

        One that isn't allowed raises `LessonsError`: text from outside must not be able to forge
        the end of a document, say. "all" allows all; `encode_ordinary` takes them as plain text.
        """
        allowed = self.check_allowed(allowed_special)
        utf8_bytes(text)  # what is no character is named with its place in the whole text
        if self.special is None:
            return self.encode_ordinary(text)
        ids: list[int] = []
        start = 0
        for match in self.special.finditer(text):
            self.refuse_special(match.group(), match.start(), allowed)
            ids += self.encode_ordinary(text[start : match.start()])
            ids.append(self.special_tokens[match.group()])
            start = match.end()
        return ids + self.encode_ordinary(text[start:])

    def encode_iterable(
        self, lines: Iterable[str], allowed_special: Iterable[str] | str = ()
    ) -> Iterator[int]:
        """The ids of the joined `lines`, one by one; only a little of the text is held."""
        if self.normal_form is not None:  # an accent may be the first character of the next line
            raise LessonsError("a stream can't be normalized", remedy="Join it, and use encode.")
        allowed = self.check_allowed(allowed_special)
        place = 0
        for chunk, is_special in stream_chunks(lines, self.pattern, list(self.special_tokens)):
            if is_special:
                self.refuse_special(chunk, place, allowed)
                yield self.special_tokens[chunk]
            else:
                yield from self.encode_any(chunk)
            place += len(chunk)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; an id that is not in the vocabulary raises `LessonsError`."""
        tokens = []
        for place, id in enumerate(ids):
            if id not in self.vocab:
                what, where = f"token {id} is not in the vocabulary", f"position {place}"
                raise LessonsError(what, where=where, remedy="Is it another tokenizer's?")
            tokens.append(self.vocab[id])
        return b"".join(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def check_allowed(self, allowed_special: Iterable[str] | str) -> set[str]:
        """`allowed_special` as a set of special tokens of this tokenizer."""
        if allowed_special == "all":
            return set(self.special_tokens)
        allowed = {allowed_special} if isinstance(allowed_special, str) else set(allowed_special)
        for unknown in allowed - self.special_tokens.keys():
            raise LessonsError(f"{unknown!r} is not a special token", where="allowed_special")
        return allowed

    def refuse_special(self, token: str, place: int, allowed: set[str]) -> None:
        """Raise `LessonsError` unless the special token found at `place` is allowed."""
        if token not in allowed:
            remedy = f"Pass allowed_special=[{token!r}], or use encode_ordinary."
            what = f"the text contains the special token {token!r}"
            raise LessonsError(what, where=f"character {place}", remedy=remedy)

    def save(self, path: Path | str) -> None:
        """Write everything to a JSON file, which `load` reads; `path` is replaced whole."""
        parts = (self.vocab, self.merges, self.special_tokens, self.pattern, self.missing_bytes)
        write_bpe(Path(path), *parts, self.normal_form)

    @classmethod
    def load(cls, path: Path | str) -> "BPETokenizer":
        """The tokenizer that `save` wrote; what doesn't fit in the file raises `LessonsError`."""
        return cls(**read_bpe(Path(path)))

    def to_tiktoken(self) -> tiktoken.Encoding:
        """The same tokenizer as a `tiktoken.Encoding`, which is faster and gives the same ids."""
        if self.normal_form is not None:
            raise LessonsError(f"tiktoken does not bring text into the form {self.normal_form}")
        return make_encoding(self.vocab, self.merges, self.special_tokens, self.pattern)

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> "BPETokenizer":
        """The book's tokenizer with the tokens and ids of a tiktoken encoding."""
        return cls(**encoding_parts(encoding))

    def to_huggingface(self, path: Path | str) -> None:
        """Write a `tokenizer.json`, which Hugging Face's `tokenizers` opens, with the same ids."""
        parts = (self.vocab, self.merges, self.special_tokens, self.pattern, self.normal_form)
        write_huggingface(Path(path), *parts)
