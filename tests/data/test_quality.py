"""Quality: each limit on texts just inside and just outside it."""

import math
from dataclasses import fields

import pytest

from transformer_lessons.data.cleaning import clean
from transformer_lessons.data.quality import (
    QualityLimits,
    check_quality,
    letter_share,
    repeated_line_share,
    repeated_shingle_share,
)
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_topics

NO_LIMITS = {
    "min_characters": 1,
    "min_letters": 0.0,
    "max_repeated_lines": 1.0,
    "max_repeated_shingle": 1.0,
}


@pytest.mark.parametrize(
    ("limits", "good", "bad", "expected"),
    [
        ({"min_characters": 5}, "abcde", "abcd", ("too short", "4 characters")),
        ({"max_line": 3}, "abc\nde", "abc\nabcd\n", ("line too long", "4 characters")),
        (
            {"min_letters": 0.5},
            "a1 -- \n",
            "a1 ---",
            ("too few letters", "0.40 of it are letters or digits"),
        ),
        (
            {"max_repeated_lines": 0.5},
            "abc\n  abc\n",
            "abc\nabc\nabc",
            ("repeated lines", "0.67 of it are lines that were there before"),
        ),
        (
            {"max_repeated_shingle": 0.8},
            "0123456789" * 2 + "abcde",
            "0123456789" * 2 + "abcd",
            ("repeats itself", "one piece of 10 characters covers 0.83 of it"),
        ),
    ],
)
def test_each_limit_from_both_sides(limits, good, bad, expected):  # SPEC S1
    limits = QualityLimits(**{**NO_LIMITS, **limits})
    assert check_quality(good, limits) is None
    assert check_quality(bad, limits) == expected
    assert check_quality(bad, QualityLimits(**NO_LIMITS)) is None  # and it can be switched off


def test_the_measures_by_hand():
    assert letter_share("ab 12 !?") == pytest.approx(4 / 6)
    assert letter_share("") == letter_share(" \n") == 0
    assert repeated_line_share("a\nbb\na\n\n\n  a") == pytest.approx(2 / 5)
    assert repeated_line_share("") == 0
    # "0123456789" occurs three times in 33 characters; case and white space don't count.
    assert repeated_shingle_share("0123456789A0123456789B0123456789C") == pytest.approx(30 / 33)
    assert repeated_shingle_share("abcdefghijXYabcdefghij") == pytest.approx(20 / 22)
    assert repeated_shingle_share("ABC  DEFGHIJxyzabc\ndefghij") == pytest.approx(20 / 25)
    assert repeated_shingle_share("0123456789abc") == repeated_shingle_share("ab") == 0
    assert repeated_shingle_share("a" * 50) == 1


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
    limits = QualityLimits(min_characters=10)
    assert check_quality(text, limits) is None
    assert letter_share(text) > 0.6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 1000, "repeats itself"),
        ("buy now! " * 200, "repeats itself"),
        ("Home\nAbout\nContact\nImprint, and terms of use\n" * 9, "repeated lines"),
        ("|-|+|-|/\\<>;:" * 30, "too few letters"),
        ("A line.", "too short"),
    ],
)
def test_the_defaults_drop_what_nobody_would_read(text, reason):
    assert check_quality(text, QualityLimits())[0] == reason


def test_the_defaults_keep_documentation():
    topics = [clean(document.text)[0] for document in python_topics()]
    kept = [text for text in topics if check_quality(text, QualityLimits()) is None]
    assert len(kept) > 0.9 * len(topics)


SHARES = ("min_letters", "max_repeated_lines", "max_repeated_shingle")
BAD = [
    (name, value) for name in ("min_characters", "max_line") for value in (0, -1, 1.5, "4", True)
]
BAD += [(name, value) for name in SHARES for value in (-0.01, 1.01, math.nan, "1", None, True)]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_limit_is_named(name, value):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        QualityLimits(**{name: value})
    assert caught.value.where == f"QualityLimits.{name}"
    assert caught.value.what.startswith(f"{name} = {value!r} is not ")


def test_every_limit_is_in_the_list_above():  # SPEC S7
    assert {field.name for field in fields(QualityLimits)} == {name for name, _ in BAD}
