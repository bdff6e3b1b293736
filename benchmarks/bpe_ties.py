"""Do two programs learn the same merges? Up to the first tie, which each settles in its own way."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from transformer_lessons.support.tokenizer_json import byte_characters
from transformer_lessons.tokenizers.bpe_encoding import apply_merges, merges_of_ranks
from transformer_lessons.tokenizers.bpe_training import Pair


def merges_of_rustbpe(tokenizer: Any) -> list[Pair]:
    """The merges of a trained rustbpe tokenizer."""
    return merges_of_ranks({bytes(token): rank for token, rank in tokenizer.get_mergeable_ranks()})


def merges_of_huggingface(tokenizer: Any) -> list[Pair]:
    """The merges of a trained byte-level `tokenizers.Tokenizer`."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[c] for c in half) for half in pair) for pair in merges]


def pair_count(pretokens: Mapping[bytes, int], merges: Sequence[Pair], pair: Pair) -> int:
    """How often `pair` occurs in the pre-tokens once `merges` are applied.

    >>> pair_count({b"lowlow": 3}, [(b"l", b"o")], (b"lo", b"w"))
    6
    """
    ranks = {left + right: rank for rank, (left, right) in enumerate(merges)}
    return sum(n * list(pairwise(apply_merges(p, ranks))).count(pair) for p, n in pretokens.items())


def agree_until_a_tie(
    pretokens: Mapping[bytes, int], ours: Sequence[Pair], theirs: Sequence[Pair]
) -> int:
    """At which merge the two lists part; `ValueError` unless both choices are equally frequent.

    >>> agree_until_a_tie({b"ab": 1, b"cd": 1}, [(b"c", b"d")], [(b"a", b"b")])
    0
    """
    both = list(zip(ours, theirs, strict=True))
    place = next((i for i, (a, b) in enumerate(both) if a != b), len(both))
    if place < len(both):
        counts = [pair_count(pretokens, ours[:place], pair) for pair in both[place]]
        if counts[0] != counts[1]:
            what = f"merge {place} is {both[place]}, {counts} times"
            raise ValueError(f"the programs part where nothing is tied: {what}")
    return place
