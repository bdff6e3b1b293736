"""The references of lesson 03 against the package and against numbers worked out by hand."""

import random
from itertools import pairwise

import pytest

from benchmarks.naive_bpe import join_pair, learn_merges_naively
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.bpe_training import (
    find_pairs,
    lay_out,
    learn_merges,
)

FOUR_WORDS = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}


def reference(name):
    return find_exercise(f"03.{name}").reference


def pair_counts(pretokens):
    """How often each pair occurs, as the package counts when it begins to learn."""
    ids, weights = lay_out(pretokens)
    places = find_pairs(ids)
    return {pair: sum(weights[start] for start in starts) for pair, starts in places.items()}


def test_pairs_of_the_four_words_by_hand():  # SPEC G4
    words, counts = [list(word) for word in FOUR_WORDS], list(FOUR_WORDS.values())
    expected = {b"es": 9, b"st": 9, b"lo": 7, b"we": 8, b"er": 2, b"ol": 0}
    for pair, n in expected.items():
        assert reference("count_pair")(words, counts, tuple(pair)) == n


def test_counts_are_the_packages():  # SPEC G4
    pretokens = {b"aaab": 3, b"ba": 1, b"abab": 2}
    words, counts = [list(word) for word in pretokens], list(pretokens.values())
    for pair, n in pair_counts(pretokens).items():
        assert reference("count_pair")(words, counts, pair) == n


def test_the_best_pair_is_the_first_merge():  # SPEC G4, A5
    tokens = [bytes([byte]) for byte in range(256)]
    pair = reference("best_pair")(pair_counts(FOUR_WORDS), tokens)
    assert pair == tuple(b"st")  # 9, as e s has, and s sorts after e
    assert learn_merges_naively(FOUR_WORDS, 1) == [(b"s", b"t")]


def test_a_tie_is_settled_by_bytes_not_ids():  # SPEC G4
    assert reference("best_pair")({(0, 1): 2, (1, 0): 2}, [b"b", b"a"]) == (0, 1)


def test_joining_is_the_packages():  # SPEC G4
    dice = random.Random(0)
    for _ in range(300):
        word = dice.choices([1, 2], k=dice.randrange(9))
        pair = tuple(dice.choices([1, 2], k=2))
        joined = join_pair([bytes([id]) for id in word], (bytes(pair[:1]), bytes(pair[1:])))
        ids = [256 if len(token) == 2 else token[0] for token in joined]
        assert reference("join_pair")(word, pair, 256) == ids
    assert reference("join_pair")([5, 5, 5], (5, 5), 256) == [256, 5]


def test_encoding_is_the_packages():  # SPEC G4, A5
    merges = learn_merges(FOUR_WORDS, 12)
    tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
    tokenizer = BPETokenizer(dict(enumerate(tokens)), merges)
    ids = {token: id for id, token in enumerate(tokens)}
    table = {(ids[left], ids[right]): ids[left + right] for left, right in merges}
    dice = random.Random(1)
    for _ in range(200):
        text = "".join(dice.choices("lowernstid", k=dice.randrange(1, 12)))
        assert reference("encode_by_rank")(text.encode(), table) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<e>", [97, 256]),
        ("<e>!", [257]),
        ("<e>é", [256, 0xC3, 0xA9]),
        ("<e>!<e>", [257, 256]),
        ("<e!", [60, 101, 33]),
    ],
)
def test_special_tokens_by_hand(text, expected):  # SPEC G4
    special_tokens = {"<e>": 256, "<e>!": 257}
    assert reference("encode_special")(text, special_tokens, list(special_tokens)) == expected
    assert reference("encode_special")(text, special_tokens, []) == list(text.encode())
    vocab = {byte: bytes([byte]) for byte in range(256)}
    tokenizer = BPETokenizer(vocab, [], list(special_tokens))
    assert tokenizer.encode(text, "all") == expected


def test_bytes_per_token_by_hand():  # SPEC G4
    assert reference("bytes_per_token")(["abcdef", "ab"], [[256, 257], [97, 98]]) == 2.0
    assert reference("bytes_per_token")(["é"], [[195, 169]]) == 1.0


def test_every_merge_of_a_case_can_happen():  # SPEC G4
    # The exercise must not teach with merges that no training would learn.
    for _, merges in find_exercise("03.encode_by_rank").cases:
        known = set(range(256))
        for (left, right), new in merges.items():
            assert {left, right} <= known
            known.add(new)
        assert all(a < b for a, b in pairwise(merges.values()))
