"""Causal, scaled dot-product attention with several heads, also grouped-query. Lessons 7 and 8.

Shapes: B batch, H heads, K heads of keys and values, T queries, S keys, d numbers per head.
Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.norm import make_norm
from transformer_lessons.model.rope import rotate

Rope = tuple[Tensor, Tensor]  # cosine and sine of `rope_table`
UpdateCache = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # new k, v -> all that are kept


def causal_mask(
    n_tokens: int, window: int | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """The causal mask: (T, T) booleans, True where key position <= query position.

    With a `window`, only the token itself and the window - 1 before it: query - key < window.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    >>> causal_mask(3, window=2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    mask = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device).tril()
    return mask if window is None else mask.triu(diagonal=1 - window)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """softmax(q @ k.T / sqrt(d)) over the keys that `mask` allows.

    `q` is (..., T, d), `k` is (..., S, d), `mask` is (T, S) and True where looking is allowed.
    The result is (..., T, S): row t says how token t divides its attention; each row sums to 1.

    >>> q = k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> attention_weights(q, k, causal_mask(2))
    tensor([[1.0000, 0.0000],
            [0.3302, 0.6698]])
    """
    _check_mask(mask)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention, each query's average of the values: attention_weights @ v.

    `q` is (..., T, d), `k` and `v` are (..., S, d), `mask` is (T, S); the result is (..., T, d).

    >>> v = torch.tensor([[2.0], [4.0]])
    >>> attend(torch.zeros(2, 1), torch.zeros(2, 1), v, causal_mask(2)).tolist()
    [[2.0], [3.0]]
    """
    return attention_weights(q, k, mask) @ v


def fused_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same as `attend`, by PyTorch's `scaled_dot_product_attention` (SDPA).

    Its kernels need not keep the (T, S) weights. Even a causal mask is handed over: SDPA's own
    `is_causal` lines up the first query with the first key, which is wrong with more keys than
    queries. (A query that may look at nothing gets zeros here, nan from `attend`.)
    """
    _check_mask(mask)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def batched_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same as `attend`, in fewer passes: one product of many matrices scales and masks too.

    `baddbmm(bias, q, k.T, alpha=1 / sqrt(d))` is bias + alpha * q @ k.T for all heads at once, with
    a bias of -inf where the mask forbids. In bfloat16 on a CPU the fastest to train with, as long
    as all (T, S) weights of a batch fit into memory.
    """
    _check_mask(mask)
    bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    bias = bias.expand(*q.shape[:-1], k.shape[-2])
    flat_bias, flat_q, flat_k, flat_v = (x.reshape(-1, *x.shape[-2:]) for x in (bias, q, k, v))
    scores = torch.baddbmm(flat_bias, flat_q, flat_k.mT, alpha=1 / math.sqrt(q.shape[-1]))
    return (scores.softmax(dim=-1) @ flat_v).view(*q.shape[:-1], v.shape[-1])  # (..., T, d)


def blocked_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    """The same as `attend`, one block of `block_size` keys at a time, never holding all weights.

    Kept for each query: the largest score so far, the sum of exp(score - largest), and the sum of
    the values with these weights. When a block brings a larger score, both sums shrink by
    exp(old largest - new largest). Every query must be allowed at least one key.
    Source: Dao et al. 2022, "FlashAttention"; its softmax is Milakov and Gimelshein's, 2018.

    >>> v = torch.tensor([[2.0], [4.0]])
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> blocked_attend(torch.zeros(2, 1), torch.zeros(2, 1), v, mask, block_size=1).tolist()
    [[2.0], [3.0]]
    """
    _check_mask(mask)
    if block_size < 1:
        raise LessonsError(f"block_size = {block_size} is not at least 1", where="block_size")
    largest = torch.full_like(q[..., :1], -math.inf)  # (..., T, 1)
    total = torch.zeros_like(largest)
    mixed = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
    for start in range(0, k.shape[-2], block_size):
        keys = slice(start, start + block_size)
        scores = q @ k[..., keys, :].transpose(-2, -1) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~mask[..., keys], -math.inf)  # (..., T, block)
        new_largest = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        # A row that has met no key it may look at has no largest score yet: shift it by 0.
        shift = new_largest.masked_fill(new_largest == -math.inf, 0.0)
        shrink, weights = (largest - shift).exp(), (scores - shift).exp()
        total = total * shrink + weights.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + weights @ v[..., keys, :]
        largest = new_largest
    return mixed / total


def _check_mask(mask: Tensor) -> None:
    """Raise `LessonsError` for a mask of numbers, which SDPA would add to the scores."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise LessonsError("the mask isn't booleans, True where looking is allowed", where="mask")


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the numbers of each token into heads: (B, T, H * d) -> (B, H, T, d).

    >>> split_heads(torch.tensor([[[1, 2, 3, 4]]]), n_heads=2).tolist()
    [[[[1, 2]], [[3, 4]]]]
    """
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`: (B, H, T, d) -> (B, T, H * d)."""
    return x.transpose(1, 2).flatten(2)


def repeat_heads(x: Tensor, n_times: int) -> Tensor:
    """Each head `n_times` in a row: (B, K, S, d) -> (B, K * n_times, S, d).

    Grouped-query attention (GQA): query heads 0 to n_times - 1 share the first head of keys, etc.
    Source: Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models".

    >>> repeat_heads(torch.tensor([[[[1]], [[2]]]]), 2).flatten().tolist()
    [1, 1, 2, 2]
    """
    return x.repeat_interleave(n_times, dim=1)


class CausalAttention(nn.Module):
    """Multi-head attention: project, normalize, turn, attend per head, mix the heads.

    The rows of the `qkv` matrix are H query heads, K key heads, K value heads; with K < H (GQA)
    each of these serves H / K query heads. `attend` is the function that attends, or its equal.
    """

    def __init__(self, config: ModelConfig, attend: Callable[..., Tensor] = attend) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.heads
        self.rope_v_scale, self.attend = config.rope_v_scale, attend
        n_queries, n_keys = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.widths = (n_queries, n_keys, n_keys)
        qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.qkv = nn.Linear(config.d_model, sum(self.widths), bias=qkv_bias)
        self.out = nn.Linear(n_queries, config.d_model, bias=config.bias)
        self.q_norm = make_norm(config, self.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = make_norm(config, self.head_dim) if config.qk_norm else nn.Identity()

    def project(self, x: Tensor, rope: Rope | None) -> tuple[Tensor, ...]:
        """Queries (B, H, T, d), keys and values (B, K, T, d) of `x` (B, T, D), turned by `rope`."""
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q = self.q_norm(split_heads(q, self.n_heads))
        k, v = self.k_norm(split_heads(k, self.n_kv_heads)), split_heads(v, self.n_kv_heads)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
            if self.rope_v_scale:
                v = v + self.rope_v_scale * (rotate(v, *rope) - v)
        return q, k, v

    def forward(
        self, x: Tensor, mask: Tensor, rope: Rope | None = None, update: UpdateCache | None = None
    ) -> Tensor:
        q, k, v = self.project(x, rope)
        if update is not None:
            k, v = update(k, v)  # those of the tokens before, kept in a cache, and these
        n_times = self.n_heads // self.n_kv_heads
        k, v = repeat_heads(k, n_times), repeat_heads(v, n_times)
        return self.out(merge_heads(self.attend(q, k, v, mask)))  # (B, T, D)

    def extra_repr(self) -> str:
        sizes = f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}, head_dim={self.head_dim}"
        return f"{sizes}, attend={getattr(self.attend, '__name__', self.attend)}"
