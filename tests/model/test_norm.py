"""Layer norm against PyTorch's, and its adaptive form at every size."""

import math

import pytest
import torch
from torch.nn import functional

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.block import make_norm
from transformer_lessons.model.norm import LayerNorm, layer_norm


def random_norm_inputs(d_model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, d_model), (d_model,), (d_model,)]
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize("d_model", [2, 4, 7, 32])
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
def test_equals_pytorchs(d_model, eps):
    x, weight, bias = random_norm_inputs(d_model)
    x = 3 * x + 5
    expected = functional.layer_norm(x, (d_model,), weight, bias, eps)
    torch.testing.assert_close(layer_norm(x, weight, bias, eps), expected, rtol=0, atol=1e-12)


def test_by_hand():
    # Mean 3, biased variance (4 + 1 + 0 + 1 + 4)/5 = 2.
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    expected = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64) / math.sqrt(2)
    got = layer_norm(x, torch.ones(5).double(), torch.zeros(5).double(), eps=1e-15)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_eps_is_inside_the_root():
    # Variance 1e-6 and eps 3e-6 make a divisor of 2e-3: 1e-3/2e-3. Outside the root: 1e-3/1.003e-3.
    x = torch.tensor([1e-3, -1e-3], dtype=torch.float64)
    got = layer_norm(x, torch.ones(2).double(), torch.zeros(2).double(), eps=3e-6)
    torch.testing.assert_close(got, torch.tensor([0.5, -0.5]).double(), rtol=0, atol=1e-12)


def test_equal_numbers_become_the_bias():
    weight, bias = torch.full((4,), 2.0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.equal(layer_norm(torch.full((3, 4), 7.0), weight, bias), bias.expand(3, 4))


def adaptive_norm_of(d_model, adaptive=True):
    config = ModelConfig(
        vocab_size=10,
        context_length=8,
        d_model=d_model,
        n_layers=1,
        n_heads=1,
        d_ff=4,
        adaptive_norm=adaptive,
        norm_eps=1e-3,
    )
    norm = make_norm(config).double()
    x, weight, bias = random_norm_inputs(d_model)
    with torch.no_grad():
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
    return norm, x, functional.layer_norm(x, (d_model,), weight, bias, 1e-3)


def test_adaptive_norm_at_4_changes_nothing():  # SPEC F3
    norm, x, _ = adaptive_norm_of(4)
    assert torch.equal(norm(x), x)


def test_adaptive_norm_at_18_goes_half_way():  # SPEC F3
    norm, x, normed = adaptive_norm_of(18)
    torch.testing.assert_close(norm(x), (x + normed) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d_model", [32, 64])
def test_adaptive_norm_is_a_full_norm_from_32(d_model):  # SPEC F3
    norm, x, normed = adaptive_norm_of(d_model)
    torch.testing.assert_close(norm(x), normed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d_model", [4, 18])
def test_without_adaptive_norm_every_size_is_normed(d_model):  # SPEC F3
    norm, x, normed = adaptive_norm_of(d_model, adaptive=False)
    torch.testing.assert_close(norm(x), normed, rtol=0, atol=1e-12)


def test_a_full_norm_loses_no_precision_to_the_fading():
    # x + 1 * (norm(x) - x) would: at x = 1e4, float32 keeps three digits after the point.
    norm = LayerNorm(8)
    x = torch.linspace(9_990, 10_010, 8)
    assert torch.equal(norm(x), layer_norm(x, norm.weight, norm.bias))
