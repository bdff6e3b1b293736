"""LayerNorm and RMSNorm: bring the numbers of a token back to a common size. Lesson 9.

Sources: Ba et al. 2016, "Layer Normalization"; Zhang and Sennrich 2019 (the RMS one).
"""

import torch
from torch import Tensor, nn

from transformer_lessons.config import ModelConfig


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension.

    The variance is the biased one (divided by D, not D - 1). `x` is (..., D), `weight` and `bias`
    are (D,). Sums run in float32 at least, because bfloat16 would lose most of their digits.

    >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), torch.zeros(2))
    tensor([-1.0000,  1.0000])
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return (centred * torch.rsqrt(variance + eps)).to(x.dtype) * weight + bias


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight, over the last dimension: no mean is taken off, no bias.

    `x` is (..., D), `weight` is (D,). The mean is taken in float32 at least.

    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2))
    tensor([0.8485, 1.1314])
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    size = wide.square().mean(dim=-1, keepdim=True)
    return (wide * torch.rsqrt(size + eps)).to(x.dtype) * weight


class LayerNorm(nn.Module):
    """`layer_norm` with its weight and bias, made adaptive by `scale`: x + scale * (norm(x) - x).

    `lerp` computes this sum, and is exact at scales 0 (untouched) and 1, however large `x` is.

    >>> LayerNorm(width=4, scale=0.0)(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, width: int, eps: float = 1e-5, scale: float = 1.0) -> None:
        super().__init__()
        self.eps, self.scale = eps, scale
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x.lerp(layer_norm(x, self.weight, self.bias, self.eps), self.scale)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}, scale={self.scale}"


class RMSNorm(nn.Module):
    """`rms_norm` with its weight, made adaptive by `scale` as in `LayerNorm`."""

    def __init__(self, width: int, eps: float = 1e-5, scale: float = 1.0) -> None:
        super().__init__()
        self.eps, self.scale = eps, scale
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x.lerp(rms_norm(x, self.weight, self.eps), self.scale)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}, scale={self.scale}"


def make_norm(config: ModelConfig, width: int | None = None) -> LayerNorm | RMSNorm:
    """The norm of `config`, adaptive or not, over `width` numbers (None: d_model)."""
    kind = LayerNorm if config.norm == "layer" else RMSNorm
    scale = config.size_scale if config.adaptive_norm else 1.0
    return kind(width or config.d_model, config.norm_eps, scale)
