"""The references of lesson 04 against the package and numbers worked out by hand."""

import hashlib

import pytest
import torch

from transformer_lessons.data.deduplication import SHUFFLES, shingles, signature
from transformer_lessons.data.packing import document_mask
from transformer_lessons.data.sampler import WindowLoader, epoch_order
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises


def exercise(name):
    return find_exercise(f"04.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_04_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("04")] == [
        "04.jaccard",
        "04.minhash_signature",
        "04.bands",
        "04.split_of_document",
        "04.document_mask",
        "04.restart_positions",
        "04.resume_place",
    ]


@pytest.mark.parametrize("case", [("banana", "ananas", 2), ("the cat sat", "the cat sits", 3)])
def test_jaccard_is_the_packages(case):  # SPEC G4
    first, second, n = case
    one, two = (set(shingles(text, n).tolist()) for text in (first, second))
    assert reference("jaccard")(*case) == len(one & two) / len(one | two)


def test_jaccard_by_hand():  # SPEC G4
    assert reference("jaccard")("abc", "abd", 1) == 2 / 4  # a, b of a, b, c, d
    assert reference("jaccard")("abab", "ab", 2) == 1 / 2  # ab of ab, ba


def test_signature_is_the_packages():  # SPEC G4
    numbers = shingles("a text that is longer than its shingles")
    shuffles = SHUFFLES.tolist()
    ours = reference("minhash_signature")(numbers.tolist(), shuffles)
    assert ours == signature(numbers).tolist()
    assert reference("minhash_signature")([1, 2], [(1, 0), (3, 5)]) == [1, 8]


def test_bands_by_hand_and_by_counting():  # SPEC G4
    assert reference("bands")(0.5, 1, 2) == 0.25  # both of two numbers
    assert reference("bands")(0.5, 2, 1) == 0.75  # any of two
    # All 2^6 ways in which three bands of two numbers can agree, each as likely as any other.
    ways = [[n >> i & 1 for i in range(6)] for n in range(64)]
    hits = sum(any(way[i] and way[i + 1] for i in (0, 2, 4)) for way in ways)
    assert reference("bands")(0.5, 3, 2) == pytest.approx(hits / 64)


def test_split_by_hand():  # SPEC G4
    for text, validation, test in exercise("split_of_document").cases:
        u = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64
        expected = 2 if u < test else 1 if u < test + validation else 0
        assert reference("split_of_document")(text, validation, test) == expected


def test_cases_of_the_split_go_to_all_three():  # SPEC G4
    cases = exercise("split_of_document").cases
    found = {reference("split_of_document")(*case) for case in cases}
    assert found == {0, 1, 2}


@pytest.mark.parametrize("case", exercise("document_mask").cases)
def test_mask_is_the_packages(case):  # SPEC G4
    (documents,) = case  # numbers; the package is given tokens, and an end behind each document
    inputs = torch.cat([documents.diff(), torch.tensor([0])])  # 1 where a document ends
    assert torch.equal(reference("document_mask")(*case), document_mask(inputs, end_of_text=1))


@pytest.mark.parametrize("case", exercise("restart_positions").cases)
def test_positions_are_the_packages(case):  # SPEC G4
    tokens, end_of_text = case
    expected = document_mask(torch.tensor(tokens), end_of_text).sum(-1) - 1
    assert reference("restart_positions")(tokens, end_of_text) == expected.tolist()


@pytest.mark.parametrize("case", exercise("resume_place").cases)
def test_place_is_where_the_packages_sampler_goes_on(case):  # SPEC G4
    steps, n_windows, batch_size, rank, n_ranks = case
    loader = WindowLoader(range(n_windows), batch_size, seed=5, rank=rank, n_ranks=n_ranks)
    epoch, place = reference("resume_place")(*case)
    assert loader.numbers(steps * loader.stride)[0] == epoch_order(n_windows, 5, epoch)[place]
