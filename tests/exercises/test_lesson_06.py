"""The references of lesson 06 against the package and against numbers worked out by hand."""

import math

import pytest
import torch

from transformer_lessons.config import RopeScaling
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.model.rope import (
    rope_frequencies,
    rotate,
    rotate_complex,
    scale_like_llama3,
    to_split_layout,
)


def reference(name):
    return find_exercise(f"06.{name}").reference


def cases(name):
    return find_exercise(f"06.{name}").cases


@pytest.mark.parametrize(("head_dim", "theta"), cases("frequencies"))
def test_frequencies_are_the_packages(head_dim, theta):  # SPEC G4
    expected, _ = rope_frequencies(head_dim, theta, dtype=torch.float64)
    assert reference("frequencies")(head_dim, theta) == pytest.approx(expected.tolist(), rel=1e-12)


def test_frequencies_by_hand():  # SPEC G4
    assert reference("frequencies")(8, 10_000.0) == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(("x", "angles"), cases("rotate_split"))
def test_turns_are_the_packages(x, angles):  # SPEC G4
    expected = rotate(x, angles.cos(), angles.sin())
    torch.testing.assert_close(reference("rotate_split")(x, angles), expected)
    expected = rotate_complex(x, angles.cos(), angles.sin())
    torch.testing.assert_close(reference("rotate_interleaved")(x, angles), expected)


def test_quarter_turns_by_hand():  # SPEC G4
    # A quarter turn takes (x, y) to (-y, x); angle 0 leaves a pair alone.
    x, angles = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[math.pi / 2, 0.0]])
    split, interleaved = reference("rotate_split"), reference("rotate_interleaved")
    torch.testing.assert_close(split(x, angles), torch.tensor([[-3.0, 2.0, 1.0, 4.0]]))
    torch.testing.assert_close(interleaved(x, angles), torch.tensor([[-2.0, 1.0, 3.0, 4.0]]))


@pytest.mark.parametrize(("weight", "n_heads"), cases("to_split_rows"))
def test_reordering_is_the_packages(weight, n_heads):  # SPEC G4
    expected = to_split_layout(weight, n_heads, dim=0)
    assert torch.equal(reference("to_split_rows")(weight, n_heads), expected)


def test_reordering_by_hand():  # SPEC G4
    # Two heads of width 6: evens first, then odds, inside each head.
    rows = reference("to_split_rows")(torch.arange(12.0)[:, None], 2).flatten().tolist()
    assert rows == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@pytest.mark.parametrize(("frequencies", "length", "factor"), cases("llama3_frequencies"))
def test_slowing_is_the_packages(frequencies, length, factor):  # SPEC G4
    expected = scale_like_llama3(frequencies, RopeScaling("llama3", factor, length))
    torch.testing.assert_close(
        reference("llama3_frequencies")(frequencies, length, factor), expected
    )


def test_slowing_by_hand():  # SPEC G4
    # 5, 2.5 and 0.5 turns in 100 tokens: kept, half of 1 + half of 1/4, a quarter.
    frequencies = torch.tensor([5.0, 2.5, 0.5]) * 2 * math.pi / 100
    expected = frequencies * torch.tensor([1.0, 0.625, 0.25])
    torch.testing.assert_close(reference("llama3_frequencies")(frequencies, 100, 4.0), expected)
