"""The references of lesson 05 against the package and against numbers worked out by hand."""

import math

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.exercises.grader import grade
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.model.embedding import Embedding, sinusoidal_table


def reference(name):
    return find_exercise(f"05.{name}").reference


def test_the_lesson_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("05")] == [
        "05.one_hot_lookup",
        "05.table_gradient",
        "05.sinusoidal",
        "05.shift",
        "05.tied_count",
        "05.nearest_rows",
    ]


def test_one_hot_lookup_is_indexing():  # SPEC G4, E1
    for table, ids in find_exercise("05.one_hot_lookup").cases:
        assert torch.equal(reference("one_hot_lookup")(table, ids), table[ids])


def test_one_hot_lookup_accepts_other_ways():  # SPEC G4
    def by_comparison(table, ids):
        return (ids[:, None] == torch.arange(len(table))).float() @ table

    assert grade(find_exercise("05.one_hot_lookup"), by_comparison).correct


def test_table_gradient_is_autograds():  # SPEC G4, E1
    for n_rows, ids, upstream in find_exercise("05.table_gradient").cases:
        table = Embedding(n_rows, upstream.shape[1])
        table(ids).backward(upstream)
        assert torch.equal(reference("table_gradient")(n_rows, ids, upstream), table.weight.grad)


def test_table_gradient_by_hand():  # SPEC G4
    upstream = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    gradient = reference("table_gradient")(3, torch.tensor([2, 0, 2]), upstream)
    assert gradient.tolist() == [[3.0, 4.0], [0.0, 0.0], [11.0, 22.0]]


@pytest.mark.parametrize(("position", "d_model"), find_exercise("05.sinusoidal").cases)
def test_sinusoidal_is_the_packages(position, d_model):  # SPEC G4, E1
    [row] = sinusoidal_table(torch.tensor([position]), d_model).tolist()
    assert reference("sinusoidal")(position, d_model) == pytest.approx(row, abs=1e-6)


def test_sinusoidal_by_hand():  # SPEC G4
    row = reference("sinusoidal")(1, 4)  # sin 1, cos 1, sin 0.01, cos 0.01
    assert row == pytest.approx([0.84147, 0.54030, 0.01000, 0.99995], abs=5e-6)


def test_shift_moves_rows_of_the_table():  # SPEC G4, E1
    table = sinusoidal_table(torch.arange(50), d_model=6)
    for k in (1, 7, -3):
        for j in range(3):
            moved = table[10:20, 2 * j : 2 * j + 2] @ reference("shift")(k, 10_000 ** (-j / 3)).T
            expected = table[10 + k : 20 + k, 2 * j : 2 * j + 2]
            torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_shift_by_a_quarter_turn():  # SPEC G4
    quarter = reference("shift")(1, math.pi / 2)  # (sin, cos) = (0, 1) becomes (1, 0)
    torch.testing.assert_close(quarter @ torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_tied_count_is_the_packages(tied, position):  # SPEC G4, E2
    config = ModelConfig(
        vocab_size=256,
        context_length=64,
        d_model=32,
        n_layers=1,
        n_heads=2,
        d_ff=8,
        position=position,
        tie_embeddings=tied,
        head_bias=False,
    )
    counts = parameter_counts(config)
    ours = reference("tied_count")(256, 64, 32, tied, position == "learned")
    assert ours == counts["embedding"] + counts["head"]


def test_tied_count_of_gpt2_by_hand():  # SPEC G4, E2
    assert reference("tied_count")(50_257, 1024, 768, True, True) == (50_257 + 1024) * 768


def test_nearest_rows_by_hand():  # SPEC G4
    table = find_exercise("05.nearest_rows").cases[1][0]
    angles = [math.atan2(y, x) for x, y in table.tolist()]  # 0 is nearest to 1, 11 degrees off
    for row in range(len(table)):
        others = [i for i in range(len(table)) if i != row]
        expected = sorted(others, key=lambda i: -math.cos(angles[i] - angles[row]))
        assert reference("nearest_rows")(table, row, 5) == expected


def test_nearest_rows_are_those_of_torch():  # SPEC G4
    table = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    similarity = torch.cosine_similarity(table[7], table)
    similarity[7] = -2
    assert reference("nearest_rows")(table, 7, 4) == similarity.topk(4).indices.tolist()
