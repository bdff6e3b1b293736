"""Merges: by hand, by counting anew, with a heap, and by another library, all the same."""

import random
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.naive_bpe import join_pair, learn_merges_naively
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers import bpe_training
from transformer_lessons.tokenizers.bpe_training import (
    EDGE,
    count_pretokens,
    descending_key,
    find_pairs,
    join_everywhere,
    lay_out,
    learn_merges,
)
from transformer_lessons.tokenizers.pretokenizer import safe_blocks, split_pattern

BOTH = pytest.mark.parametrize("learn", [learn_merges_naively, learn_merges])
# Few letters and small counts: ties everywhere, and runs of one letter.
TIES = st.dictionaries(
    st.one_of(st.text("ab", max_size=9), st.text("abc\x00\xff", max_size=9)).map(
        lambda text: text.encode("latin-1")
    ),
    st.integers(1, 3),
    max_size=6,
)
ANY = st.dictionaries(st.binary(max_size=20), st.integers(1, 9), max_size=9)
# "low lower newest widest" and their counts are the example of Sennrich et al. 2016, figure 1.
SENNRICH = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}


@BOTH
def test_the_example_of_sennrich_et_al(learn):  # SPEC A1
    assert learn(SENNRICH, 100) == [
        (b"s", b"t"),  # 9, as is e s, but s is greater
        (b"e", b"st"),  # 9
        (b"o", b"w"),  # 7, as is l o
        (b"l", b"ow"),  # 7
        (b"w", b"est"),  # 6, as are n e and e w
        (b"n", b"e"),  # 6, as is e west
        (b"ne", b"west"),  # 6
        (b"w", b"i"),  # 3, as are i d and d est
        (b"wi", b"d"),
        (b"wid", b"est"),
        (b"low", b"e"),  # 2, as is e r
        (b"lowe", b"r"),
    ]


@BOTH
def test_the_example_of_gage(learn):  # SPEC A1
    merges = learn({b"aaabdaaabac": 1}, 3)
    assert merges == [(b"a", b"a"), (b"aa", b"a"), (b"aaa", b"b")]
    word = [b"a", b"a", b"a", b"b", b"d", b"a", b"a", b"a", b"b", b"a", b"c"]
    for pair in merges:
        word = join_pair(word, pair)
    assert word == [b"aaab", b"d", b"aaab", b"a", b"c"]  # XdXac, as in Gage 1994


@BOTH
@pytest.mark.parametrize(
    ("pretokens", "merges"),
    [
        # The lesser pair first would give (a, b), (c, d); the first seen would, too.
        ({b"ab": 1, b"cd": 1}, [(b"c", b"d"), (b"a", b"b")]),
        # Equal on the left: the right tokens decide.
        ({b"xa": 1, b"xb": 1}, [(b"x", b"b"), (b"x", b"a")]),
        # Bytes are compared, not ids: the token ab is newer than c, but less.
        ({b"ab": 3, b"abx": 2, b"cd": 2}, [(b"a", b"b"), (b"c", b"d"), (b"ab", b"x")]),
        # A token is less than a longer one that it begins.
        ({b"ab": 3, b"abx": 2, b"ay": 2}, [(b"a", b"b"), (b"ab", b"x"), (b"a", b"y")]),
        ({b"xab": 2, b"ab": 3, b"xa": 2}, [(b"a", b"b"), (b"x", b"ab"), (b"x", b"a")]),
        # The byte 255 is the greatest, 0 the least.
        ({b"\x00a": 1, b"\xffa": 1, b"za": 1}, [(b"\xff", b"a"), (b"z", b"a"), (b"\x00", b"a")]),
        # More frequent comes first, however small.
        ({b"ab": 2, b"zz": 1}, [(b"a", b"b"), (b"z", b"z")]),
        # A pre-token's count weighs each of its pairs.
        ({b"abab": 2, b"cd": 3}, [(b"a", b"b"), (b"c", b"d"), (b"ab", b"ab")]),
    ],
)
def test_of_equally_frequent_pairs_the_greater_is_joined(learn, pretokens, merges):  # SPEC A1
    assert learn(pretokens, 10) == merges


@BOTH
def test_fewer_merges_when_nothing_is_left(learn):  # SPEC A1
    assert learn({b"abc": 1}, 10) == [(b"b", b"c"), (b"a", b"bc")]
    assert learn({b"a": 5, b"": 2}, 10) == []
    assert learn({}, 10) == []
    assert learn(SENNRICH, 0) == []
    assert learn(SENNRICH, 1) == [(b"s", b"t")]


@given(pretokens=st.one_of(TIES, ANY), n_merges=st.integers(0, 30))
@settings(max_examples=300)
def test_the_heap_learns_what_counting_anew_does(pretokens, n_merges):  # SPEC A1, G3
    assert learn_merges(pretokens, n_merges) == learn_merges_naively(pretokens, n_merges)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_the_heap_learns_the_same_from_documentation(pattern):  # SPEC A1, G3
    pretokens = count_pretokens([python_documentation()[:40_000]], pattern)
    merges = learn_merges(pretokens, 120)
    assert merges == learn_merges_naively(pretokens, 120)
    assert len(set(merges)) == 120


def without_ties(words, n_merges):
    """Whether there is but one most frequent pair at each of the first `n_merges` merges."""
    words = {tuple(bytes([b]) for b in word): n for word, n in words.items()}
    for _ in range(n_merges):
        counts = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                counts[pair] += n
        top = counts.most_common(2)
        if not top or (len(top) == 2 and top[0][1] == top[1][1]):
            return False
        words = {tuple(join_pair(list(word), top[0][0])): n for word, n in words.items()}
    return True


def test_where_no_tie_decides_the_merges_are_those_of_hugging_face():  # SPEC A10
    dice, n_merges, n_compared = random.Random(0), 6, 0
    while n_compared < 40:
        words = {
            bytes(dice.choices(b"abcdefgh", k=dice.randint(2, 7))): dice.randint(1, 99)
            for _ in range(12)
        }
        if not without_ties(words, n_merges):
            continue
        model = tokenizers.models.BPE()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=len(set(b"".join(words))) + n_merges, show_progress=False
        )
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.train_from_iterator(
            (word.decode() for word, n in words.items() for _ in range(n)), trainer
        )
        by_id = {id: token for token, id in tokenizer.get_vocab().items()}
        learned = [by_id[id].encode() for id in sorted(by_id)][-n_merges:]
        assert [left + right for left, right in learn_merges(words, n_merges)] == learned
        n_compared += 1


def test_progress_is_reported_after_each_merge():  # SPEC A1
    said = []
    learn_merges(SENNRICH, 5, said.append)
    assert said == [1, 2, 3, 4, 5]
    said.clear()
    learn_merges(SENNRICH, 100, said.append)
    assert said == list(range(1, 13))


def test_the_pretokens_are_left_as_they_were():
    pretokens = dict(SENNRICH)
    learn_merges(pretokens, 100)
    learn_merges_naively(pretokens, 100)
    assert pretokens == SENNRICH


@pytest.mark.parametrize(
    ("word", "pair", "joined"),
    [
        ("a b c a b", "a b", "ab c ab"),
        ("a a a", "a a", "aa a"),
        ("a a a a", "a a", "aa aa"),
        ("a b", "b a", "a b"),
        ("ab c ab", "ab c", "abc ab"),
        ("a ab b", "a b", "a ab b"),
        ("a", "a a", "a"),
        ("c a b", "a b", "c ab"),
    ],
)
def test_a_pair_is_joined_from_the_left(word, pair, joined):  # SPEC A1
    word, joined = ([part.encode() for part in text.split()] for text in (word, joined))
    left, right = (part.encode() for part in pair.split())
    assert join_pair(word, (left, right)) == joined


def test_pretokens_lie_between_edges_and_those_that_never_occur_are_left_out():  # SPEC A1
    ids, weights = lay_out({b"ab": 5, b"gone": 0, b"": 3, b"c": 2})
    assert ids == [EDGE, 97, 98, EDGE, EDGE, 99, EDGE]
    assert weights == [0, 5, 5, 5, 3, 2, 2]
    assert find_pairs(lay_out({b"aaa": 2, b"ba": 3, b"aa": 1})[0]) == {
        (97, 97): [1, 2, 8],
        (98, 97): [5],
    }


def words_of(ids, tokens):
    """The words of `ids`, a character for each token, which must end with the id it begins with.

    As text, a word can be joined by `str.replace`, which goes from the left, too.
    """
    words, place = [""], 1
    while place < len(ids) - 1:
        if ids[place] == EDGE:
            words.append("")
            place += 1
        else:
            words[-1] += chr(ids[place])
            place += len(tokens[ids[place]])
            assert ids[place - 1] == ord(words[-1][-1])
    return words


def pairs_of(words):
    return Counter(tuple(map(ord, pair)) for word in words for pair in pairwise(word))


@given(
    pretokens=st.lists(st.text("ab", max_size=12).map(str.encode), min_size=1, unique=True),
    choices=st.lists(st.integers(0, 99), max_size=5),
)
@settings(max_examples=200)
def test_joining_in_place_is_replacing(pretokens, choices):  # SPEC A1
    tokens = [bytes([byte]) for byte in range(256)]
    ids, _ = lay_out(dict.fromkeys(pretokens, 1))
    places = find_pairs(ids)
    words = [word.decode() for word in pretokens]
    assert words_of(ids, tokens) == words
    for choice in choices:
        if not (pairs := sorted(pairs_of(words))):
            break
        left, right = pair = pairs[choice % len(pairs)]
        expected, new = pairs_of(words), len(tokens)
        words = [word.replace(chr(left) + chr(right), chr(new)) for word in words]
        tokens.append(tokens[left] + tokens[right])
        for lost, made, starts in join_everywhere(ids, places.pop(pair), pair, tokens):
            expected[lost] -= len(starts)
            expected[made] += len(starts)
            assert starts == sorted(starts)
            assert made not in places
            places[made] = starts
        assert words_of(ids, tokens) == words
        del expected[pair]
        assert {pair: n for pair, n in expected.items() if n} == pairs_of(words)


@pytest.mark.parametrize("text", ["a" * 20_000, "ab" * 10_000, None])
def test_one_endless_pretoken_takes_steps_in_proportion_to_its_length(monkeypatch, text):
    # SPEC A1
    text = text or "".join(random.Random(0).choices("abcdef", k=20_000))
    visited = []

    def counting(ids, starts, pair, tokens):
        visited.append(len(starts))
        return join_everywhere(ids, starts, pair, tokens)

    monkeypatch.setattr(bpe_training, "join_everywhere", counting)
    steps = []
    for n in (10_000, 20_000):
        visited.clear()
        learn_merges({text[:n].encode(): 1}, 500)
        steps.append(sum(visited))
    # Rewriting all of it for each merge would be hundreds of times its length.
    assert 10_000 / 4 < steps[0] < 3 * 10_000
    assert steps[1] < 2.1 * steps[0]


@given(st.lists(st.one_of(st.binary(max_size=4), st.text("ab", max_size=4).map(str.encode))))
def test_descending_keys_sort_backwards(tokens):  # SPEC A1
    assert sorted(tokens, key=descending_key) == sorted(tokens, reverse=True)
    assert [descending_key(a) == descending_key(b) for a, b in pairwise(tokens)] == [
        a == b for a, b in pairwise(tokens)
    ]


# Counting


def test_counts_by_hand():  # SPEC A1
    text = "low lower low<|end|> lower 12345\n"
    assert count_pretokens([text], special_tokens=["<|end|>"]) == {
        b"low": 1,
        b" lower": 2,
        b" low": 1,
        b" ": 1,
        b"123": 1,
        b"45": 1,
        b"\n": 1,
    }
    assert count_pretokens([text], "gpt2")[b" 12345"] == 1
    assert count_pretokens([]) == {}


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@given(pieces=st.lists(st.text(max_size=9), max_size=6))
def test_counts_are_those_of_a_counter_wherever_the_text_is_cut(pattern, pieces):  # SPEC A1
    found = split_pattern(pattern).findall("".join(pieces))
    assert count_pretokens(pieces, pattern) == Counter(pretoken.encode() for pretoken in found)


@pytest.mark.parametrize("special_tokens", [[], ["iterator", "an iterator"]])
def test_workers_count_like_one_process(monkeypatch, special_tokens):  # SPEC A1
    monkeypatch.setattr(bpe_training, "safe_blocks", partial(safe_blocks, size=9_000))
    text = python_documentation()[:200_000]
    pieces = [text[i : i + 777] for i in range(0, len(text), 777)]
    alone = count_pretokens(pieces, special_tokens=special_tokens)
    assert (b" iterator" in alone) == (not special_tokens)
    assert count_pretokens(pieces, special_tokens=special_tokens, n_workers=2) == alone
    assert sum(len(pretoken) * n for pretoken, n in alone.items()) > 190_000


def test_an_error_in_a_worker_arrives():  # SPEC S9
    with pytest.raises(LessonsError, match=r"'\\udcff' is not a character"):
        count_pretokens(["one two three\udcff"], n_workers=2)
