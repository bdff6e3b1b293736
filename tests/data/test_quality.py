"""Quality: each limit on texts just inside and just outside it."""

import random
import zlib

import pytest

from transformer_lessons.data.cleaning import clean
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.quality import check_quality, compressed_share, letter_share
from transformer_lessons.support.corpus import python_topics

NO_LIMITS = {"min_characters": 1, "min_letters": 0.0, "min_compressed": 0.0}


@pytest.mark.parametrize(
    ("limits", "good", "bad", "expected"),
    [
        ({"min_characters": 5}, "abcde", "abcd", ("too short", "4 characters")),
        (
            {"min_letters": 0.5},
            "a1 -- \n",
            "a1 ---",
            ("too few letters", "0.40 of it are letters or digits"),
        ),
        (
            {"min_compressed": 0.2},
            "0123456789" * 10,  # 100 bytes become 21
            "0123456789" * 20,  # 200 become 21
            ("repeats itself", "compressed to 0.10 of its size"),
        ),
    ],
)
def test_each_limit_from_both_sides(limits, good, bad, expected):  # SPEC S1
    choices = DataConfig(**{**NO_LIMITS, **limits})
    assert check_quality(good, choices) is None
    assert check_quality(bad, choices) == expected
    assert check_quality(bad, DataConfig(**NO_LIMITS)) is None  # and it can be switched off


def test_the_measures_by_hand():
    assert letter_share("ab 12 !?") == pytest.approx(4 / 6)
    assert letter_share("") == letter_share(" \n") == 0
    assert compressed_share("é" * 50) == len(zlib.compress("é".encode() * 50)) / 100 < 0.2
    noise = random.Random(0).choices("0123456789abcdef", k=10_000)  # four bits a character
    assert 0.5 < compressed_share("".join(noise)) < 0.6
    assert compressed_share("a") > 1  # a header of a few bytes is added
    assert compressed_share("") == 8


@pytest.mark.parametrize(
    "text",
    [
        "हिन्दी एक भाषा है, जिसे भारत में बहुत लोग बोलते हैं और लिखते हैं।",  # marks are part of letters
        "我們今天去公園散步，看見很多花，也看見幾隻小鳥在樹上唱歌。",  # no spaces
        "اللغة العربية من أكثر اللغات انتشارا في العالم.",
        "ประเทศไทยมีภาษาไทยเป็นภาษาราชการ และมีอักษรเป็นของตนเอง",
        "def f(x):\n    return {key: x[key] + 1 for key in sorted(x)}\n",
    ],
)
def test_it_means_the_same_in_any_language(text):
    limits = DataConfig(min_characters=10)
    assert check_quality(text, limits) is None
    assert letter_share(text) > 0.6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 1000, "repeats itself"),
        ("buy now! " * 200, "repeats itself"),
        ("Home\nAbout\nContact\nImprint, and terms of use\n" * 19, "repeats itself"),
        ("|-|+|-|/\\<>;:" * 30, "too few letters"),
        ("A line.", "too short"),
    ],
)
def test_the_defaults_drop_what_nobody_would_read(text, reason):
    assert check_quality(text, DataConfig())[0] == reason


def test_the_defaults_keep_documentation():
    topics = [clean(document.text)[0] for document in python_topics()]
    kept = [text for text in topics if check_quality(text, DataConfig()) is None]
    assert len(kept) > 0.9 * len(topics)
