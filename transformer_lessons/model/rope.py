"""Rotary position embedding (RoPE): a token's position, written as an angle. Lesson 6.

Two numbers of a head are a point in the plane, and the point is turned. Which two make a pair is a
convention: "split" pairs x[j] with x[j + d/2], "interleaved" pairs x[2j] with x[2j + 1].

Shapes: T tokens, d numbers per head, `...` any leading dimensions (batch, heads).
Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
"""

import torch
from torch import Tensor

from transformer_lessons.config import RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.rope_scaling import rope_frequencies


def rope_table(
    positions: Tensor, head_dim: int, theta: float = 10_000.0, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair of numbers at every position.

    Pair j of a head turns by position * theta**(-2j/d) radians: pair 0 by one radian per token,
    later pairs ever more slowly; `scaling` slows them further. `positions` is (T,), and both
    results are (T, d/2); further dimensions in front stay in front.

    >>> cos, sin = rope_table(torch.tensor([0.0, 1.0]), head_dim=2)
    >>> [round(x, 4) for x in cos.flatten().tolist()]
    [1.0, 0.5403]
    """
    # Angles must be exact to a fraction of a turn even at position 100,000: float32 or better.
    dtype = torch.promote_types(positions.dtype, torch.float32)
    grows = scaling is not None and scaling.kind == "dynamic"
    n_tokens = int(positions.max()) + 1 if grows else 1
    device = positions.device
    frequencies, size = rope_frequencies(head_dim, theta, scaling, n_tokens, device, dtype)
    angles = positions.to(dtype)[..., None] * frequencies  # (T, d/2)
    return angles.cos() * size, angles.sin() * size


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[j], x[j + d/2]) by its angle: (x1 cos - x2 sin, x2 cos + x1 sin).

    `x` is (..., T, d), `cos` and `sin` are (T, d/2); the result has the shape and dtype of `x`.
    A turn keeps lengths: only directions change.

    >>> cos, sin = rope_table(torch.tensor([torch.pi / 2]), head_dim=2)
    >>> rotate(torch.tensor([[3.0, 0.0]]), cos, sin).round(decimals=4).abs()
    tensor([[0., 3.]])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    x1, x2 = x.chunk(2, dim=-1)  # (..., T, d/2) each
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


def rotate_complex(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[2j], x[2j + 1]): as complex numbers, (x1 + i x2) * (cos + i sin).

    Shapes as in `rotate`. There are no complex bfloat16 numbers; those are turned in float32.

    >>> cos, sin = rope_table(torch.tensor([torch.pi / 2]), head_dim=2)
    >>> rotate_complex(torch.tensor([[3.0, 0.0]]), cos, sin).round(decimals=4).abs()
    tensor([[0., 3.]])
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    points = torch.view_as_complex(wide.unflatten(-1, (-1, 2)).contiguous())  # (..., T, d/2)
    turned = points * torch.complex(cos.to(wide.dtype), sin.to(wide.dtype))
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def apply_rope(
    x: Tensor,
    positions: Tensor,
    theta: float = 10_000.0,
    layout: str = "split",
    scaling: RopeScaling | None = None,
) -> Tensor:
    """Rotate `x` (..., T, d) by the angles of `positions` (T,), at the precision of `x`.

    `layout` is "split" or "interleaved". The dot product of a rotated query and a rotated key
    depends only on how far apart they are:

    >>> q, k = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    >>> near = apply_rope(q, torch.tensor([5])) @ apply_rope(k, torch.tensor([3])).T
    >>> far = apply_rope(q, torch.tensor([105])) @ apply_rope(k, torch.tensor([103])).T
    >>> torch.testing.assert_close(near, far, rtol=0, atol=1e-4)
    """
    turn = {"split": rotate, "interleaved": rotate_complex}.get(layout)
    if turn is None:
        raise LessonsError(f"layout = {layout!r} is not split or interleaved", where="apply_rope")
    if x.shape[-1] % 2 != 0:
        what, remedy = f"x has {x.shape[-1]} numbers per head", "RoPE turns pairs of numbers."
        raise LessonsError(what, where="apply_rope", remedy=remedy)
    wide = torch.promote_types(x.dtype, torch.float32)
    return turn(x, *rope_table(positions.to(wide), x.shape[-1], theta, scaling))


def to_split_layout(x: Tensor, n_heads: int = 1, dim: int = -1) -> Tensor:
    """Reorder interleaved heads for the split layout: evens first, then odds, head by head.

    Along `dim` lie `n_heads` heads of width d. For the weights of a q or k projection, (H * d, D),
    use `dim=0`: a model made for one layout then runs in the other, with the same logits.

    >>> to_split_layout(torch.tensor([0, 1, 2, 3])).tolist()
    [0, 2, 1, 3]
    """
    dim %= x.ndim
    return x.unflatten(dim, (n_heads, -1, 2)).transpose(dim + 1, dim + 2).flatten(dim, dim + 2)


def to_interleaved_layout(x: Tensor, n_heads: int = 1, dim: int = -1) -> Tensor:
    """The inverse of `to_split_layout`.

    >>> to_interleaved_layout(torch.tensor([0, 2, 1, 3])).tolist()
    [0, 1, 2, 3]
    """
    dim %= x.ndim
    return x.unflatten(dim, (n_heads, 2, -1)).transpose(dim + 1, dim + 2).flatten(dim, dim + 2)
