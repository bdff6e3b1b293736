"""The references of lesson 02 against Python's own codec, the package, and numbers by hand."""

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.pairs import pair_example
from transformer_lessons.exercises.exercise import find_exercise

CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]


def reference(name):
    return find_exercise(f"02.{name}").reference


def test_lengths_are_those_of_pythons_codec_for_every_character():  # SPEC G4
    length = reference("utf8_length")
    wrong = [n for n in CODE_POINTS if length(n) != len(chr(n).encode("utf-8"))]
    assert len(CODE_POINTS) == 1_112_064
    assert wrong == []


def test_lengths_by_hand():  # SPEC G4
    lengths = [reference("utf8_length")(ord(character)) for character in "aé€🙂"]
    assert lengths == [1, 2, 3, 4]


def test_every_seventh_character_is_decoded():  # SPEC G4
    decode = reference("decode_character")
    for number in CODE_POINTS[::7]:
        assert decode(chr(number).encode("utf-8")) == number


def test_the_euro_sign_by_hand():  # SPEC G4
    assert reference("decode_character")(b"\xe2\x82\xac") == 0x20AC == 8364


@given(st.text())
def test_characters_are_pythons_code_points(text):  # SPEC G4
    assert reference("count_characters")(text.encode("utf-8")) == len(text)


@given(st.text(), st.integers(0, 60))
def test_the_tail_is_what_a_streaming_decoder_holds_back(text, cut):  # SPEC G4, F6
    data = text.encode("utf-8")[:cut]
    n_tail = reference("incomplete_tail")(data)
    complete = data[: len(data) - n_tail]
    assert complete.decode("utf-8") == data.decode("utf-8", errors="ignore")
    waiting = codecs.getincrementaldecoder("utf-8")()
    assert complete.decode("utf-8") == waiting.decode(data)


@pytest.mark.parametrize(
    ("data", "n_bytes"), [(b"", 0), (b"a\xc3", 1), (b"\xf0\x9f\x99", 3), ("🙂".encode(), 0)]
)
def test_tails_by_hand(data, n_bytes):  # SPEC G4
    assert reference("incomplete_tail")(data) == n_bytes


def test_pairs_are_the_packages_and_check_by_hand():  # SPEC G4, F7
    dice = random.Random(0)
    for _ in range(200):
        source, answer = dice.randbytes(dice.randint(1, 9)), dice.randbytes(dice.randint(1, 9))
        inputs, targets = pair_example((source, answer))
        assert reference("pair_targets")(source, answer) == (inputs.tolist(), targets.tolist())
    assert reference("pair_targets")(b"ab", b"cd") == ([97, 98, 99], [-100, 99, 100])
