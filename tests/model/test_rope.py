"""RoPE against complex numbers, and the property it exists for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.model.rope import apply_rope, rope_table, rotate


def rope_by_complex_numbers(x, positions, base):
    """Pair (x[j], x[j + d/2]) is one complex number; turning it is one multiplication."""
    d = x.shape[-1]
    rows = []
    for row, position in zip(x.reshape(-1, x.shape[-2], d).unbind(1), positions, strict=True):
        turned = torch.zeros_like(row)
        for j in range(d // 2):
            angle = float(position) * base ** (-2 * j / d)
            number = torch.complex(row[:, j], row[:, j + d // 2]) * complex(
                math.cos(angle), math.sin(angle)
            )
            turned[:, j], turned[:, j + d // 2] = number.real, number.imag
        rows.append(turned)
    return torch.stack(rows, dim=1).view(x.shape)


def random_x(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("base", [10_000.0, 50.0])
@pytest.mark.parametrize("d_head", [2, 4, 6, 64])
def test_equals_complex_multiplication(d_head, base):  # SPEC F1, A3
    x = random_x(2, 3, 7, d_head)
    positions = torch.tensor([0, 1, 2, 3, 10, 1000, 100_000])
    expected = rope_by_complex_numbers(x, positions, base)
    torch.testing.assert_close(apply_rope(x, positions, base), expected, rtol=0, atol=1e-9)


def test_one_radian_per_token_by_hand():  # SPEC F1
    # Width 2 has one pair, which turns by exactly one radian per token, counter-clockwise.
    x = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64)
    expected = torch.tensor([[math.cos(t), math.sin(t)] for t in range(3)], dtype=torch.float64)
    torch.testing.assert_close(apply_rope(x, torch.arange(3)), expected, rtol=0, atol=1e-15)


def test_pairs_are_split_half_and_slow_down():
    # Width 4, base 100: pair 0 is (x0, x2) at 1 radian, pair 1 is (x1, x3) at 100**-0.5 = 0.1.
    cos, sin = rope_table(torch.tensor([1.0], dtype=torch.float64), d_head=4, base=100.0)
    torch.testing.assert_close(cos, torch.tensor([[math.cos(1), math.cos(0.1)]]).double())
    torch.testing.assert_close(sin, torch.tensor([[math.sin(1), math.sin(0.1)]]).double())
    turned = rotate(torch.tensor([[0.0, 1.0, 0.0, 0.0]]).double(), cos, sin)
    expected = torch.tensor([[0.0, math.cos(0.1), 0.0, math.sin(0.1)]]).double()
    torch.testing.assert_close(turned, expected)


@given(
    seed=st.integers(0, 1000),
    query_at=st.integers(0, 500),
    key_at=st.integers(0, 500),
    shift=st.integers(-400, 5000),
)
def test_scores_depend_on_the_distance_only(seed, query_at, key_at, shift):
    q, k = random_x(2, 1, 8, seed=seed)

    def score(t, s):
        turned_q = apply_rope(q, torch.tensor([t], dtype=torch.float64))
        return (turned_q @ apply_rope(k, torch.tensor([s], dtype=torch.float64)).T).item()

    here = score(query_at, key_at)
    assert score(query_at + shift, key_at + shift) == pytest.approx(here, abs=1e-9)
    if query_at != key_at:
        assert abs(score(query_at, query_at) - here) > 1e-12  # and on nothing less


@given(seed=st.integers(0, 1000), position=st.integers(0, 100_000))
def test_lengths_are_kept(seed, position):
    x = random_x(1, 8, seed=seed)
    turned = apply_rope(x, torch.tensor([position]))
    assert turned.norm().item() == pytest.approx(x.norm().item(), rel=1e-12)


def test_position_0_is_not_turned():
    x = random_x(2, 1, 8)
    assert torch.equal(apply_rope(x, torch.tensor([0])), x)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 0.02), (torch.bfloat16, 0.06)])
def test_angles_are_good_far_out(dtype, bound):
    # float32 knows an angle of 100,000 radians to about 1/128; a bfloat16 table would know nothing.
    x = random_x(3, 64).to(dtype)
    positions = torch.tensor([99_999, 100_000, 100_001])
    expected = rope_by_complex_numbers(x.double(), positions, 10_000.0)
    turned = apply_rope(x, positions)
    assert turned.dtype == dtype
    assert (turned.double() - expected).abs().max().item() < bound * x.abs().max().item()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.float32])
def test_a_table_is_at_least_float32(dtype):
    cos, sin = rope_table(torch.tensor([1, 2], dtype=dtype), d_head=4)
    assert cos.dtype == sin.dtype == torch.float32
