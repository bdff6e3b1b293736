"""Linear layers for few rows: the same product, in every number of rows."""

import pytest
import torch
from torch import nn

from transformer_lessons.model import linear as linear_module
from transformer_lessons.model.linear import (
    FEW,
    SmallBatchLinear,
    replace_linear,
    small_batch_matmul,
)
from transformer_lessons.weights.quantize import Int8Linear

SHAPES = [(5,), (1, 5), (1, 1, 5), (2, 5), (4, 2, 5), (9, 5), (3, 3, 5), (0, 5)]


@pytest.fixture(params=["eager", "eager, large", "compiling", "compiling, large"])
def way(request, monkeypatch):
    """As if a compiler were at work or not, and W were too large for a cache or not."""
    if "large" in request.param:
        monkeypatch.setattr(linear_module, "LARGE", 0)
    if "compiling" in request.param:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_few_rows_are_multiplied_as_many_are(way, shape, bias, dtype):  # SPEC E3
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 30, bias=bias).to(dtype), torch.randn(*shape).to(dtype)
    got, expected = SmallBatchLinear(layer)(x), layer(x)
    assert got.is_contiguous()
    if dtype == torch.bfloat16:
        torch.testing.assert_close(got, expected, rtol=0, atol=0.02)  # its numbers have 8 bits
        return
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (got, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


def test_few_rows_have_the_weights_on_the_left(way, monkeypatch):
    """Where it pays: one row that is compiled, or a few rows and a large matrix."""
    layer, left = nn.Linear(5, 30), []
    multiply = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: left.append(a is layer.weight) or multiply(a, b)
    )
    used = {}
    for n_rows in (1, 2, FEW, FEW + 1):
        left.clear()
        small_batch_matmul(layer.weight, torch.randn(n_rows, 5))
        used[n_rows] = left == [True]
    large, compiling = "large" in way, "compiling" in way
    assert used == {1: compiling, 2: large, FEW: large, FEW + 1: False}


def test_linear_layers_are_replaced_wherever_they_are():
    """The weights are the same objects, so that what is tied stays tied and nothing is copied."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False)))
    weights, x = [model[0].weight, model[1][1].weight], torch.randn(2, 3)
    expected, names = model(x), list(model.state_dict())
    replace_linear(model, SmallBatchLinear)
    assert [type(model[0]), type(model[1][1])] == [SmallBatchLinear, SmallBatchLinear]
    assert model[0].weight is weights[0]
    assert model[1][1].weight is weights[1]
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(x), expected)
    replace_linear(model, Int8Linear)  # from one to the other
    assert [type(model[0]), type(model[1][1])] == [Int8Linear, Int8Linear]
