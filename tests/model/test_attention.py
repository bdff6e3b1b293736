"""Attention against PyTorch's own, and against a loop that anyone can follow."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import (
    CausalAttention,
    attend,
    attention_weights,
    batched_attend,
    blocked_attend,
    causal_mask,
    fused_attend,
    merge_heads,
    repeat_heads,
    split_heads,
)
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import rope_table, rotate


def random_qkv(*shape, n_keys=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_keys = n_keys or shape[-2]
    key_shape = (*shape[:-2], n_keys, shape[-1])
    shapes = [shape, key_shape, key_shape]
    return [2 * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def attend_by_loops(q, k, v, mask):
    """One head, plain Python numbers: for every query, a softmax over the keys it may see."""
    result = []
    for t, query in enumerate(q):
        seen = [s for s in range(len(k)) if mask[t][s]]
        scores = [sum(a * b for a, b in zip(query, k[s], strict=True)) for s in seen]
        powers = [math.exp(score / math.sqrt(len(query))) for score in scores]
        shares = [power / sum(powers) for power in powers]
        width = range(len(v[0]))
        result.append([sum(w * v[s][j] for w, s in zip(shares, seen, strict=True)) for j in width])
    return result


@pytest.mark.parametrize("n_tokens", [1, 2, 5])
def test_causal_mask_is_key_at_most_query(n_tokens):
    expected = [[s <= t for s in range(n_tokens)] for t in range(n_tokens)]
    assert causal_mask(n_tokens).tolist() == expected
    assert causal_mask(n_tokens).dtype == torch.bool


@pytest.mark.parametrize("seed", range(3))
def test_attend_equals_a_plain_loop(seed):
    q, k, v = random_qkv(6, 4, seed=seed)
    mask = causal_mask(6)
    expected = attend_by_loops(q.tolist(), k.tolist(), v.tolist(), mask.tolist())
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(attend(q, k, v, mask), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "n_keys"), [((7, 6), 7), ((2, 3, 7, 4), 7), ((2, 3, 4, 8), 9)])
@pytest.mark.parametrize("kind", ["causal", "all", "random"])
def test_attend_equals_pytorchs(shape, n_keys, kind):  # SPEC A3
    q, k, v = random_qkv(*shape, n_keys=n_keys)
    allowed = torch.ones(shape[-2], n_keys, dtype=torch.bool)
    if kind == "causal":
        allowed = allowed.tril(n_keys - shape[-2])
    if kind == "random":
        generator = torch.Generator().manual_seed(1)
        allowed = torch.rand(allowed.shape, generator=generator) < 0.5
        allowed[:, 0] = True  # everyone may see something
    expected = scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    torch.testing.assert_close(attend(q, k, v, allowed), expected, rtol=0, atol=1e-12)


def test_weights_are_shares_of_what_may_be_seen():
    q, k, _ = random_qkv(2, 3, 5, 4)
    weights = attention_weights(q, k, causal_mask(5))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5).double(), rtol=0, atol=1e-12)
    assert bool((weights >= 0).all())
    assert weights.triu(1).count_nonzero() == 0  # the future gets exactly nothing
    assert bool((weights.tril() > 0)[..., causal_mask(5)].all())


def test_two_tokens_by_hand():
    # Token 1 scores (2*1 + 0*0)/sqrt(4) = 1 with token 0 and 0 with itself: e/(e + 1) and the rest.
    q = torch.tensor([[9.0, 9.0, 9.0, 9.0], [2.0, 0.0, 0.0, 0.0]])
    k = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]])
    share = math.e / (math.e + 1)
    expected = torch.tensor([[1.0, 0.0], [share, 1 - share]])
    torch.testing.assert_close(attention_weights(q, k, causal_mask(2)), expected)


def test_huge_scores_stay_finite():
    q = k = torch.tensor([[1e3, 0.0], [1e3, 1.0]])
    assert attention_weights(q, k, causal_mask(2)).isfinite().all()


def test_heads_are_cut_in_order_and_put_back():
    x = torch.arange(2 * 3 * 12).view(2, 3, 12)
    heads = split_heads(x, n_heads=3)
    for head in range(3):
        torch.testing.assert_close(heads[:, head], x[:, :, 4 * head : 4 * head + 4])
    torch.testing.assert_close(merge_heads(heads), x)


def config_with_values_turned(scale):
    return ModelConfig(10, 8, d_model=12, n_layers=1, n_heads=2, d_ff=4, rope_v_scale=scale)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_values_are_turned_by_the_formula(scale):  # SPEC F2
    torch.manual_seed(0)
    attention = CausalAttention(config_with_values_turned(scale)).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    positions = torch.arange(5, dtype=torch.float64)
    q, k, v = attention.project(x, rope_table(positions, head_dim=6))
    rows = torch.nn.functional.linear(x, attention.qkv.weight, attention.qkv.bias)
    rates = torch.tensor([10_000.0 ** (-2 * j / 6) for j in range(3)], dtype=torch.float64)
    phases = torch.exp(1j * positions[:, None] * rates)
    for part, (got, turned_share) in enumerate([(q, 1.0), (k, 1.0), (v, scale)]):
        for head in range(2):
            plain = rows[..., 12 * part + 6 * head : 12 * part + 6 * head + 6]
            turned = torch.complex(plain[..., :3], plain[..., 3:]) * phases
            turned = torch.cat([turned.real, turned.imag], dim=-1)
            expected = plain + turned_share * (turned - plain)
            torch.testing.assert_close(got[:, head], expected, rtol=0, atol=1e-12)


def test_with_scale_0_values_are_untouched_bit_for_bit():  # SPEC F2
    torch.manual_seed(0)
    attention = CausalAttention(config_with_values_turned(0.0))
    x = torch.randn(1, 5, 12)
    _, _, v = attention.project(x, rope_table(torch.arange(5), head_dim=6))
    assert torch.equal(v, split_heads(attention.qkv(x)[..., 24:], 2))


@pytest.mark.parametrize("window", [1, 2, 5, 9])
def test_a_window_hides_what_is_too_far_back(window):  # SPEC G5
    mask = causal_mask(7, window=window)
    expected = [[0 <= t - s < window for s in range(7)] for t in range(7)]
    assert mask.tolist() == expected


def test_repeated_heads_stay_side_by_side():  # SPEC A3
    x = torch.arange(6).view(1, 3, 2, 1)
    expected = [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]
    assert repeat_heads(x, 2).flatten().tolist() == expected


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3])
def test_grouped_attention_is_full_attention_with_repeated_weights(n_kv_heads):  # SPEC A3, G3
    torch.manual_seed(0)
    config = ModelConfig(10, 8, d_model=24, n_layers=1, n_heads=6, d_ff=4, n_kv_heads=n_kv_heads)
    grouped = CausalAttention(config).double()
    full = CausalAttention(replace(config, n_kv_heads=None)).double()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            q, k, v = getattr(grouped.qkv, kind).split(grouped.widths)
            k, v = (
                part.unflatten(0, (n_kv_heads, 4))
                .repeat_interleave(6 // n_kv_heads, 0)
                .flatten(0, 1)
                for part in (k, v)
            )
            getattr(full.qkv, kind).copy_(torch.cat([q, k, v]))
            getattr(full.out, kind).copy_(getattr(grouped.out, kind))
    x, rope = torch.randn(2, 7, 24, dtype=torch.float64), rope_table(torch.arange(7), head_dim=4)
    got, expected = (layer(x, causal_mask(7), rope) for layer in (grouped, full))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n_queries", "n_keys"), [(6, 6), (2, 6), (1, 4)])
@pytest.mark.parametrize("how", [fused_attend, batched_attend])
def test_faster_attention_is_the_same_also_with_more_keys_than_queries(how, n_queries, n_keys):
    # SPEC A3
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, n_queries, 8, generator=generator, dtype=torch.float64)
    k, v = (
        torch.randn(2, 3, n_keys, 8, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    mask = causal_mask(n_keys)[n_keys - n_queries :]
    expected = attend(q, k, v, mask)
    torch.testing.assert_close(how(q, k, v, mask), expected, rtol=1e-12, atol=1e-12)
    each = torch.stack([mask, mask | mask.roll(1)])[:, None]  # (B, 1, T, S): one for each sequence
    expected = attend(q, k, v, each)
    torch.testing.assert_close(how(q, k, v, each), expected, rtol=1e-12, atol=1e-12)
    alone = how(q[0, 0], k[0, 0], v[0, 0], mask)  # (T, d): one head of one sequence
    torch.testing.assert_close(alone, how(q, k, v, mask)[0, 0], rtol=1e-12, atol=1e-12)


def test_q_and_k_are_normalized_before_they_are_turned():  # SPEC G5
    torch.manual_seed(0)
    config = ModelConfig(10, 8, d_model=8, n_layers=1, n_heads=2, d_ff=4, norm="rms", qk_norm=True)
    attention = CausalAttention(config).double()
    attention.q_norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    x, rope = 50 * torch.randn(1, 5, 8, dtype=torch.float64), rope_table(torch.arange(5.0), 4)
    q, k, v = attention.project(x, rope)
    plain_q, plain_k, plain_v = (split_heads(part, 2) for part in attention.qkv(x).chunk(3, -1))

    def rms(x):
        return x / x.square().mean(dim=-1, keepdim=True).add(1e-5).sqrt()

    weight = attention.q_norm.weight.detach()
    torch.testing.assert_close(q, rotate(rms(plain_q) * weight, *rope))
    torch.testing.assert_close(k, rotate(rms(plain_k), *rope))
    assert torch.equal(v, plain_v)


MASKS = {
    "0 and 1": causal_mask(3).long(),
    "bytes": causal_mask(3).to(torch.uint8),
    "numbers to add": torch.zeros(3, 3).masked_fill(~causal_mask(3), -math.inf),
    "lists": causal_mask(3).tolist(),
    "None": None,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(
    "how", [attention_weights, attend, batched_attend, fused_attend, blocked_attend]
)
def test_a_mask_that_is_not_boolean_is_refused(how, mask):
    q, k, v = random_qkv(3, 4)
    arguments = (q, k, mask) if how is attention_weights else (q, k, v, mask)
    with pytest.raises(LessonsError, match=r"^the mask isn't booleans, True where .* \(mask\)$"):
        how(*arguments)


@pytest.mark.parametrize("how", [attend, fused_attend, blocked_attend])
def test_the_models_mask_is_checked_too(how):
    model = Decoder(ModelConfig(9, 4, d_model=8, n_layers=1, n_heads=2, d_ff=8), how)
    with pytest.raises(LessonsError, match="the mask isn't booleans"):
        model(torch.tensor([[1, 2, 3]]), mask=causal_mask(3).float())
