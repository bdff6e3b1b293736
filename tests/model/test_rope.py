"""RoPE against complex numbers, and the property it exists for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import (
    apply_rope,
    rope_table,
    rotate,
    rotate_complex,
    to_interleaved_layout,
    to_split_layout,
)


def rope_by_complex_numbers(x, positions, theta):
    """Pair (x[j], x[j + d/2]) is one complex number; turning it is one multiplication."""
    d = x.shape[-1]
    rows = []
    for row, position in zip(x.reshape(-1, x.shape[-2], d).unbind(1), positions, strict=True):
        turned = torch.zeros_like(row)
        for j in range(d // 2):
            angle = float(position) * theta ** (-2 * j / d)
            number = torch.complex(row[:, j], row[:, j + d // 2]) * complex(
                math.cos(angle), math.sin(angle)
            )
            turned[:, j], turned[:, j + d // 2] = number.real, number.imag
        rows.append(turned)
    return torch.stack(rows, dim=1).view(x.shape)


def random_x(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("theta", [10_000.0, 50.0])
@pytest.mark.parametrize("head_dim", [2, 4, 6, 64])
def test_equals_complex_multiplication(head_dim, theta):  # SPEC F1, A3
    x = random_x(2, 3, 7, head_dim)
    positions = torch.tensor([0, 1, 2, 3, 10, 1000, 100_000])
    expected = rope_by_complex_numbers(x, positions, theta)
    torch.testing.assert_close(apply_rope(x, positions, theta), expected, rtol=0, atol=1e-9)


def test_one_radian_per_token_by_hand():  # SPEC F1
    # Width 2 has one pair, which turns by exactly one radian per token, counter-clockwise.
    x = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64)
    expected = torch.tensor([[math.cos(t), math.sin(t)] for t in range(3)], dtype=torch.float64)
    torch.testing.assert_close(apply_rope(x, torch.arange(3)), expected, rtol=0, atol=1e-15)


def test_pairs_are_split_half_and_slow_down():
    # Width 4, theta 100: pair 0 is (x0, x2) at 1 radian, pair 1 is (x1, x3) at 100**-0.5 = 0.1.
    cos, sin = rope_table(torch.tensor([1.0], dtype=torch.float64), head_dim=4, theta=100.0)
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
    cos, sin = rope_table(torch.tensor([1, 2], dtype=dtype), head_dim=4)
    assert cos.dtype == sin.dtype == torch.float32


@given(st.integers(1, 8), st.integers(0, 1000), st.sampled_from([10.0, 10_000.0]))
def test_the_layouts_differ_by_a_permutation_only(n_pairs, first, theta):  # SPEC A3
    x = random_x(2, 3, 2 * n_pairs)
    positions = torch.arange(first, first + 3)
    interleaved = apply_rope(x, positions, theta, layout="interleaved")
    split = apply_rope(to_split_layout(x), positions, theta)
    torch.testing.assert_close(to_split_layout(interleaved), split, rtol=1e-12, atol=1e-12)
    assert torch.equal(to_interleaved_layout(to_split_layout(x)), x)


def test_interleaved_pairs_are_neighbours():  # SPEC A3
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    turned = apply_rope(x, torch.tensor([2]), theta=1000.0, layout="interleaved")
    angle, slow = 2.0, 2.0 * 1000 ** (-4 / 6)
    expected = [[math.cos(angle), math.sin(angle), 0, 0, math.cos(slow), math.sin(slow)]]
    assert turned.tolist() == [pytest.approx(row) for row in expected]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_complex_turn_keeps_the_dtype(dtype):
    cos, sin = rope_table(torch.arange(3), head_dim=4)
    x = random_x(3, 4).to(dtype)
    expected = to_interleaved_layout(rotate(to_split_layout(x.float()), cos, sin))
    turned = rotate_complex(x, cos, sin)
    assert turned.dtype == dtype
    bound = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 1e-6)
    torch.testing.assert_close(turned.float(), expected, rtol=0, atol=bound)


def test_heads_are_reordered_one_by_one_along_any_dimension():  # SPEC A3
    rows = torch.arange(12)
    assert to_split_layout(rows, n_heads=2).tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    weight = rows[:, None] * torch.ones(5, dtype=torch.long)
    assert torch.equal(to_split_layout(weight, 2, dim=0)[:, 3], to_split_layout(rows, 2))
    assert torch.equal(to_interleaved_layout(to_split_layout(weight, 3, dim=0), 3, dim=0), weight)


@pytest.mark.parametrize("n_kv_heads", [None, 1])
def test_a_model_made_for_interleaved_heads_runs_when_its_rows_are_reordered(n_kv_heads):
    """The scores are those of a model that turns neighbours."""  # SPEC A3
    torch.manual_seed(0)
    config = ModelConfig(11, 9, d_model=16, n_layers=1, n_heads=2, d_ff=4, n_kv_heads=n_kv_heads)
    model = Decoder(config).double()
    attention = model.blocks[0].attention
    x = random_x(1, 9, 16)
    cos, sin = rope_table(torch.arange(9.0, dtype=torch.float64), head_dim=8)
    q, k, _ = (
        part.unflatten(-1, (-1, 8)).transpose(1, 2)
        for part in attention.qkv(x).split(attention.widths, dim=-1)
    )
    expected = rotate_complex(q, cos, sin) @ rotate_complex(k, cos, sin).transpose(-2, -1)
    with torch.no_grad():
        for tensor in (attention.qkv.weight, attention.qkv.bias):
            rows_q, rows_k, rows_v = tensor.split(attention.widths)
            rows_q = to_split_layout(rows_q, config.n_heads, dim=0)
            rows_k = to_split_layout(rows_k, config.heads.n_kv_heads, dim=0)
            tensor.copy_(torch.cat([rows_q, rows_k, rows_v]))
    q, k, _ = attention.project(x, (cos, sin))
    torch.testing.assert_close(q @ k.transpose(-2, -1), expected, rtol=1e-12, atol=1e-12)


def test_a_scaled_table_is_slower_and_larger():  # SPEC G5
    scaling = RopeScaling("yarn", 4.0, 16, attention_factor=1.5)
    cos, sin = rope_table(torch.arange(50), 8, scaling=scaling)
    torch.testing.assert_close(cos.square() + sin.square(), torch.full((50, 4), 2.25))
    x = random_x(50, 8)
    assert torch.equal(
        apply_rope(x.float(), torch.arange(50), scaling=scaling), rotate(x.float(), cos, sin)
    )


def test_dynamic_scaling_starts_past_the_trained_length():  # SPEC A3
    scaling = RopeScaling("dynamic", 2.0, 16)
    x = random_x(17, 8)
    within, past = torch.arange(16), torch.arange(17)
    plain = apply_rope(x, past)
    assert torch.equal(apply_rope(x[:16], within, scaling=scaling), plain[:16])
    longer = apply_rope(x, past, scaling=scaling)
    assert (longer - plain).abs()[1:].amax(dim=-1).min().item() > 1e-6


@pytest.mark.parametrize(
    ("width", "options", "what"),
    [
        (4, {"layout": "halves"}, "layout = 'halves' is not split or interleaved"),
        (5, {}, "x has 5 numbers per head"),
        (2, {"scaling": RopeScaling("dynamic", 2.0, 4)}, "dynamic scaling of heads of width 2"),
    ],
)
def test_what_can_not_be_turned_is_named(width, options, what):  # SPEC S9
    with pytest.raises(LessonsError) as caught:
        apply_rope(torch.zeros(3, width), torch.arange(3), **options)
    assert caught.value.what == what
