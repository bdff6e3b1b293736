"""Duplicates: the estimate against the exact value, what is found, and what is left alone."""

import math
import random
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.deduplication import (
    FACTORS,
    N_BANDS,
    N_ROWS,
    SHUFFLES,
    ExactDuplicates,
    NearDuplicates,
    comparable,
    shingles,
    signature,
)


def similarity(a, b):
    return (a == b).mean()


def words(n, seed):
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghijklmnop", k=5)) for _ in range(n)]


def with_changes(text, n_changes, seed):
    """The words of `text`, some of them replaced."""
    changed, chance = list(text), random.Random(seed)
    for place in chance.sample(range(len(changed)), n_changes):
        changed[place] = "".join(chance.choices("qrstuvwxyz", k=5))
    return " ".join(changed)


def exact_jaccard(a, b, n=20):
    """By sets of strings: the definition."""
    first, second = (
        {text[i : i + n] for i in range(len(text) - n + 1)} for text in map(comparable, (a, b))
    )
    return len(first & second) / len(first | second)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_equal_pieces_have_equal_numbers_and_different_ones_different(text):
    pieces = [text[i : i + 20] for i in range(len(text) - 19)] or [text]
    numbers = shingles(text).tolist()
    assert len(numbers) == len(pieces)
    assert len(set(zip(pieces, numbers, strict=True))) == len(set(pieces)) == len(set(numbers))


def test_the_number_of_a_piece_by_hand():
    piece = "The quick brown fox 😀"[-20:]
    expected = sum(ord(c) * int(f) for c, f in zip(piece, FACTORS, strict=True)) % 2**32
    assert shingles(piece).tolist() == [expected]
    assert shingles("ab").tolist() == [(97 * int(FACTORS[0]) + 98 * int(FACTORS[1])) % 2**32]


def test_each_shuffle_is_one():
    factors, offsets = SHUFFLES.T
    assert (factors % 2 == 1).all()  # an odd factor can be divided by, mod 2^32: nothing collides
    assert len(set(factors.tolist())) == len(set(offsets.tolist())) == 128


def test_the_estimate_is_as_close_as_the_binomial_says():  # SPEC S1
    """Over 60 pairs: within 4 standard errors each, and right on average."""
    errors, standard_errors = [], []
    for seed in range(60):
        text = words(300, seed)
        a, b = " ".join(text), with_changes(text, seed, seed=1000 + seed)
        exact = exact_jaccard(a, b)
        estimate = similarity(*(signature(shingles(comparable(t))) for t in (a, b)))
        errors.append(estimate - exact)
        standard_errors.append(math.sqrt(exact * (1 - exact) / 128))
    for error, standard_error in zip(errors, standard_errors, strict=True):
        assert abs(error) <= 4 * standard_error + 1e-9
    deviation = math.sqrt(sum(e**2 for e in standard_errors)) / 60
    assert abs(np.mean(errors)) <= 4 * deviation
    # And no closer than chance allows: the shuffles are not all the same one, nor the sets equal.
    ratios = [e / s for e, s in zip(errors, standard_errors, strict=True) if s > 0]
    assert 0.7 < np.std(ratios) < 1.3


def test_signatures_by_brute_force():
    numbers = np.array([5, 2**32 - 1, 77], np.uint32)
    factors, offsets = SHUFFLES.T
    expected = [
        min((int(a) * int(x) + int(b)) % 2**32 for x in numbers)
        for a, b in zip(factors, offsets, strict=True)
    ]
    assert signature(numbers).tolist() == expected
    assert signature(numbers[::-1]).tolist() == expected  # a set has no order
    assert signature(numbers[:0]).tolist() == [2**32 - 1] * 128


def test_near_duplicates_are_found_and_different_texts_kept():  # SPEC S1
    seen, texts = NearDuplicates(threshold=0.8), [words(400, seed) for seed in range(40)]
    for number, text in enumerate(texts):
        assert seen.add(" ".join(text), f"text {number}") is None
    for number, text in enumerate(texts):
        close, far = with_changes(text, 2, seed=number), with_changes(text, 150, seed=number)
        assert exact_jaccard(" ".join(text), close) > 0.94
        assert exact_jaccard(" ".join(text), far) < 0.5
        assert seen.add(close, "close") == f"text {number}"
        assert seen.add(far, f"far {number}") is None


def test_how_often_a_pair_is_found_follows_the_curve():
    """At similarity s, a share 1 - (1 - s^r)^b of the pairs has a band in common."""
    assert (N_BANDS, N_ROWS) == (16, 8)
    found = expected = variance = 0.0
    for seed in range(300):
        text = words(120, seed)
        a, b = " ".join(text), with_changes(text, 5, seed=1000 + seed)
        seen = NearDuplicates(threshold=0.0)  # a band in common decides alone
        seen.add(a, "a")
        found += seen.add(b, "b") is not None
        s = exact_jaccard(a, b)
        probability = 1 - (1 - s**8) ** 16
        expected += probability
        variance += probability * (1 - probability)
    assert 0.3 < expected / 300 < 0.95  # the curve's steep part
    assert abs(found - expected) <= 4 * math.sqrt(variance)


def test_the_threshold_is_what_decides():
    text = words(400, seed=0)
    a, b = " ".join(text), with_changes(text, 8, seed=1)
    own = similarity(*(signature(shingles(comparable(t))) for t in (a, b)))
    assert 0.7 < own < 0.95
    for threshold, expected in ((own, "a"), (own + 1e-6, None)):
        seen = NearDuplicates(threshold)
        seen.add(a, "a")
        assert seen.add(b, "b") == expected


def test_case_and_white_space_do_not_count():
    text = "The  quick brown\nfox jumps over the lazy dog. " * 3
    for seen in (ExactDuplicates(), NearDuplicates(1.0)):
        assert seen.add(text, "a") is None
        assert seen.add(" ".join(text.upper().split()), "b") == "a"


def test_exact_duplicates_are_only_those():
    seen = ExactDuplicates()
    text = " ".join(words(400, seed=0))
    assert seen.add(text, "a") is None
    assert seen.add(text + "!", "b") is None
    assert seen.add(text, "c") == "a"
    assert seen.add(text + "!", "d") == "b"


def test_short_and_empty_texts():
    seen = NearDuplicates(0.8)
    found = [seen.add(text, text) for text in ("a", "b", "", "A", " ")]
    assert found == [None, None, None, "a", ""]


def test_many_texts_with_one_band_in_common_cost_no_more():
    """Only the first text of a band is compared: a hostile collection can't make this slow."""
    seen = NearDuplicates(0.8)
    for number in range(200):
        seen.add(" ".join(words(60, seed=0)[:45] + words(60, seed=number)[45:]), str(number))
    assert all(type(first) is int for first in seen.first.values())


def test_every_process_gives_the_same_signature():  # SPEC S1
    code = (
        "from transformer_lessons.data.deduplication import shingles, signature\n"
        "print(signature(shingles('It was the best of times, it was the worst.')).tolist())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    own = signature(shingles("It was the best of times, it was the worst.")).tolist()
    assert printed == {f"{own}\n"}
    assert own[:3] == [218030484, 559979551, 171927162]  # and every machine
