"""Linear layers for small batches, where reading the weights is nearly all the work. Lesson 18.

Shapes: V rows and D columns of a weight matrix; x (..., D) becomes (..., V).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

FEW = 8  # rows of x
LARGE = 2**23  # weights, 34 MB in float32: more than most caches hold


def small_batch_matmul(weight: Tensor, x: Tensor) -> Tensor:
    """x W^T; few rows of x as (W x^T)^T, the same product, where that is faster.

    The processor's library rearranges the right factor first, which takes longer than to multiply
    by few rows; so a large W becomes the left factor. One row on the right, compiled, becomes a
    loop that walks through W once.
    """
    n_rows = x.numel() // x.shape[-1]
    if n_rows == 1 and torch.compiler.is_compiling():
        return (weight @ x.flatten()).view(*x.shape[:-1], -1)
    if 1 < n_rows <= FEW and weight.numel() > LARGE:
        return (weight @ x.reshape(n_rows, -1).T).T.contiguous().view(*x.shape[:-1], -1)
    return linear(x, weight)


class SmallBatchLinear(nn.Linear):
    """The linear layer `layer`, with the same weights, for few rows."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y = small_batch_matmul(self.weight, x)
        return y if self.bias is None else y + self.bias


def replace_linear(module: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put `make(layer)` in the place of every `nn.Linear` inside of `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child))
        else:
            replace_linear(child, make)
