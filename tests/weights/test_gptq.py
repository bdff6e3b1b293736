"""GPTQ: its updates are least squares, and the output it protects is the output it was given."""

from itertools import product

import pytest
import torch
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.weights.gptq import gptq, second_moments
from transformer_lessons.weights.quantize import nearest, round_to_groups

CONFIG = ModelConfig(17, context_length=8, d_model=12, n_layers=2, n_heads=2, d_ff=8)


def moments_of(x, damping=0.01):
    h = x.double().T @ x.double()
    return h + damping * h.diag().mean() * torch.eye(len(h))


def by_least_squares(weight, x, bits, symmetric):
    """The definition, for one group of all columns: round one column, solve for all after it.

    Minimize |X (w - w')|^2 + damping |w - w'|^2 over the columns not yet rounded, anew each time.
    """
    n, grid = weight.shape[1], round_to_groups(weight, bits, weight.shape[1], symmetric)
    h, w = moments_of(x), weight.double().clone()
    original, q = weight.double(), torch.zeros_like(grid.q)
    for j in range(n):
        q[:, j] = nearest(w[:, j, None].float(), grid.scale, grid.least, bits)[:, 0]
        w[:, j] = (grid.scale.double() * q[:, j, None] + grid.least.double())[:, 0]
        free, fixed = slice(j + 1, n), slice(0, j + 1)
        pull = (original - w)[:, fixed] @ h[fixed, free]
        w[:, free] = original[:, free] + torch.linalg.solve(h[free, free], pull.T).T
    return q


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4])
def test_each_update_is_the_least_squares_solution(bits, symmetric):  # SPEC G10
    dice = torch.Generator().manual_seed(0)
    mix = torch.randn(10, 10, generator=dice)
    weight, x = torch.randn(6, 10, generator=dice), torch.randn(40, 10, generator=dice) @ mix
    found = gptq(weight, x.T @ x, bits, 10, symmetric)
    assert torch.equal(found.q, by_least_squares(weight, x, bits, symmetric))


def test_of_all_roundings_of_three_columns_gptq_finds_a_good_one():  # SPEC G10
    """All 7^3 roundings of each row are tried: GPTQ comes near the best one, rounding doesn't."""
    dice = torch.Generator().manual_seed(1)
    weight, common = torch.randn(200, 3, generator=dice), torch.randn(50, 1, generator=dice)
    x = common + 0.5 * torch.randn(50, 3, generator=dice)
    plain, clever = round_to_groups(weight, 3, 3, True), gptq(weight, x.T @ x, 3, 3, True)

    def error(q):
        off = weight.double() - (plain.scale.double() * q + plain.least.double())
        return (off @ moments_of(x) * off).sum(dim=1)

    every = torch.stack([error(torch.tensor(q)) for q in product(range(7), repeat=3)])
    best = every.amin(dim=0)
    assert (error(clever.q) >= best - 1e-12).all()
    assert error(clever.q).sum() < 1.1 * best.sum() < 0.8 * error(plain.q).sum()


def test_inputs_that_have_nothing_to_do_with_each_other_leave_plain_rounding():
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(2))
    found, plain = gptq(weight, torch.eye(12), 3, 4), round_to_groups(weight, 3, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_inputs_that_are_always_zero_do_no_harm():
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(3))
    found, plain = gptq(weight, torch.zeros(12, 12), 3, 4), round_to_groups(weight, 3, 4)
    assert torch.equal(found.q, plain.q)


def test_the_output_comes_nearer_though_the_weights_go_further():
    dice = torch.Generator().manual_seed(4)
    weight, mix = torch.randn(32, 64, generator=dice), torch.randn(64, 64, generator=dice)
    x = torch.randn(500, 64, generator=dice) @ mix
    plain, clever = round_to_groups(weight, 3, 32), gptq(weight, x.T @ x, 3, 32)
    errors = [r.weight() - weight for r in (plain, clever)]
    in_weights, in_outputs = (
        [f(e).norm() for e in errors] for f in (lambda e: e, lambda e: x @ e.T)
    )
    assert in_weights[0] < in_weights[1]
    assert in_outputs[1] < 0.8 * in_outputs[0]


def test_second_moments_are_those_of_each_layers_inputs():
    torch.manual_seed(0)
    model, tokens = Decoder(CONFIG), torch.randint(17, (4, 8))
    found = second_moments(model, tokens.split(2))
    assert set(found) == {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    hidden = model.hidden_states(tokens).flatten(0, 1).detach()
    torch.testing.assert_close(found["head"], hidden.T @ hidden)
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 8, dtype=torch.long)]])
def test_no_calibration_text_is_refused(batches):
    model = Decoder(CONFIG)
    with pytest.raises(LessonsError, match="no tokens to calibrate with"):
        second_moments(model, batches)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_bits_and_groups_are_checked_first():
    with pytest.raises(LessonsError, match="groups of 5 don't divide"):
        gptq(torch.ones(2, 8), torch.eye(8), 4, 5)
