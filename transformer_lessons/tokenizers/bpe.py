"""The tokenizer of GPT and its kin: bytes, joined into longer ones by merges. Lesson 3."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import tiktoken

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import (
    BPEParts,
    add_special_tokens,
    check_parts,
    errors_in,
    join_tokens,
    read_bpe,
    write_bpe,
)
from transformer_lessons.support.tiktoken_files import make_encoding, read_encoding
from transformer_lessons.support.tokenizer_json import read_huggingface, write_huggingface
from transformer_lessons.tokenizers.bpe_encoding import apply_merges, merges_of_ranks
from transformer_lessons.tokenizers.bpe_training import count_pretokens, learn_merges
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import (
    PATTERNS,
    pretokenize,
    safe_blocks,
    split_pattern,
    split_special,
)

N_CACHED, LONGEST_CACHED, HELD = 100_000, 256, 1 << 16  # pre-tokens, their size; of a stream
# What no merge makes, because every pattern cuts it, and many vocabularies have for marks.
MARK = re.compile(rb"<\|.+\|>|</?(s|pad|unk|bos|eos|mask)>|\[(PAD|UNK|CLS|SEP|MASK)\]")


class BPETokenizer:
    """Byte-pair encoding on bytes: any text in, the same text out, whatever it was trained on.

    `vocab` maps ids to tokens, `merges` are pairs of tokens, the first learned first (None: ids are
    in their order), `special_tokens` stand for themselves (new ones get the next ids), `pattern`
    names how text is cut into pre-tokens. Some published vocabularies lack the `missing_bytes`, or
    want accents joined to their letters: `normal_form="NFC"`. With one of `eos_ids` a text ends.

    >>> tokenizer = BPETokenizer.train("low lower lowest", vocab_size=258)
    >>> [tokenizer.vocab[token] for token in tokenizer.encode("lower")]
    [b'low', b'e', b'r']
    >>> tokenizer.decode(tokenizer.encode("slow ✓"))
    'slow ✓'
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]] | None,
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt4",
        missing_bytes: Iterable[int] = (),
        normal_form: str | None = None,
        eos_ids: Iterable[int] = (),
    ) -> None:
        self.vocab, self.pattern = dict(vocab), pattern
        self.special_tokens = add_special_tokens(self.vocab, special_tokens)
        self.missing_bytes, self.normal_form = sorted(missing_bytes), normal_form
        self.eos_ids = tuple(sorted(set(eos_ids)))
        special = set(self.special_tokens.values())
        self.ids = {token: id for id, token in self.vocab.items() if id not in special}
        if unnamed := [token for token in self.ids if MARK.fullmatch(token)]:
            what = f"{unnamed[0]!r} is in the vocabulary, but not among the special tokens"
            raise LessonsError(what, where="special_tokens", remedy="Name it there as well.")
        self.merges = merges_of_ranks(self.ids) if merges is None else list(merges)
        check_parts(self.parts)
        self.ranks = {left + right: rank for rank, (left, right) in enumerate(self.merges)}
        if wrong := set(map(tuple, self.merges)).difference(merges_of_ranks(self.ranks)):
            what = f"{min(wrong)} is a merge whose two parts never meet after the merges before"
            raise LessonsError(what, where="merges")
        split_pattern(pattern)  # an unknown one is refused here, not when it is first used
        self.encode_cached = lru_cache(N_CACHED)(self.encode_pretoken)

    @property
    def n_vocab(self) -> int:
        """One more than the largest id."""
        return max(self.vocab) + 1

    @property
    def parts(self) -> BPEParts:
        """The arguments that make the same tokenizer."""
        special_tokens = list(self.special_tokens)
        rest = self.pattern, self.missing_bytes, self.normal_form, self.eos_ids
        return BPEParts(self.vocab, self.merges, special_tokens, *rest)

    def __reduce__(self) -> tuple:
        return BPETokenizer, tuple(self.parts)  # the cache can't be pickled

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        pattern: str = "gpt4",
        n_workers: int = 1,
        report: Callable[[int], None] = lambda n_done: None,
    ) -> "BPETokenizer":
        """Learn a vocabulary of `vocab_size`: 256 bytes, the special tokens, the rest merges.

        `text` is a string or pieces of one, cut anywhere; special tokens in it are boundaries.
        `n_workers` processes split and count. If no pair is left to join, there are fewer merges.
        """
        if isinstance(special_tokens, str):
            raise LessonsError("one string", where="special_tokens", remedy="Give a list of them.")
        special_tokens = list(dict.fromkeys(special_tokens))  # each once
        if (n_merges := vocab_size - 256 - len(special_tokens)) < 0:
            what = f"vocab_size = {vocab_size} can't hold 256 bytes and the special tokens"
            remedy = f"Use at least {vocab_size - n_merges}."
            raise LessonsError(what, where="vocab_size", remedy=remedy)
        pieces = [text] if isinstance(text, str) else text
        counts = count_pretokens(pieces, pattern, special_tokens, n_workers)
        merges = learn_merges(counts, n_merges, report)
        tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
        return cls(dict(enumerate(tokens)), merges, special_tokens, pattern)

    def encode_pretoken(self, pretoken: str) -> tuple[int, ...]:
        """The ids of one pre-token; `encode_cached` remembers those of the last 100,000."""
        token = utf8_bytes(pretoken)
        if token in self.ids:  # a whole word is one token, most of the time
            return (self.ids[token],)
        parts = apply_merges(token, self.ranks)
        if missing := [part[0] for part in parts if part not in self.ids]:
            what = f"the vocabulary lacks the byte {missing[0]:#04x}, which is in {pretoken[:40]!r}"
            raise LessonsError(what, where="text", remedy="Leave the character out.")
        return tuple(self.ids[part] for part in parts)

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which special tokens have no special meaning."""
        utf8_bytes(text)
        if self.normal_form is not None:
            text = unicodedata.normalize("NFC", text)  # the only form that is known
        pretokens = pretokenize(text, self.pattern)
        if max(map(len, pretokens), default=0) <= LONGEST_CACHED:
            return list(chain.from_iterable(map(self.encode_cached, pretokens)))
        # Those as long as a page would fill memory, and are not remembered.
        encode = (self.encode_pretoken, self.encode_cached)
        return [id for p in pretokens for id in encode[len(p) <= LONGEST_CACHED](p)]

    def encode(self, text: str, allowed_special: Iterable[str] | str = ()) -> list[int]:
        """The ids of `text`; special tokens in it become their ids if allowed ("all": all are).

        Others raise `LessonsError`: text from outside must not forge the end of a document, say.
        """
        ids: list[int] = []
        for part, is_special in split_special(text, self.special_tokens, allowed_special):
            ids += [self.special_tokens[part]] if is_special else self.encode_ordinary(part)
        return ids

    def encode_iterable(
        self, lines: Iterable[str], allowed_special: Iterable[str] | str = ()
    ) -> Iterator[int]:
        """The ids of the joined `lines`, one by one; only a little of the text is held."""
        if self.normal_form is not None:  # an accent may be the first character of the next line
            raise LessonsError("a stream can't be normalized", remedy="Join it, and use encode.")
        allowed = allowed_special if isinstance(allowed_special, str) else list(allowed_special)
        n_before = 0
        for block in safe_blocks(lines, list(self.special_tokens), size=HELD):
            for part, is_special in split_special(block, self.special_tokens, allowed, n_before):
                yield from [self.special_tokens[part]] if is_special else self.encode_ordinary(part)
            n_before += len(block)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; an id that is not in the vocabulary raises `LessonsError`."""
        return join_tokens(ids, self.vocab.__getitem__)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, path: Path | str) -> None:
        """Write everything to a JSON file, which `load` reads; `path` is replaced whole."""
        write_bpe(Path(path), self.parts)

    @classmethod
    def load(cls, path: Path | str) -> "BPETokenizer":
        """The tokenizer that `save` wrote; what doesn't fit in the file raises `LessonsError`."""
        with errors_in(path):
            return cls(*read_bpe(Path(path)))

    def to_tiktoken(self) -> tiktoken.Encoding:
        """The same tokenizer as a `tiktoken.Encoding`, which is faster and gives the same ids."""
        return make_encoding(self.parts, PATTERNS[self.pattern])

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> "BPETokenizer":
        """The book's tokenizer with the tokens and ids of a tiktoken encoding."""
        return cls(*read_encoding(encoding, PATTERNS))

    def to_huggingface(self, path: Path | str) -> None:
        """Write a `tokenizer.json`, which Hugging Face's `tokenizers` opens, with the same ids."""
        write_huggingface(Path(path), self.parts)

    @classmethod
    def from_huggingface(cls, path: Path | str) -> "BPETokenizer":
        """The tokenizer in a `tokenizer.json`; its ids are those without tokens around a text."""
        with errors_in(path):
            return cls(*read_huggingface(Path(path)))
