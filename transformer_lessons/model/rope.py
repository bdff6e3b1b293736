"""Rotary position embedding (RoPE), and how it is scaled for longer sequences. Lesson 6.

Two numbers of a head are a point in the plane, which is turned by an angle that says the position.
Which two is a convention: "split" pairs x[j] with x[j + d/2], "interleaved" x[2j] with x[2j + 1].

Scaling slows the turns. Pairs that turn many times within the trained length tell near from far;
pairs that don't complete one turn have never shown the model their later angles.

Shapes: T tokens, d numbers per head, `...` any leading dimensions (batch, heads).
Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
"""

import math

import torch
from torch import Tensor

from transformer_lessons.config import RopeScaling
from transformer_lessons.errors import LessonsError


def rope_table(
    positions: Tensor, head_dim: int, theta: float = 10_000.0, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair of numbers at every position.

    Pair j of a head turns by position * theta**(-2j/d) radians; `scaling` slows it. `positions` is
    (T,), and both results are (T, d/2); further dimensions in front stay in front.

    >>> cos, sin = rope_table(torch.tensor([0.0, 1.0]), head_dim=2)
    >>> [round(x, 4) for x in cos.flatten().tolist()]
    [1.0, 0.5403]
    """
    # Angles must be exact to a fraction of a turn even at position 100,000: float32 or better.
    dtype = torch.promote_types(positions.dtype, torch.float32)
    grows = scaling is not None and scaling.kind == "dynamic"
    n_tokens, device = int(positions.max()) + 1 if grows else 1, positions.device
    frequencies, size = rope_frequencies(head_dim, theta, scaling, n_tokens, device, dtype)
    angles = positions.to(dtype)[..., None] * frequencies  # (T, d/2)
    return angles.cos() * size, angles.sin() * size


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[j], x[j + d/2]) by its angle: (x1 cos - x2 sin, x2 cos + x1 sin).

    `x` is (..., T, d), `cos` and `sin` are (T, d/2); the result has the shape and dtype of `x`.

    >>> cos, sin = rope_table(torch.tensor([torch.pi / 2]), head_dim=2)
    >>> rotate(torch.tensor([[3.0, 0.0]]), cos, sin).round(decimals=4).abs()
    tensor([[0., 3.]])
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    x1, x2 = x.chunk(2, dim=-1)  # (..., T, d/2) each
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


def rotate_complex(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[2j], x[2j + 1]): as complex numbers, (x1 + i x2) * (cos + i sin).

    Shapes as in `rotate`; bfloat16, of which there are no complex numbers, is turned in float32.
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

    The dot product of a rotated query and a rotated key depends only on how far apart they are:

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

    Along `dim` lie `n_heads` heads of width d. With `dim=0` for the weights of q and k, (H * d, D),
    a model made for one layout runs in the other, with the same logits.

    >>> to_split_layout(torch.tensor([0, 1, 2, 3])).tolist()
    [0, 2, 1, 3]
    """
    dim %= x.ndim
    return x.unflatten(dim, (n_heads, -1, 2)).transpose(dim + 1, dim + 2).flatten(dim, dim + 2)


def to_interleaved_layout(x: Tensor, n_heads: int = 1, dim: int = -1) -> Tensor:
    """The inverse of `to_split_layout`: (0, 2, 1, 3) -> (0, 1, 2, 3)."""
    dim %= x.ndim
    return x.unflatten(dim, (n_heads, 2, -1)).transpose(dim + 1, dim + 2).flatten(dim, dim + 2)


def rope_frequencies(
    head_dim: int,
    theta: float = 10_000.0,
    scaling: RopeScaling | None = None,
    n_tokens: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, float]:
    """Radians per token of every pair, (d/2,), and the factor on the size of turned vectors.

    Pair j turns by theta**(-2j/d), and the factor is 1, unless `scaling` says otherwise:

    linear   every pair `factor` times slower (Chen et al. 2023, "Extending Context Window ...")
    dynamic  a larger theta for more tokens than the trained length (bloc97 and emozilla 2023)
    llama3   slow pairs `factor` times slower, fast ones not, a ramp between (Grattafiori 2024)
    yarn     the same with another ramp, and a factor (Peng et al. 2023, "YaRN")

    >>> rope_frequencies(4, theta=100.0, scaling=RopeScaling("linear", factor=2.0))
    (tensor([0.5000, 0.0500]), 1.0)
    """
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=dtype) / head_dim
    frequencies = theta**-exponents
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "dynamic":
        return dynamic_theta(theta, head_dim, scaling, n_tokens) ** -exponents, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return scale_like_llama3(frequencies, scaling), 1.0
    return scale_like_yarn(frequencies, theta, scaling)


def dynamic_theta(theta: float, head_dim: int, scaling: RopeScaling, n_tokens: int) -> float:
    """theta * (factor * n/L - (factor - 1))**(d / (d - 2)) for n > L tokens, else `theta`.

    With L the trained length. The fastest pair keeps its speed, the slowest slows down most; one
    pair alone raises `LessonsError`.
    """
    if head_dim <= 2:
        what = f"dynamic scaling of heads of width {head_dim}"
        raise LessonsError(what, where="rope_scaling", remedy="Use heads of width 4 or more.")
    longer = max(n_tokens, scaling.trained_length) / scaling.trained_length
    return theta * (scaling.factor * longer - (scaling.factor - 1)) ** (head_dim / (head_dim - 2))


def scale_like_llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide by `factor` what turns less than `beta_slow` times in the trained length.

    Between `beta_slow` and `beta_fast` (4) the share that is left alone grows with the turns.
    """
    turns, slow = scaling.trained_length * frequencies / (2 * math.pi), scaling.beta_slow
    keep = ((turns - slow) / ((scaling.beta_fast or 4.0) - slow)).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def scale_like_yarn(
    frequencies: Tensor, theta: float, scaling: RopeScaling
) -> tuple[Tensor, float]:
    """As `scale_like_llama3`, but the share that is left alone falls evenly from pair to pair.

    The ramp goes from the pair that makes `beta_fast` (32) turns in the trained length to the one
    that makes `beta_slow`. The attention factor, 0.1 ln(factor) + 1, makes q and k larger.
    """
    n_pairs = len(frequencies)

    def pair_that_makes(turns: float) -> float:
        return n_pairs * math.log(scaling.trained_length / (turns * 2 * math.pi)) / math.log(theta)

    first = max(math.floor(pair_that_makes(scaling.beta_fast or 32.0)), 0)
    last: float = min(math.ceil(pair_that_makes(scaling.beta_slow)), 2 * n_pairs - 1)
    last = last + 0.001 if last == first else last  # transformers' way round a division by zero
    pairs = torch.arange(n_pairs, device=frequencies.device, dtype=frequencies.dtype)
    keep = 1 - ((pairs - first) / (last - first)).clamp(0, 1)
    slowed = keep * frequencies + (1 - keep) * frequencies / scaling.factor
    return slowed, scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0
