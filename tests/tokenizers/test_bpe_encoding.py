"""Applying merges: the same tokens as merge after merge; and the work grows with the length."""

import heapq
import random
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken._educational import bpe_encode

from benchmarks.naive_bpe import join_pair
from transformer_lessons.tokenizers import bpe_encoding
from transformer_lessons.tokenizers.bpe_encoding import apply_merges, merges_of_ranks
from transformer_lessons.tokenizers.bpe_training import learn_merges

CORPORA = st.dictionaries(
    st.one_of(st.text("ab", max_size=12), st.text("abc", max_size=12)).map(str.encode),
    st.integers(1, 5),
    min_size=1,
    max_size=6,
)
PRETOKENS = st.one_of(st.text("ab", max_size=30), st.text("abcd", max_size=30)).map(str.encode)
# Any byte strings as tokens, in any order: no training would learn most of these.
RANKS = st.lists(st.text("ab", min_size=2, max_size=6).map(str.encode), unique=True, max_size=12)


def ranks_of(merges):
    return {left + right: rank for rank, (left, right) in enumerate(merges)}


def merge_one_by_one(pretoken, merges):
    """The tokens of `pretoken`: each merge, in the order learned, wherever it fits."""
    word = [bytes([byte]) for byte in pretoken]
    for pair in merges:
        word = join_pair(word, pair)
    return word


@pytest.mark.parametrize(
    ("pretoken", "tokens", "merged"),
    [
        ("lowest", "st est ow low", "low est"),
        ("aaa", "aa", "aa a"),  # leftmost first
        ("aaaaa", "aa aaaa", "aaaa a"),
        ("aaaaaaa", "aa aaa", "aa aa aaa"),
        ("abc", "bc ab", "a bc"),  # the lower rank, not the leftmost
        ("abc", "ab bc", "ab c"),
        ("abc", "bc ab abc", "abc"),
        ("abcd", "abcd", "a b c d"),  # nothing joins two of its parts
        ("abab", "ab bab", "ab ab"),
        ("xaby", "xab ab aby", "xab y"),  # xab is no pair before ab is a token
        ("xaby", "ab xab aby", "xab y"),
        ("a", "aa", "a"),
        ("", "aa", ""),
    ],
)
def test_tokens_by_hand(pretoken, tokens, merged):  # SPEC A1
    ranks = {token.encode(): rank for rank, token in enumerate(tokens.split())}
    assert apply_merges(pretoken.encode(), ranks) == [part.encode() for part in merged.split()]


@given(CORPORA, st.integers(0, 25), PRETOKENS)
@settings(max_examples=300)
def test_learned_merges_by_rank_are_merges_one_by_one(corpus, n_merges, pretoken):  # SPEC A1, G3
    merges = learn_merges(corpus, n_merges)
    ranks = ranks_of(merges)
    expected = merge_one_by_one(pretoken, merges)
    assert apply_merges(pretoken, ranks) == expected
    for word in corpus:
        assert apply_merges(word, ranks) == merge_one_by_one(word, merges)


@given(RANKS, PRETOKENS)
@settings(max_examples=300)
@example([b"aa", b"aaaa", b"aaa"], b"a" * 30)
def test_any_ranks_give_the_tokens_of_tiktokens_own_explanation(tokens, pretoken):  # SPEC A1, A10
    ranks = {token: rank for rank, token in enumerate(tokens)}
    all_ranks = {bytes([byte]): byte for byte in range(256)}
    all_ranks |= {token: 256 + rank for token, rank in ranks.items()}
    named = {id: token for token, id in all_ranks.items()}
    expected = (
        [named[id] for id in bpe_encode(all_ranks, pretoken, visualise=None)] if pretoken else []
    )
    assert apply_merges(pretoken, ranks) == expected


@pytest.mark.parametrize("letters", ["a", "ab", "abc", " \n"])
def test_long_pretokens(letters):  # SPEC A1, G3
    dice = random.Random(0)
    corpus = {"".join(dice.choices(letters, k=40)).encode(): 1 + i for i in range(8)}
    merges = learn_merges(corpus, 30)
    pretoken = "".join(dice.choices(letters, k=400)).encode()
    assert apply_merges(pretoken, ranks_of(merges)) == merge_one_by_one(pretoken, merges)


@given(CORPORA, st.integers(0, 25))
@settings(max_examples=200)
def test_learned_merges_follow_from_their_ranks(corpus, n_merges):  # SPEC A1
    merges = learn_merges(corpus, n_merges)
    assert merges_of_ranks(ranks_of(merges)) == merges


class CountingRanks(dict):
    """Ranks that count how often they are looked up, and how many bytes that took."""

    n_lookups = n_bytes = 0

    def get(self, token, default=None):
        self.n_lookups += 1
        self.n_bytes += len(token)
        return super().get(token, default)


def work(monkeypatch, pretoken, merges):
    """Heap operations, look-ups, and bytes looked up for one pre-token, which comes back whole."""
    n_heap = 0

    def counting(operation):
        def counted(*arguments):
            nonlocal n_heap
            n_heap += 1
            return operation(*arguments)

        return counted

    names = ("heappush", "heappop")
    counted = {name: counting(getattr(heapq, name)) for name in names}
    monkeypatch.setattr(bpe_encoding, "heapq", SimpleNamespace(heapify=heapq.heapify, **counted))
    ranks = CountingRanks(ranks_of(merges))
    assert b"".join(apply_merges(pretoken, ranks)) == pretoken
    return n_heap, ranks.n_lookups, ranks.n_bytes


@pytest.mark.parametrize("kind", ["letter", "spaces and x", "emoji", "random"])
def test_twice_the_length_is_twice_the_work(monkeypatch, kind):  # SPEC A1
    letters = random.Random(0).choices("ab", k=20_000)
    texts = {
        "letter": lambda n: "a" * n,
        "spaces and x": lambda n: " " * (n - 1) + "x",
        "emoji": lambda n: "😀" * n,
        "random": lambda n: "".join(letters[:n]),
    }
    make = texts[kind]
    merges = learn_merges({make(500).encode(): 1}, 8)
    once = work(monkeypatch, make(10_000).encode(), merges)
    twice = work(monkeypatch, make(20_000).encode(), merges)
    assert all(n < 2.1 * m for m, n in zip(once, twice, strict=True))
    n_bytes = len(make(10_000).encode())
    assert n_bytes / 2 < once[0] < 4 * n_bytes
    assert n_bytes / 2 < once[1] < 4 * n_bytes
