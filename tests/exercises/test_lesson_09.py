"""The references of lesson 09 against the package and against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.block import Block
from transformer_lessons.model.feedforward import make_feedforward
from transformer_lessons.model.norm import layer_norm, make_norm, rms_norm


def reference(name):
    return find_exercise(f"09.{name}").reference


def cases(name):
    return find_exercise(f"09.{name}").cases


def test_lesson_09_has_its_exercises():  # SPEC G4
    names = [exercise.id for exercise in lesson_exercises("09")]
    expected = ("layer_norm", "rms_norm", "swiglu", "faded_norm", "pre_or_post", "equal_width")
    assert names == [f"09.{name}" for name in expected]


@pytest.mark.parametrize(("x", "eps"), cases("layer_norm"))
def test_layer_norm_is_the_packages(x, eps):  # SPEC G4
    expected = layer_norm(x, torch.ones(x.shape[1]), torch.zeros(x.shape[1]), eps)
    torch.testing.assert_close(reference("layer_norm")(x, eps), expected)


def test_layer_norm_by_hand():  # SPEC G4
    # Mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5.
    got = reference("layer_norm")(torch.tensor([[1.0, 2.0, 3.0, 6.0]]), 0.0)
    torch.testing.assert_close(got, torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / math.sqrt(3.5))


@pytest.mark.parametrize(("x", "weight", "eps"), cases("rms_norm"))
def test_rms_norm_is_the_packages(x, weight, eps):  # SPEC G4
    got = reference("rms_norm")(x, weight, eps)
    torch.testing.assert_close(got, rms_norm(x, weight, eps))


def test_rms_norm_by_hand():  # SPEC G4
    got = reference("rms_norm")(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 10.0]), 0.0)
    torch.testing.assert_close(got, torch.tensor([[3.0, 40.0]]) / math.sqrt(12.5))


@pytest.mark.parametrize(("x", "gate", "up", "down"), cases("swiglu"))
def test_swiglu_is_the_packages(x, gate, up, down):  # SPEC G4
    d_ff, d_model = gate.shape
    config = ModelConfig(
        10, 8, d_model, n_layers=1, n_heads=1, d_ff=d_ff, head_dim=2, ffn="swiglu", bias=False
    )
    layer = make_feedforward(config)
    layer.load_state_dict({"gate.weight": gate, "up.weight": up, "down.weight": down})
    torch.testing.assert_close(reference("swiglu")(x, gate, up, down), layer(x).detach())


def test_swiglu_by_hand():  # SPEC G4
    x, gate, up, down = (torch.tensor([[number]]) for number in (1.0, math.log(3), 2.0, 10.0))
    got = reference("swiglu")(x, gate, up, down).item()
    assert got == pytest.approx(0.75 * math.log(3) * 2 * 10)  # sigmoid(ln 3) = 3/4


@pytest.mark.parametrize("case", cases("faded_norm"))
def test_faded_norm_is_the_packages(case):  # SPEC F3, G4
    [x] = case
    config = ModelConfig(
        10, 8, x.shape[1], n_layers=1, n_heads=1, d_ff=4, head_dim=2, adaptive_norm=True
    )
    torch.testing.assert_close(reference("faded_norm")(x), make_norm(config)(x).detach())


@pytest.mark.parametrize(("x", "weight", "placement"), cases("pre_or_post"))
def test_pre_or_post_is_the_blocks(x, weight, placement):  # SPEC G4
    """A block whose attention adds nothing, and whose feed-forward layer is the matrix."""
    config = ModelConfig(
        vocab_size=10,
        context_length=8,
        d_model=x.shape[1],
        n_layers=1,
        n_heads=1,
        d_ff=4,
        head_dim=2,
        norm="rms",
        norm_placement=placement,
        bias=False,
    )
    block = Block(config)
    nn.init.zeros_(block.attention.out.weight)
    if placement == "post":
        block.attention_norm = nn.Identity()
    block.feedforward = nn.Linear(x.shape[1], x.shape[1], bias=False)
    block.feedforward.load_state_dict({"weight": weight})
    mask = torch.ones(len(x), len(x), dtype=torch.bool)
    got = reference("pre_or_post")(x, weight, placement)
    torch.testing.assert_close(got, block(x[None], mask)[0].detach())


def test_pre_or_post_by_hand():  # SPEC G4
    # A quarter turn of (3, 4) is (-4, 3). Pre: (3, 4) + (-4, 3)/sqrt(12.5).
    x, turn = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    r = math.sqrt(12.5)
    pre, post = (reference("pre_or_post")(x, turn, placement) for placement in ("pre", "post"))
    torch.testing.assert_close(pre, torch.tensor([[3 - 4 / r, 4 + 3 / r]]))
    # Post: (3 - 4, 4 + 3) = (-1, 7), whose mean square is 25.
    torch.testing.assert_close(post, torch.tensor([[-1 / 5, 7 / 5]]))


def test_equal_width_of_llama_7b_is_11008():  # SPEC G4
    assert reference("equal_width")(4 * 4096, 256) == 11_008


@pytest.mark.parametrize(("d_ff", "multiple"), cases("equal_width"))
def test_equal_width_keeps_the_count(d_ff, multiple):  # SPEC G4
    width = reference("equal_width")(d_ff, multiple)
    assert width % multiple == 0
    assert 3 * width >= 2 * d_ff > 3 * (width - multiple)


def test_equal_width_of_192_makes_equal_layers():  # SPEC G4
    sizes = {"n_layers": 1, "n_heads": 1, "bias": False}
    width = reference("equal_width")(192, 1)
    relu = make_feedforward(ModelConfig(10, 8, 48, d_ff=192, **sizes))
    gated = make_feedforward(ModelConfig(10, 8, 48, d_ff=width, ffn="swiglu", **sizes))
    assert count_parameters(relu) == count_parameters(gated) == 18_432
