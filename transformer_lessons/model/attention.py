"""Attention: every token looks back and gathers what it needs from the tokens before it.

Shapes: B batch, H heads, K heads of keys and values, T queries, S keys, d numbers per head,
D numbers per token.
Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.norm import make_norm
from transformer_lessons.model.rope import rotate

Rope = tuple[Tensor, Tensor]  # cosine and sine of `rope_table`
Update = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # new k and v -> all that are kept


def causal_mask(
    n_tokens: int, window: int | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Who may look at whom: (T, T) booleans, True where key position <= query position.

    With a `window`, only the token itself and the window - 1 before it: query - key < window.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    >>> causal_mask(3, window=2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    everyone = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device)
    mask = everyone.tril()
    return mask if window is None else mask & everyone.triu(diagonal=1 - window)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """softmax(q @ k.T / sqrt(d)) over the keys that `mask` allows.

    `q` is (..., T, d), `k` is (..., S, d), `mask` is (T, S) and True where looking is allowed.
    The result is (..., T, S): row t says how token t divides its attention; each row sums to 1.

    >>> q = k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> attention_weights(q, k, causal_mask(2))
    tensor([[1.0000, 0.0000],
            [0.3302, 0.6698]])
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)
    scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Each query's weighted average of the values: attention_weights(q, k, mask) @ v.

    `q` is (..., T, d), `k` and `v` are (..., S, d), `mask` is (T, S); the result is (..., T, d).

    >>> v = torch.tensor([[2.0], [4.0]])
    >>> attend(torch.zeros(2, 1), torch.zeros(2, 1), v, causal_mask(2)).tolist()
    [[2.0], [3.0]]
    """
    return attention_weights(q, k, mask) @ v


def fused_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same as `attend`, by PyTorch's own kernel, which need not keep the (T, S) weights.

    The mask is handed over, even a causal one: the kernel's own `is_causal` lines up the first
    query with the first key, which is wrong as soon as there are more keys than queries. (A query
    that may look at nothing gets zeros here, and nan from `attend`.)
    """
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


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

    So query heads 0 to n_times - 1 share the first head of keys and values, and so on.
    Source: Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models".

    >>> repeat_heads(torch.tensor([[[[1]], [[2]]]]), 2).flatten().tolist()
    [1, 1, 2, 2]
    """
    return x.repeat_interleave(n_times, dim=1)


class CausalAttention(nn.Module):
    """Multi-head attention: project, normalize, turn, attend per head, mix the heads.

    One matrix makes queries, keys and values in one go; its rows are all H query heads, then K
    key heads, then K value heads. With K < H, each key and value head serves H / K query heads.
    `attend` is the function that attends: `attend`, or one that computes the same another way.
    """

    def __init__(self, config: ModelConfig, attend: Callable[..., Tensor] = attend) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.heads.n_kv_heads
        self.rope_v_scale, self.attend = config.rope_v_scale, attend
        n_queries, n_keys = (
            config.n_heads * config.heads.head_dim,
            config.heads.n_kv_heads * config.heads.head_dim,
        )
        self.widths = (n_queries, n_keys, n_keys)
        qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.qkv = nn.Linear(config.d_model, sum(self.widths), bias=qkv_bias)
        self.out = nn.Linear(n_queries, config.d_model, bias=config.bias)
        self.q_norm = make_norm(config, config.heads.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = make_norm(config, config.heads.head_dim) if config.qk_norm else nn.Identity()

    def project(self, x: Tensor, rope: Rope | None) -> tuple[Tensor, ...]:
        """Queries (B, H, T, d), keys and values (B, K, T, d), from `x` (B, T, D).

        `rope` is the cosine and sine of `rope_table`, or None to leave everything unturned.
        """
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q, k = (
            self.q_norm(split_heads(q, self.n_heads)),
            self.k_norm(split_heads(k, self.n_kv_heads)),
        )
        v = split_heads(v, self.n_kv_heads)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
            if self.rope_v_scale:
                v = v + self.rope_v_scale * (rotate(v, *rope) - v)
        return q, k, v

    def forward(
        self, x: Tensor, mask: Tensor, rope: Rope | None = None, update: Update | None = None
    ) -> Tensor:
        q, k, v = self.project(x, rope)
        if update is not None:
            k, v = update(k, v)  # those of the tokens before, kept in a cache, and these
        n_times = self.n_heads // self.n_kv_heads
        k, v = repeat_heads(k, n_times), repeat_heads(v, n_times)
        return self.out(merge_heads(self.attend(q, k, v, mask)))  # (B, T, D)
