"""The references of lesson 17 against the package and numbers worked out by hand."""

from itertools import pairwise, product

import pytest
import torch

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.generation.filters import keep_min_p, keep_top_k, keep_top_p
from transformer_lessons.generation.penalties import penalize_repetition


def exercise(name):
    return find_exercise(f"17.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_17_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("17")] == [
        "17.draw",
        "17.top_k",
        "17.top_p",
        "17.min_p",
        "17.penalty",
        "17.beam",
    ]


def test_draws_by_hand():  # SPEC G4
    weights = torch.tensor([0.0, 2.0, 0.0, 1.0, 1.0, 0.0])
    places = (0.0, 0.49, 0.5, 0.74, 0.75, 0.999)
    assert [reference("draw")(weights, u) for u in places] == [1, 1, 3, 3, 4, 4]


def test_many_draws_have_the_shares():  # SPEC G4
    weights = torch.tensor([3.0, 0.0, 1.0, 4.0])
    drawn = torch.tensor([reference("draw")(weights, (n + 0.5) / 800) for n in range(800)])
    assert torch.bincount(drawn, minlength=4).tolist() == [300, 0, 100, 400]


@pytest.mark.parametrize("case", exercise("top_k").cases)
def test_top_k_is_the_packages(case):  # SPEC G4
    scores, k = case
    kept = keep_top_k(torch.tensor(scores), k).isfinite().nonzero().flatten()
    assert reference("top_k")(scores, k) == kept.tolist()


@pytest.mark.parametrize("case", exercise("top_p").cases)
def test_top_p_is_the_packages(case):  # SPEC G4
    shares, p = case
    expected = keep_top_p(shares.log(), p).softmax(-1)
    torch.testing.assert_close(reference("top_p")(shares, p), expected)


def test_top_p_by_hand():  # SPEC G4
    found = reference("top_p")(torch.tensor([0.25, 0.125, 0.5, 0.125]), 0.7)
    torch.testing.assert_close(found, torch.tensor([1 / 3, 0, 2 / 3, 0]))


@pytest.mark.parametrize("case", exercise("min_p").cases)
def test_min_p_is_the_packages(case):  # SPEC G4
    assert torch.equal(reference("min_p")(*case), keep_min_p(*case))


def test_min_p_by_hand():  # SPEC G4
    shares = torch.tensor([0.5, 0.06, 0.3, 0.04, 0.1])
    found = reference("min_p")(shares.log(), 0.1)
    assert found.exp().tolist() == pytest.approx([0.5, 0.06, 0.3, 0, 0.1])


@pytest.mark.parametrize("case", exercise("penalty").cases)
def test_penalty_is_the_packages(case):  # SPEC G4
    scores, history, penalty = case
    expected = penalize_repetition(torch.tensor(scores), history, penalty).tolist()
    assert reference("penalty")(*case) == pytest.approx(expected)


def best_of_all(first, follows, length):
    """The most likely text, by looking at every one."""

    def share(tokens):
        result = first[tokens[0]]
        for one, other in pairwise(tokens):
            result *= follows[one][other]
        return result

    return list(max(product(range(len(first)), repeat=length), key=share))


@pytest.mark.parametrize("case", exercise("beam").cases)
def test_a_wide_beam_finds_the_best_text(case):  # SPEC G4
    first, follows, length, _ = case
    expected = best_of_all(first, follows, length)
    assert reference("beam")(first, follows, length, 3**length) == expected


def test_the_garden_path_by_hand():  # SPEC G4
    first, follows = [0.6, 0.4], [[0.6, 0.4], [0.05, 0.95]]
    assert reference("beam")(first, follows, 2, 1) == [0, 0]  # 0.36
    assert reference("beam")(first, follows, 2, 2) == [1, 1]  # 0.38
