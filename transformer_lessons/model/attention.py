"""Attention: every token looks back and gathers what it needs from the tokens before it.

Shapes: B batch, H heads, T queries, S keys, d numbers per head, D = H * d numbers per token.
Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
"""

import math

import torch
from torch import Tensor, nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.position import rotate


def causal_mask(n_tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """Who may look at whom: (T, T) booleans, True where key position <= query position.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device).tril()


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


class CausalAttention(nn.Module):
    """Multi-head attention with rotary positions: project, turn, attend per head, mix the heads.

    One matrix makes queries, keys and values in one go; its rows are all q heads, all k heads,
    all v heads.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.rope_v_scale = config.n_heads, config.rope_v_scale
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every head, (B, H, T, d) each, from `x` (B, T, D)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, D) each
        q, k, v = (split_heads(part, self.n_heads) for part in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.rope_v_scale:
            v = v + self.rope_v_scale * (rotate(v, cos, sin) - v)
        return q, k, v

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.project(x, cos, sin)
        return self.out(merge_heads(attend(q, k, v, mask)))  # (B, T, D)


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the D numbers of each token into heads: (B, T, H * d) -> (B, H, T, d).

    >>> split_heads(torch.tensor([[[1, 2, 3, 4]]]), n_heads=2).tolist()
    [[[[1, 2]], [[3, 4]]]]
    """
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`: (B, H, T, d) -> (B, T, H * d)."""
    return x.transpose(1, 2).flatten(2)
