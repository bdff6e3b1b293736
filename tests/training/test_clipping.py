"""Clipping: one length for all gradients together, as PyTorch does it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from transformer_lessons.training.clipping import clip_grad_norm


def parameters_with_gradients(size=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for shape in [(3, 4), (5,), (2, 2, 2), ()]:
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
        parameter.grad = (torch.randn(shape, generator=generator) * size).to(dtype)
        parameters.append(parameter)
    parameters.insert(1, nn.Parameter(torch.zeros(3)))  # one that got no gradient
    return parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 5.0, 1e3])
def test_equals_pytorchs_bit_for_bit(max_norm, dtype):  # SPEC E10
    ours, theirs = (parameters_with_gradients(dtype=dtype) for _ in range(2))
    length = clip_grad_norm(ours, max_norm)
    expected = nn.utils.clip_grad_norm_(theirs, max_norm)
    assert torch.equal(length, expected)
    for our, their in zip(ours, theirs, strict=True):
        assert (our.grad is None) == (their.grad is None)
        assert our.grad is None or torch.equal(our.grad, their.grad)


@given(size=st.floats(1e-3, 1e3), max_norm=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
def test_no_longer_than_asked_and_in_the_same_direction(size, max_norm, seed):
    parameters = parameters_with_gradients(size, seed, torch.float64)
    before = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    length = clip_grad_norm(parameters, max_norm).item()
    after = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert length == pytest.approx(math.sqrt(float((before**2).sum())), rel=1e-12)
    shrink = min(1.0, max_norm / (length + 1e-6))
    torch.testing.assert_close(after, before * shrink, rtol=1e-12, atol=0)
    assert after.norm() <= max_norm * (1 + 1e-12)


def test_one_number_that_is_not_finite_shows_in_the_length():
    for bad in (math.nan, math.inf):
        parameters = parameters_with_gradients()
        parameters[0].grad[1, 1] = bad
        assert not clip_grad_norm(parameters, 1.0).isfinite()
