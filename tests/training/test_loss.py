"""Cross-entropy against PyTorch's, with all logits at once and in chunks: values and gradients."""

import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.loss import cross_entropy, linear_cross_entropy
from transformer_lessons.training.trainer import batch_loss


def random_case(*shape, n_classes=11, size=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, n_classes, generator=generator, dtype=torch.float64) * size
    return logits, torch.randint(n_classes, shape, generator=generator)


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("size", [0.0, 3.0, 1e4])
def test_equals_pytorchs(shape, size):
    logits, targets = random_case(*shape, size=size)
    expected = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
    torch.testing.assert_close(cross_entropy(logits, targets), expected, rtol=1e-12, atol=1e-12)


def test_ignored_targets_count_neither_above_nor_below_the_line():  # SPEC F7
    logits, targets = random_case(4, 6)
    targets[0, :4] = targets[2] = -100
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(cross_entropy(logits, targets), expected, rtol=1e-12, atol=1e-12)
    # By hand: the mean over the 14 that are left.
    left = [(logits[i, j], targets[i, j]) for i, j in (targets != -100).nonzero()]
    by_hand = sum(-row.log_softmax(-1)[target] for row, target in left) / len(left)
    assert len(left) == 14
    torch.testing.assert_close(expected, by_hand)


def test_ignored_positions_get_no_gradient():  # SPEC F7
    logits, targets = random_case(5)
    targets[1] = targets[3] = -100
    logits.requires_grad_()
    cross_entropy(logits, targets).backward()
    moved = logits.grad.abs().sum(dim=-1) > 0
    assert moved.tolist() == [True, False, True, False, True]


def test_a_huge_wrong_score_costs_its_lead_in_float32():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert cross_entropy(logits, torch.tensor([1, 1])).item() == 5_000.0
    assert cross_entropy(logits, torch.tensor([0, 1])).item() == 0.0


def test_knowing_nothing_costs_ln_v():
    assert cross_entropy(torch.zeros(3, 256), torch.tensor([0, 97, 255])).item() == pytest.approx(
        math.log(256), rel=1e-6
    )


def test_the_gradient_is_right():
    logits, targets = random_case(2, 4)
    targets[0, 1] = -100
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets), logits.requires_grad_())


def test_the_gradient_is_probability_minus_one_hot():
    logits, targets = random_case(6, size=1e3)  # and finite at large logits
    logits.requires_grad_()
    cross_entropy(logits, targets).backward()
    expected = logits.detach().softmax(-1) - functional.one_hot(targets, 11)
    torch.testing.assert_close(logits.grad, expected / 6, rtol=0, atol=1e-12)


def test_the_sum_counts_only_real_targets():  # SPEC F7
    logits, targets = random_case(3, 5)
    targets[1] = -100
    targets[0, 2] = -100
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(
        cross_entropy(logits, targets, "sum"), expected, rtol=1e-12, atol=1e-12
    )


def test_without_a_real_target_the_sum_is_nothing_and_the_mean_undefined():  # SPEC F7
    logits, targets = random_case(4)
    logits.requires_grad_()
    targets[:] = -100
    total = cross_entropy(logits, targets, "sum")
    total.backward()
    assert total.item() == 0.0
    assert not logits.grad.any()
    assert cross_entropy(logits, targets).isnan()  # as PyTorch's


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_summed_in_float32(dtype):  # SPEC S5
    logits, targets = random_case(64, 32, size=2.0)
    narrow = logits.to(dtype)
    got = cross_entropy(narrow, targets, "sum")
    exact = functional.cross_entropy(narrow.double().flatten(0, 1), targets.flatten()) * 2048
    assert got.dtype == torch.float32
    # A bfloat16 sum of 2,048 terms would be off by about one part in 256.
    torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=0)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(LessonsError, match=r"^reduction = 'none' is not mean or sum"):
        cross_entropy(*random_case(2), reduction="none")


# In chunks, never with all logits

D, V = 5, 13


def random_rows(*shape, dtype=torch.float64, seed=0, size=1.0):
    """Hidden numbers, weight and bias that want gradients, and targets, some not real."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        numbers = torch.randn(*shape, generator=generator, dtype=torch.float64) * size
        return numbers.to(dtype).requires_grad_()

    hidden_states, weight, bias = draw(*shape, D), draw(V, D), draw(V)
    targets = torch.randint(V, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < 0.3] = IGNORE
    return hidden_states, weight, bias, targets


def by_torch(hidden_states, weight, bias, targets):
    logits = functional.linear(hidden_states, weight, bias).flatten(0, -2)
    return functional.cross_entropy(logits, targets.flatten(), reduction="sum")


def gradients(loss, tensors):
    return torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 3, 6, 7, 100])  # 3 and 6 divide 12, the others don't
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_equals_pytorchs_value_and_gradients(with_bias, chunk_size, size):  # SPEC E10
    hidden_states, weight, bias, targets = random_rows(3, 4, size=size)
    bias = bias if with_bias else None
    ours = linear_cross_entropy(hidden_states, weight, bias, targets, chunk_size)
    theirs = by_torch(hidden_states, weight, bias, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    pairs = zip(
        # The factor is what comes from above: 1 / number of targets, or a loss scale.
        gradients(ours * 0.37, (hidden_states, weight, bias)),
        gradients(theirs * 0.37, (hidden_states, weight, bias)),
        strict=True,
    )
    for our_gradient, their_gradient in pairs:
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("chunk_size", [2, 5])
def test_the_gradient_in_chunks_is_right(chunk_size):
    hidden_states, weight, bias, targets = random_rows(5)

    def loss(hidden_states, weight, bias):
        return linear_cross_entropy(hidden_states, weight, bias, targets, chunk_size)

    assert torch.autograd.gradcheck(loss, (hidden_states, weight, bias))


def test_ignored_rows_get_no_gradient_and_all_ignored_is_nothing():  # SPEC F7
    hidden_states, weight, bias, targets = random_rows(7)
    targets[:] = torch.tensor([1, IGNORE, 2, IGNORE, IGNORE, 0, IGNORE])
    of_hidden_states, *_ = gradients(
        linear_cross_entropy(hidden_states, weight, bias, targets, 2), (hidden_states, weight, bias)
    )
    assert (of_hidden_states.abs().sum(-1) > 0).tolist() == [
        True,
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    targets[:] = IGNORE
    loss = linear_cross_entropy(hidden_states, weight, bias, targets, 2)
    assert loss.item() == 0.0
    assert not any(g.any() for g in gradients(loss, (hidden_states, weight, bias)))


def test_only_what_wants_a_gradient_gets_one():
    hidden_states, weight, bias, targets = random_rows(4)
    weight, bias = weight.detach(), bias.detach()
    linear_cross_entropy(hidden_states, weight, bias, targets, 2).backward()
    assert hidden_states.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_under_autocast_products_are_narrow_and_sums_are_not(dtype, error):  # SPEC S5
    hidden_states, weight, bias, targets = random_rows(200, dtype=torch.float32)
    exact = by_torch(hidden_states.double(), weight.double(), bias.double(), targets)
    of_exact = gradients(exact, (hidden_states, weight, bias))
    with torch.autocast("cpu", dtype):
        narrow = linear_cross_entropy(hidden_states, weight, bias, targets, 32)
        plain = cross_entropy(functional.linear(hidden_states, weight, bias), targets, "sum")
    of_narrow = gradients(narrow, (hidden_states, weight, bias))
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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32])
def test_targets_may_have_the_type_of_a_token_file(dtype):
    logits, targets = random_case(2, 5)
    assert torch.equal(cross_entropy(logits, targets.to(dtype)), cross_entropy(logits, targets))
    given = torch.ones(2, 5, 3).double(), torch.ones(11, 3).double(), None
    in_chunks = linear_cross_entropy(*given, targets.to(dtype), 4)
    assert torch.equal(in_chunks, linear_cross_entropy(*given, targets, 4))


def test_there_are_never_all_logits_at_once():  # SPEC E10
    config = ModelConfig(400, context_length=32, d_model=4, n_layers=1, n_heads=1, d_ff=4)
    torch.manual_seed(0)
    model = Decoder(config)
    inputs, targets = torch.randint(400, (2, 8, 32))

    def largest(chunk_size):
        with LargestTensor() as mode:
            batch_loss(model, inputs, targets, chunk_size).backward()
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
    for chunk_size in (None, 5):
        loss = batch_loss(model, inputs, targets, chunk_size)
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
