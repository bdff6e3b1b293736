"""Head and loss a few rows at a time: PyTorch's values and gradients, without all the logits."""

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.head_loss import total_surprise_of_head
from transformer_lessons.training.loss import total_surprise
from transformer_lessons.training.trainer import batch_surprise

D, V = 5, 13


def random_case(*shape, dtype=torch.float64, seed=0, size=1.0):
    """Hidden numbers, weight and bias that want gradients, and targets, some not real."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64) * size
        return numbers.to(dtype).requires_grad_()

    hidden, weight, bias = draw(*shape, D), draw(V, D), draw(V)
    targets = torch.randint(V, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < 0.3] = IGNORE
    return hidden, weight, bias, targets


def by_torch(hidden, weight, bias, targets):
    logits = functional.linear(hidden, weight, bias).flatten(0, -2)
    return functional.cross_entropy(logits, targets.flatten(), reduction="sum")


def gradients(loss, tensors):
    return torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 6, 7, 100])  # 3 and 6 divide 12, the others don't
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_equals_pytorchs_value_and_gradients(with_bias, rows, size):  # SPEC E10
    hidden, weight, bias, targets = random_case(3, 4, size=size)
    bias = bias if with_bias else None
    ours = total_surprise_of_head(hidden, weight, bias, targets, rows)
    theirs = by_torch(hidden, weight, bias, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    pairs = zip(
        # The factor is what comes from above: 1 / number of targets, or a loss scale.
        gradients(ours * 0.37, (hidden, weight, bias)),
        gradients(theirs * 0.37, (hidden, weight, bias)),
        strict=True,
    )
    for our_gradient, their_gradient in pairs:
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("rows", [2, 5])
def test_the_gradient_is_right(rows):
    hidden, weight, bias, targets = random_case(5)

    def loss(hidden, weight, bias):
        return total_surprise_of_head(hidden, weight, bias, targets, rows)

    assert torch.autograd.gradcheck(loss, (hidden, weight, bias))


def test_ignored_rows_get_no_gradient_and_all_ignored_is_nothing():  # SPEC F7
    hidden, weight, bias, targets = random_case(7)
    targets[:] = torch.tensor([1, IGNORE, 2, IGNORE, IGNORE, 0, IGNORE])
    of_hidden, *_ = gradients(
        total_surprise_of_head(hidden, weight, bias, targets, 2), (hidden, weight, bias)
    )
    assert (of_hidden.abs().sum(-1) > 0).tolist() == [True, False, True, False, False, True, False]
    targets[:] = IGNORE
    loss = total_surprise_of_head(hidden, weight, bias, targets, 2)
    assert loss.item() == 0.0
    assert not any(g.any() for g in gradients(loss, (hidden, weight, bias)))


def test_only_what_wants_a_gradient_gets_one():
    hidden, weight, bias, targets = random_case(4)
    weight, bias = weight.detach(), bias.detach()
    total_surprise_of_head(hidden, weight, bias, targets, 2).backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_under_autocast_products_are_narrow_and_sums_are_not(dtype, error):  # SPEC S5
    hidden, weight, bias, targets = random_case(200, dtype=torch.float32)
    exact = by_torch(hidden.double(), weight.double(), bias.double(), targets)
    of_exact = gradients(exact, (hidden, weight, bias))
    with torch.autocast("cpu", dtype):
        narrow = total_surprise_of_head(hidden, weight, bias, targets, 32)
        plain = total_surprise(functional.linear(hidden, weight, bias), targets)
    of_narrow = gradients(narrow, (hidden, weight, bias))
    assert narrow.dtype == plain.dtype == torch.float32
    assert 0 < abs(narrow - exact) / exact < error / 10
    for ours, wanted in zip(of_narrow, of_exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - wanted).norm() / wanted.norm() < error


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that any operation makes."""

    n_numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.n_numbers = max(self.n_numbers, tensor.numel())
        return result


def test_there_are_never_all_logits_at_once():  # SPEC E10
    config = ModelConfig(400, context_length=32, d_model=4, n_layers=1, n_heads=1, d_ff=4)
    torch.manual_seed(0)
    model = Decoder(config)
    inputs, targets = torch.randint(400, (2, 8, 32))

    def largest(rows):
        with LargestTensor() as mode:
            batch_surprise(model, inputs, targets, rows).backward()
        return mode.n_numbers

    assert largest(None) == 8 * 32 * 400
    # The next largest: the scores of attention, 8 x 32 x 32, and what is as large as the weight.
    assert largest(16) == 8 * 32 * 32 > 16 * 400
    assert largest(32) == 32 * 400


def test_the_model_gets_the_same_gradients_either_way():
    config = ModelConfig(40, context_length=8, d_model=8, n_layers=1, n_heads=1, d_ff=8)
    torch.manual_seed(0)
    model = Decoder(config).double()
    inputs, targets = torch.randint(40, (2, 3, 8))
    targets[0, :5] = IGNORE
    found = []
    for rows in (None, 5):
        loss = batch_surprise(model, inputs, targets, rows)
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
