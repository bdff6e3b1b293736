"""Fewer bits: which products are rounded, and the loss scale against PyTorch's rule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.training.precision import GradScaler, autocast

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_products_have_the_precision_asked_for(precision, dtype):  # SPEC S5
    a = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    with autocast(CPU, precision):
        product, elsewhere = a @ a, a + a
    assert product.dtype == dtype
    assert torch.equal(product, (a.to(dtype) @ a.to(dtype)))
    assert elsewhere.dtype == torch.float32
    assert (a @ a).dtype == torch.float32  # and afterwards all is as before


def pytorchs_scales(finite, scale=2.0**16):
    """The scale after each step, by PyTorch's own rule for it."""
    scale, n_good = torch.tensor([scale]), torch.zeros(1, dtype=torch.int32)
    scales = []
    for is_finite in finite:
        found_inf = torch.tensor([0.0 if is_finite else 1.0])
        torch._amp_update_scale_(scale, n_good, found_inf, 2.0, 0.5, 2000)
        scales.append(scale.item())
    return scales


def our_scales(finite, scaler):
    scales = []
    for is_finite in finite:
        scaler.update(is_finite)
        scales.append(scaler.scale)
    return scales


def test_the_settings_are_those_of_pytorchs_scaler():  # SPEC S5
    theirs = torch.amp.GradScaler("cpu")
    assert GradScaler().scale == theirs.get_scale() == 2.0**16
    assert theirs.get_growth_factor() == 2.0
    assert theirs.get_backoff_factor() == 0.5
    assert theirs.get_growth_interval() == 2000


@given(
    st.lists(st.tuples(st.integers(1, 4100), st.integers(0, 2)), min_size=1, max_size=4),
    st.integers(0, 9000),
)
def test_the_scale_follows_pytorchs_rule_also_when_saved_between(runs, cut):  # SPEC S5 A7
    finite = [good for n, bad in runs for good in [True] * n + [False] * bad]
    expected = pytorchs_scales(finite)
    scaler = GradScaler()
    first = our_scales(finite[:cut], scaler)
    resumed = GradScaler(**vars(scaler))
    assert first + our_scales(finite[cut:], resumed) == expected


def test_a_hopeless_scale_is_the_end():  # SPEC S5
    scaler = GradScaler()
    for _ in range(16):
        scaler.update(is_finite=False)
    assert scaler.scale == 1.0
    with pytest.raises(LessonsError, match=r"^no loss scale makes the gradients finite"):
        scaler.update(is_finite=False)
