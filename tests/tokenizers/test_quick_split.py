"""Two engines for regular expressions, and one way of cutting text into chunks."""

import random
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers import quick_split
from transformer_lessons.tokenizers.pretokenizer import PATTERNS, split_text
from transformer_lessons.tokenizers.quick_split import STRETCH, ascii_pattern, find_chunks

# What the patterns tell apart, and the control characters that programs disagree about.
KINDS = "aslTV'1 \n\r\t-\x0b\x1c\x1f\x00"
BOTH = pytest.mark.parametrize("name", PATTERNS)


@BOTH
def test_every_short_ascii_text_is_split_alike(name):  # SPEC A1
    plain = ascii_pattern(name)
    for n in range(1, 4):
        for letters in product(KINDS, repeat=n):
            text = "".join(letters)
            assert plain.findall(text) == split_text(text, name), repr(text)


@BOTH
@given(text=st.text(st.characters(max_codepoint=127), max_size=40))
@settings(max_examples=500)
def test_every_ascii_text_is_split_alike(name, text):  # SPEC A1
    assert ascii_pattern(name).findall(text) == split_text(text, name)


@BOTH
@given(pieces=st.lists(st.one_of(st.text(), st.sampled_from(["ab ", "é", " ", "1\n"]))))
@example(["don't", " ", "caf", "é", "'LL", "ſ"])
def test_text_is_split_alike_whatever_stretches_it_is_cut_into(name, pieces):  # SPEC A1
    text = "".join(pieces)
    for size in (1, 4, 9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quick_split, "STRETCH", size)
            assert find_chunks(text, name) == split_text(text, name)


@BOTH
def test_a_long_text_with_a_few_other_letters_is_split_alike(name):  # SPEC A1
    dice = random.Random(0)
    letters = list(python_documentation()[: 5 * STRETCH])
    for place in dice.sample(range(2 * STRETCH, 3 * STRETCH), k=20):
        letters[place] = dice.choice("éß中😀²")
    text = "".join(letters)
    assert find_chunks(text, name) == split_text(text, name)


def test_only_stretches_with_other_letters_need_the_slower_engine(monkeypatch):  # SPEC A1
    asked = []

    class Watched:
        def findall(self, text):
            asked.append(text)
            return split_text(text)

    monkeypatch.setattr(quick_split, "split_pattern", lambda name: Watched())
    text = "one two " * 10_000 + "é " + "three " * 10_000
    assert find_chunks(text) == split_text(text)
    assert 0 < sum(map(len, asked)) <= 2 * STRETCH
    assert "é" in asked[0]


def test_an_unknown_pattern_is_refused():  # SPEC S9
    with pytest.raises(LessonsError, match="unknown split pattern 'gpt5'"):
        find_chunks("one", "gpt5")
