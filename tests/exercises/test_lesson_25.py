"""The references of lesson 25 against the package, and numbers worked out by hand."""

from dataclasses import replace

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.model.feedforward import FeedForward
from transformer_lessons.model.norm import rms_norm
from transformer_lessons.presets import preset
from transformer_lessons.weights.fixed_point import round_shift
from transformer_lessons.weights.growth import deepen, widen_residual


def reference(name):
    return find_exercise(f"25.{name}").reference


def test_lesson_25_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("25")] == [
        "25.silence",
        "25.copy_units",
        "25.wider_norm",
        "25.reader_factor",
        "25.shift",
        "25.largest_sum",
    ]


def test_the_silent_block_is_the_packages(random_model):  # SPEC G4, F13
    model = random_model(preset("fluctlight"))
    block = deepen(model, 1).blocks[1].state_dict()
    zero = [name for name, tensor in block.items() if (tensor == 0).all()]
    assert reference("silence")(list(block)) == zero
    assert len(zero) == 4


def test_copied_units_compute_the_same():  # SPEC G4, F13
    config = ModelConfig(9, 4, d_model=6, n_layers=1, n_heads=1, d_ff=3, ffn="gelu", bias=False)
    layer, wider = FeedForward(config).double(), FeedForward(replace(config, d_ff=7)).double()
    units = reference("copy_units")(layer.up.weight, layer.down.weight, [0, 1, 2, 2, 2, 1, 2])
    wider.load_state_dict(dict(zip(("up.weight", "down.weight"), units, strict=True)))
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(wider(x), layer(x))


def test_copied_units_by_hand():  # SPEC G4
    up, down = torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0, 9.0]])
    up, down = reference("copy_units")(up, down, [1, 1, 0, 1])
    assert (up.tolist(), down.tolist()) == ([[2], [2], [1], [2]], [[3, 3, 6, 3]])


def test_the_wider_norm_gives_the_same(random_model):  # SPEC G4, F13
    x, gain = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])
    wider, eps = reference("wider_norm")(gain, 0.5, 5)
    padded = torch.cat([x, torch.zeros(3)])
    torch.testing.assert_close(rms_norm(padded, wider, eps)[:2], rms_norm(x, gain, 0.5))
    config = ModelConfig(9, 4, d_model=6, n_layers=1, n_heads=1, d_ff=3, norm="rms")
    grown, norm = widen_residual(random_model(config), 10), random_model(config).final_norm
    mine, mine_eps = reference("wider_norm")(norm.weight.detach(), norm.eps, 10)
    torch.testing.assert_close(mine.double(), grown.final_norm.weight.detach())
    assert mine_eps == pytest.approx(grown.final_norm.eps)


def test_the_readers_factor_is_the_packages(random_model):  # SPEC G4, F3
    for d_model, wider in ((4, 18), (8, 31)):
        model = random_model(replace(preset("fluctlight"), d_model=d_model))
        grown = widen_residual(model, wider)
        ratio = grown.head.weight[:, :d_model] / model.head.weight
        factor = reference("reader_factor")(d_model, wider)
        torch.testing.assert_close(ratio.detach(), torch.full_like(ratio, factor))
    assert reference("reader_factor")(4, 18) == 2


@pytest.mark.parametrize("case", find_exercise("25.shift").cases)
def test_the_shift_is_the_packages(case):  # SPEC G4, F13
    x, bits = case
    assert reference("shift")(x, bits) == round_shift(torch.tensor(x), bits).item()


def test_the_largest_sum_is_reached():  # SPEC G4
    weight, largest = [[7, -1, 2], [-3, -3, -3], [0, 9, -1]], [2, 4, 1]
    reached = max(
        abs(a * row[0] + b * row[1] + c * row[2])
        for row in weight for a in (-2, 2) for b in (-4, 4) for c in (-1, 1)
    )  # fmt: skip
    assert reference("largest_sum")(weight, largest) == reached == 37
