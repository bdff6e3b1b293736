"""Attention in blocks against `attend`, PyTorch's own, and a loop over plain numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import attend, blocked_attend, causal_mask, fused_attend
from transformer_lessons.model.decoder import Decoder

EXACT = {"rtol": 0, "atol": 1e-12}


def attend_by_loops(q, k, v, mask):
    """One head, plain numbers: a softmax over the keys that each query may see."""
    result = []
    for t, query in enumerate(q):
        seen = [s for s in range(len(k)) if mask[t][s]]
        scores = [sum(a * b for a, b in zip(query, k[s], strict=True)) for s in seen]
        scores = [score / math.sqrt(len(query)) for score in scores]
        powers = [math.exp(score - max(scores)) for score in scores]
        width = range(len(v[0]))
        rows = [v[s] for s in seen]
        mixed = [sum(p * row[j] for p, row in zip(powers, rows, strict=True)) for j in width]
        result.append([number / sum(powers) for number in mixed])
    return torch.tensor(result, dtype=torch.float64)


def random_qkv(n_queries, n_keys, d, seed, size=2.0, lead=()):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(*lead, n_queries, d), (*lead, n_keys, d), (*lead, n_keys, d)]
    return [size * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


@st.composite
def problems(draw):
    """Queries, keys, values, a mask of some kind, and a block size."""
    n_keys = draw(st.integers(1, 12))
    n_queries = draw(st.integers(1, n_keys))
    kind = draw(st.sampled_from(["all", "causal", "window", "random", "one key"]))
    seed = draw(st.integers(0, 99))
    if kind == "all":
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool)
    elif kind in ("causal", "window"):
        # The queries are the last of the positions; early keys are out of a small window.
        window = draw(st.integers(1, 4)) if kind == "window" else None
        mask = causal_mask(n_keys, window)[-n_queries:]
    else:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(n_queries, n_keys, generator=generator) < 0.3
        mask = mask & (kind == "random")
        seen = torch.randint(n_keys, (n_queries,), generator=generator)
        mask[torch.arange(n_queries), seen] = True  # everyone may see something
    q, k, v = random_qkv(n_queries, n_keys, draw(st.integers(1, 6)), seed)
    block_size = draw(st.sampled_from([1, 2, 3, n_keys, n_keys + 5]))
    return q, k, v, mask, block_size


@given(problems())
def test_blocks_equal_a_loop_the_plain_way_and_pytorchs(problem):  # SPEC A3, G3
    q, k, v, mask, block_size = problem
    blocked = blocked_attend(q, k, v, mask, block_size)
    expected = attend_by_loops(q.tolist(), k.tolist(), v.tolist(), mask.tolist())
    torch.testing.assert_close(blocked, expected, **EXACT)
    torch.testing.assert_close(blocked, attend(q, k, v, mask), **EXACT)
    kernel = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(blocked, kernel, **EXACT)


@given(problems())
def test_gradients_are_those_of_the_plain_way(problem):  # SPEC G3
    *inputs, mask, block_size = problem
    gradients = []
    for function in (attend, lambda *a: blocked_attend(*a, block_size)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        output = function(*leaves, mask)
        uneven = torch.arange(output.numel(), dtype=torch.float64).view_as(output) - 1.5
        gradients.append(torch.autograd.grad((output * uneven).sum(), leaves))
    for plain, blocked in zip(*gradients, strict=True):
        torch.testing.assert_close(blocked, plain, rtol=1e-9, atol=1e-9)


def test_gradients_pass_autograds_own_check():  # SPEC G3
    inputs = [x.requires_grad_() for x in random_qkv(2, 5, 2, seed=4, size=1.0)]
    mask = causal_mask(5, window=2)[-2:]  # the first block of two keys is hidden from all
    assert not mask[:, :2].any()
    assert torch.autograd.gradcheck(lambda q, k, v: blocked_attend(q, k, v, mask, 2), inputs)


def test_two_blocks_by_hand():  # SPEC G3
    # Scores 1, 2 | 3, 0: e^-2 + e^-1 + 1 + e^-3 is the sum when the largest, 3, is taken off.
    q, k = torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0], [3.0], [0.0]])
    v = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    powers = [math.exp(-2), math.exp(-1), 1.0, math.exp(-3)]
    expected = sum(p * x for p, x in zip(powers, (10, 20, 30, 40), strict=True)) / sum(powers)
    everyone = torch.ones(1, 4, dtype=torch.bool)
    assert blocked_attend(q, k, v, everyone, block_size=2).item() == pytest.approx(expected)
    assert expected == pytest.approx(26.2089, abs=5e-5)


@pytest.mark.parametrize("block_size", [1, 2, 3, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_scores_stay_numbers(block_size, dtype):  # SPEC A3
    # Scores of 10,000 and -10,000 in both orders; exp of either is inf or 0.
    q = torch.tensor([[1e4], [-1e4], [1e4], [-1e4]], dtype=dtype)
    k = torch.tensor([[1.0], [-1.0], [-1.0], [1.0]], dtype=dtype)
    v = torch.tensor([[1.0], [2.0], [3.0], [5.0]], dtype=dtype)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    output = blocked_attend(*leaves, mask, block_size)
    # Winners share: keys 0 and 3, keys 1 and 2, then the same although all that is seen is bad.
    assert output.flatten().tolist() == [3.0, 2.5, 2.5, 3.0]
    for gradient in torch.autograd.grad(output.sum(), leaves):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7])
def test_whole_blocks_before_the_window_count_for_nothing(block_size):  # SPEC A3
    q, k, v = random_qkv(12, 12, 4, seed=1)
    mask = causal_mask(12, window=2)
    k[:8] = 1e3  # the last queries can't see these, however well they match
    v[:8] = math.pi
    expected = attend(q[10:], k[9:], v[9:], mask[10:, 9:])
    got = blocked_attend(q, k, v, mask, block_size)
    torch.testing.assert_close(got[10:], expected, **EXACT)


@pytest.mark.parametrize("block_size", [1, 3, 64])
def test_batches_heads_and_values_of_another_width(block_size):  # SPEC A3
    q, k, v = random_qkv(5, 9, 4, seed=2, lead=(2, 3))
    v = torch.cat([v, 2 * v[..., :2]], dim=-1)  # width 6, queries have 4
    mask = causal_mask(9, window=4)[-5:]
    blocked = blocked_attend(q, k, v, mask, block_size)
    assert blocked.shape == (2, 3, 5, 6)
    torch.testing.assert_close(blocked, attend(q, k, v, mask), **EXACT)


@pytest.mark.parametrize("how", [blocked_attend, fused_attend])
@pytest.mark.parametrize("window", [None, 3])
def test_a_model_is_the_same_whichever_way_it_attends(random_model, how, window):  # SPEC A3, G3
    config = ModelConfig(32, 100, 16, 2, 4, d_ff=16, n_kv_heads=2, sliding_window=window)
    model = random_model(config)
    other = Decoder(config, attend=how).double().eval()
    other.load_state_dict(model.state_dict())
    assert all(block.attention.attend is how for block in other.blocks)
    tokens = torch.randint(32, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():  # 100 keys: two blocks of the default 64
        torch.testing.assert_close(other(tokens), model(tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("block_size", [0, -1])
def test_a_block_holds_something(block_size):
    with pytest.raises(LessonsError, match=f"block_size = {block_size} is not at least 1"):
        blocked_attend(*torch.zeros(3, 2, 4), torch.ones(2, 2, dtype=torch.bool), block_size)
