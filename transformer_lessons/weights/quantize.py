"""Quantization: weights as small integers on a grid, a grid for each group. Lesson 21.

Shapes: V rows and D columns of a weight matrix, G groups in a row; x (..., D) becomes (..., V).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.linear import small_batch_matmul
from transformer_lessons.weights.gguf_blocks import low_then_high, two_a_byte

OPS = torch.ops.aten  # PyTorch's operations, by name


class Rounded(NamedTuple):
    """A matrix (V, D) as integers: weight ~ scale * q + least, these two shared by a group."""

    q: Tensor  # (V, D), uint8
    scale: Tensor  # (V, G)
    least: Tensor  # (V, G)

    def weight(self) -> Tensor:
        """The numbers (V, D) in float32."""
        groups = self.q.unflatten(1, (self.scale.shape[1], -1))  # (V, G, D / G)
        scale, least = self.scale.float()[..., None], self.least.float()[..., None]
        return (scale * groups + least).flatten(1)


def grid(group: Tensor, bits: int, symmetric: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale and least number (..., 1) of equally spaced numbers for weights (..., n), as `dtype`.

    From the least weight to the greatest in 2^bits - 1 steps; or, symmetric, from -max |w| to
    max |w| in 2^bits - 2 steps, so that 0 is among the numbers.
    """
    least, most = group.aminmax(dim=-1, keepdim=True)
    if symmetric:
        least, most = -torch.maximum(most, -least), torch.maximum(most, -least)
    scale, least = ((most - least) / (2**bits - 1 - symmetric)).to(dtype), least.to(dtype)
    if not (scale.isfinite() & least.isfinite()).all():
        raise LessonsError(f"weights that are not finite, or too large for scales in {dtype}")
    return scale, least


def nearest(weight: Tensor, scale: Tensor, least: Tensor, bits: int) -> Tensor:
    """The q whose number scale * q + least is nearest to each weight, from 0 to 2^bits - 1."""
    steps = (weight - least.float()) / scale.float().clamp(min=torch.finfo(torch.float32).tiny)
    return steps.round().clamp(0, 2**bits - 1).to(torch.uint8)


def round_to_groups(
    weight: Tensor,
    bits: int,
    group: int,
    symmetric: bool = False,
    dtype: torch.dtype = torch.float16,
) -> Rounded:
    """`weight` (V, D) with each `group` neighbours of a row rounded to a `grid` of their own.

    No weight is off by more than half a scale, up to the rounding of scale and least to `dtype`.
    `LessonsError` for bits not from 2 to 8, a group that doesn't divide D, bad weights.

    >>> q, scale, least = round_to_groups(torch.tensor([[-1.0, 0.2, 2.0, 0.0, 6.0, 3.0]]), 2, 3)
    >>> q.tolist(), scale.tolist(), least.tolist()
    ([[0, 1, 3, 0, 3, 2]], [[1.0, 2.0]], [[-1.0, 0.0]])
    """
    if not 2 <= bits <= 8:
        raise LessonsError(f"bits = {bits} is not from 2 to 8", where="quantization")
    if group < 1 or weight.shape[1] % group:
        what = f"groups of {group} don't divide a row of {weight.shape[1]} weights"
        raise LessonsError(what, where="quantization", remedy="Choose a divisor.")
    groups = weight.float().unflatten(1, (-1, group))
    scale, least = grid(groups, bits, symmetric, dtype)
    q = nearest(groups, scale, least, bits)
    return Rounded(q.flatten(1), scale[..., 0], least[..., 0])


class Int8Linear(nn.Module):
    """The linear layer `layer` with its rows rounded to int8: y = (x q^T) * scale + bias.

    Compiled, and for one row of x, a weight becomes a float only inside of the processor: one byte
    of memory is read for each. In all other cases the whole matrix is widened first.
    Source: Dettmers et al. 2022, "LLM.int8()", section 2 (absmax), with a scale for each row.

    >>> layer, x = nn.Linear(64, 2), torch.ones(1, 64)
    >>> (Int8Linear(layer)(x) - layer(x)).abs().max().item() < 64 * 0.5 / 127 / 8
    True
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        rows = round_to_groups(layer.weight.detach(), 8, layer.in_features, True, torch.float32)
        self.weight = nn.Buffer((rows.q.int() - 127).to(torch.int8))
        self.scale = nn.Buffer(rows.scale[:, 0])
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y = small_batch_matmul(self.weight.to(x.dtype), x) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)


class Int4Linear(nn.Module):
    """The linear layer `layer` in 4 bits, asymmetric, with bfloat16 scales: 5 bits a weight for 32.

    On a CPU, PyTorch has a product for that: it reads half a byte for each weight, and rounds x to
    bfloat16. It wants rows in sixteens and groups of 32, 64, …; else all is widened for each use.

    >>> layer, x = nn.Linear(64, 16), torch.ones(1, 64)
    >>> (Int4Linear(layer)(x) - layer(x)).abs().max().item() < 64 * 0.5 / 15 / 8
    True
    """

    def __init__(self, layer: nn.Linear, group: int = 32) -> None:
        super().__init__()
        q, scale, least = round_to_groups(layer.weight.detach(), 4, group, dtype=torch.bfloat16)
        self.group, self.bias = group, layer.bias
        self.fast = q.is_cpu and hasattr(OPS, "_weight_int4pack_mm_for_cpu")
        self.fast &= group in (32, 64, 128, 256) and layer.out_features % 16 == 0
        if self.fast:  # its numbers are scale * (q - 8) + middle
            packed = OPS._convert_weight_to_int4pack_for_cpu(q.int(), 1)
            grids = torch.stack([scale, least + 8 * scale], dim=-1).transpose(0, 1).contiguous()
        else:
            packed, grids = two_a_byte(q), torch.stack([scale, least])
        self.packed, self.grids = nn.Buffer(packed), nn.Buffer(grids)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            weight = Rounded(low_then_high(self.packed), *self.grids).weight()
            return linear(x, weight.to(x.dtype), self.bias)
        rows = x.flatten(0, -2).bfloat16()
        y = OPS._weight_int4pack_mm_for_cpu(rows, self.packed, self.group, self.grids)
        y = y.to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias
