"""Attention in blocks: the same result, without ever holding all T x S weights.

This is the idea of FlashAttention. A softmax needs the largest score and the sum of a whole row;
both can be kept up to date while the keys pass by in blocks that fit in fast memory.
Sources: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
"FlashAttention".
"""

import math

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError


def blocked_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64) -> Tensor:
    """The same as `attend`, one block of `block_size` keys at a time.

    Three things are kept for each query: the largest score so far, the sum of exp(score - largest),
    and the sum of the values with these weights. When a block brings a larger score, both sums
    shrink by exp(old largest - new largest). Shapes as in `attend`; every query must be allowed at
    least one key. A `block_size` below 1 raises `LessonsError`.

    >>> v = torch.tensor([[2.0], [4.0]])
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> blocked_attend(torch.zeros(2, 1), torch.zeros(2, 1), v, mask, block_size=1).tolist()
    [[2.0], [3.0]]
    """
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
