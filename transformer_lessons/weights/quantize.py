"""Quantization: weights as small integers, a quarter of the bytes. Lesson 20; more in lesson 21.

Shapes: V rows and D columns of a weight matrix; x (..., D) becomes (..., V).
"""

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.linear import small_batch_matmul


def round_to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers q (V, D) from -127 to 127, and a scale (V,) for each row: weight ~ scale * q.

    The largest number of a row becomes 127 or -127, so scale = max |weight| / 127, and no weight is
    off by more than half a scale. Numbers that are not finite raise `LessonsError`.
    Source: Dettmers et al. 2022, "LLM.int8()", section 2 (absmax), with a scale for each row.

    >>> q, scale = round_to_int8(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))
    >>> q.tolist(), [round(s, 4) for s in scale.tolist()]
    ([[127, -50], [0, 0]], [0.01, 0.0])
    """
    weight = weight.float()
    if not weight.isfinite().all():
        raise LessonsError("a weight is not a finite number", where="round_to_int8")
    scale = weight.abs().amax(dim=1) / 127
    q = weight / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]  # rows of zeros stay 0
    return q.round().to(torch.int8), scale


class Int8Linear(nn.Module):
    """The linear layer `layer` with its weights rounded to int8: y = (x q^T) * scale + bias.

    Compiled, and for one row of x, a weight becomes a float only inside of the processor: one byte
    of memory is read for each. In all other cases the whole matrix is widened first.

    >>> layer, x = nn.Linear(64, 2), torch.ones(1, 64)
    >>> (Int8Linear(layer)(x) - layer(x)).abs().max().item() < 64 * 0.5 / 127 / 8
    True
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, scale = round_to_int8(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y = small_batch_matmul(self.weight.to(x.dtype), x) * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)
