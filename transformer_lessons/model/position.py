"""Rotary position embedding (RoPE): a token's place in the text, written as an angle.

Shapes: T tokens, d numbers per head, `...` any leading dimensions (batch, heads).
Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
"""

import torch
from torch import Tensor


def rope_table(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair of numbers at every position.

    Pair j of a head turns by position * base**(-2j/d) radians: pair 0 by one radian per token,
    later pairs ever more slowly. `positions` is (T,); both results are (T, d/2).

    >>> cos, sin = rope_table(torch.tensor([0.0, 1.0]), d_head=2)
    >>> [round(x, 4) for x in cos.flatten().tolist()]
    [1.0, 0.5403]
    """
    # Angles must be exact to a fraction of a turn even at position 100,000: float32 or better.
    dtype = torch.promote_types(positions.dtype, torch.float32)
    exponents = torch.arange(0, d_head, 2, device=positions.device, dtype=dtype) / d_head
    angles = positions.to(dtype)[:, None] * base**-exponents  # (T, d/2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[j], x[j + d/2]) by its angle: (x1 cos - x2 sin, x2 cos + x1 sin).

    `x` is (..., T, d), `cos` and `sin` are (T, d/2); the result has the shape and dtype of `x`.
    A turn keeps lengths: only directions change.

    >>> cos, sin = rope_table(torch.tensor([torch.pi / 2]), d_head=2)
    >>> rotate(torch.tensor([[3.0, 0.0]]), cos, sin).round(decimals=4).abs()
    tensor([[0., 3.]])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    x1, x2 = x.chunk(2, dim=-1)  # (..., T, d/2) each
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


def apply_rope(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotate `x` (..., T, d) by the angles of `positions` (T,), at the precision of `x`.

    The dot product of a rotated query and a rotated key depends only on how far apart they are:

    >>> q, k = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    >>> near = apply_rope(q, torch.tensor([5])) @ apply_rope(k, torch.tensor([3])).T
    >>> far = apply_rope(q, torch.tensor([105])) @ apply_rope(k, torch.tensor([103])).T
    >>> torch.testing.assert_close(near, far, rtol=0, atol=1e-4)
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    cos, sin = rope_table(positions.to(wide), x.shape[-1], base)
    return rotate(x, cos, sin)
