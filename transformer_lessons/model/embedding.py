"""Embeddings: a row of numbers for each token, and tables of positions to add to it. Lesson 5.

Shapes: B batch, T tokens, D numbers per token.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Embedding(nn.Module):
    """A table with one row of D learned numbers per token: weight[ids] * scale.

    `ids` has any shape; the result has one dimension more, D. Learned positions are one too.

    >>> table = Embedding(n_rows=3, d_model=2)
    >>> _ = table.load_state_dict({"weight": torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])})
    >>> table(torch.tensor([2, 0])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(self, n_rows: int, d_model: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(n_rows, d_model))

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids.long(), self.weight) * self.scale

    def extra_repr(self) -> str:
        n_rows, d_model = self.weight.shape
        return f"{n_rows}, {d_model}" + (f", scale={self.scale:.4g}" if self.scale != 1 else "")


def sinusoidal_table(positions: Tensor, d_model: int) -> Tensor:
    """Positions as waves: number 2j is sin(p / 10000**(2j/D)), number 2j + 1 the cosine of it.

    `positions` is (..., T); the result is (..., T, D), and nothing in it is learned.
    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    >>> sinusoidal_table(torch.tensor([0, 1]), d_model=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    dtype = torch.promote_types(positions.dtype, torch.float32)
    exponents = torch.arange(0, d_model, 2, device=positions.device, dtype=dtype) / d_model
    angles = positions.to(dtype)[..., None] * 10_000.0**-exponents  # (..., T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (..., T, D)
