"""Cross-entropy against PyTorch's, at ordinary and at huge logits, and its gradient."""

import math

import pytest
import torch
from torch.nn import functional

from transformer_lessons.training.loss import cross_entropy, total_surprise


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
    torch.testing.assert_close(total_surprise(logits, targets), expected, rtol=1e-12, atol=1e-12)


def test_without_a_real_target_the_sum_is_nothing_and_the_mean_undefined():  # SPEC F7
    logits, targets = random_case(4)
    logits.requires_grad_()
    targets[:] = -100
    total = total_surprise(logits, targets)
    total.backward()
    assert total.item() == 0.0
    assert not logits.grad.any()
    assert cross_entropy(logits, targets).isnan()  # as PyTorch's


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_summed_in_float32(dtype):  # SPEC S5
    logits, targets = random_case(64, 32, size=2.0)
    narrow = logits.to(dtype)
    got = total_surprise(narrow, targets)
    exact = functional.cross_entropy(narrow.double().flatten(0, 1), targets.flatten()) * 2048
    assert got.dtype == torch.float32
    # A bfloat16 sum of 2,048 terms would be off by about one part in 256.
    torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=0)
