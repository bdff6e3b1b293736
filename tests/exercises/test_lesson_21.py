"""The references of lesson 21 against the package, and numbers worked out by hand."""

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.model.cache import KVCache
from transformer_lessons.weights.gguf_blocks import low_then_high, two_a_byte
from transformer_lessons.weights.gptq import gptq
from transformer_lessons.weights.quantize import Int8Linear, round_to_groups


def exercise(name):
    return find_exercise(f"21.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_21_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("21")] == [
        "21.int8_row",
        "21.asymmetric",
        "21.pack",
        "21.bits_per_weight",
        "21.compensate",
        "21.kv_bytes",
    ]


@pytest.mark.parametrize("case", exercise("int8_row").cases)
def test_the_row_is_that_of_the_layer(case):  # SPEC G4, G10
    [row] = case
    layer = torch.nn.Linear(len(row), 1, bias=False)
    layer.weight.data = row[None]
    int8 = Int8Linear(layer)
    theirs = int8.weight[0] * int8.scale[0]
    torch.testing.assert_close(reference("int8_row")(row), theirs)


def test_the_row_by_hand():  # SPEC G4
    found = reference("int8_row")(torch.tensor([1.27, -0.504, 0.0]))
    torch.testing.assert_close(found, torch.tensor([1.27, -0.5, 0.0]))


@pytest.mark.parametrize("case", exercise("asymmetric").cases)
def test_the_asymmetric_row_is_the_packages(case):  # SPEC G4, G10
    row, bits = case
    theirs = round_to_groups(row[None], bits, len(row), dtype=torch.float32).weight()[0]
    torch.testing.assert_close(reference("asymmetric")(row, bits), theirs)


def test_the_asymmetric_row_by_hand():  # SPEC G4
    found = reference("asymmetric")(torch.tensor([1.0, 2.2, 4.0]), 2)
    assert found.tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("case", exercise("pack").cases)
def test_packing_is_the_packages(case):  # SPEC G4, G10
    q = torch.tensor(case[0], dtype=torch.uint8)
    packed = reference("pack")(*case)
    assert packed == two_a_byte(q).tolist()
    assert torch.equal(low_then_high(torch.tensor(packed, dtype=torch.uint8)), q)


def test_bits_per_weight_by_hand():  # SPEC G4
    bits = reference("bits_per_weight")
    assert bits(4, 32, True) == 8 * 18 / 32  # Q4_0
    assert bits(4, 32, False) == 8 * 20 / 32  # Q4_1
    assert bits(8, 32, True) == 8 * 34 / 32  # Q8_0


@pytest.mark.parametrize("case", exercise("compensate").cases)
def test_no_other_second_weight_is_better(case):  # SPEC G4, G10
    row, rounded, h = case

    def error(second):
        e = torch.tensor([row[0] - rounded, row[1] - second], dtype=torch.float64)
        return (e @ torch.tensor(h, dtype=torch.float64) @ e).item()

    best = reference("compensate")(*case)
    assert all(error(best) < error(best + step) for step in (-0.01, 0.01, 0.3))


def test_the_compensation_is_gptqs():  # SPEC G4, G10
    """The second column gets what the second weight, moved, rounds to."""
    weight, h = torch.tensor([[0.4, 1.0, -1.0, 1.0]]), torch.eye(4) * 2
    h[0, 1] = h[1, 0] = 1.9
    found = gptq(weight, h, 3, 4)
    damped = (h + 0.02 * torch.eye(4)).tolist()
    first = found.weight()[0, 0].item()
    moved = reference("compensate")([0.4, 1.0], first, damped)
    step = found.scale.item()
    assert found.q[0, 1].item() == min(7, round((moved + 1) / step))


def test_kv_bytes_are_a_caches():  # SPEC G4
    config = ModelConfig(11, context_length=16, d_model=12, n_layers=2, n_heads=3, d_ff=8)
    float16 = KVCache(config, dtype=torch.float16).n_bytes
    assert reference("kv_bytes")(2, 3, 4, 16) == float16 // 2 + 2 * (2 * 2 * 3 * 16)
