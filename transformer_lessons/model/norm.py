"""Normalization: bring the numbers of a token back to a common size.

Source: Ba, Kiros and Hinton 2016, "Layer Normalization".
"""

import torch
from torch import Tensor, nn


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension.

    The variance is the biased one (divided by D, not D - 1). `x` is (..., D), `weight` and `bias`
    are (D,).

    >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), torch.zeros(2))
    tensor([-1.0000,  1.0000])
    """
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(variance + eps) * weight + bias


class LayerNorm(nn.Module):
    """`layer_norm` with its weight and bias, faded in by `scale`: x + scale * (norm(x) - x).

    With `scale` 1 this is the usual layer norm; with 0 the input passes untouched. `lerp` computes
    the same sum, and is exact at both ends even when `x` is large.

    >>> LayerNorm(d_model=4, scale=0.0)(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, d_model: int, eps: float = 1e-5, scale: float = 1.0) -> None:
        super().__init__()
        self.eps, self.scale = eps, scale
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return x.lerp(layer_norm(x, self.weight, self.bias, self.eps), self.scale)
