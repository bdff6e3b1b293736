"""The feed-forward layer, or MLP: each token, on its own, works on what it gathered. Lesson 9.

Shapes: D numbers per token, F hidden ones, `...` any leading dimensions.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_lessons.config import ModelConfig


def gelu(x: Tensor) -> Tensor:
    """GELU as GPT-2 computes it: x/2 * (1 + tanh(y)), y = sqrt(2/π) * (x + 0.044715 x³).

    (1 + tanh(y)) / 2 is sigmoid(2y), which `torch.compile` makes a faster program of; without it,
    PyTorch's own kernel is faster. Source: Hendrycks and Gimpel 2016, "GELUs".
    """
    if torch.compiler.is_dynamo_compiling():
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
    return functional.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """down(activation(up(x))): widen D numbers to F, bend them with ReLU or GELU, go back to D.

    Source: Vaswani et al. 2017, section 3.3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = functional.relu if config.ffn == "relu" else gelu
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))  # (..., D) -> (..., F) -> (..., D)

    def extra_repr(self) -> str:
        return f"activation={self.activation.__name__}"


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, with silu(x) = x * sigmoid(x): one half says how much of the other passes.

    Source: Shazeer 2020, "GLU Variants Improve Transformer".

    >>> swiglu(Tensor([-20.0, 0.0, 20.0]), Tensor([3.0, 3.0, 3.0])).round(decimals=4)
    tensor([-0.,  0., 60.])
    """
    return functional.silu(gate) * up


class GatedFeedForward(nn.Module):
    """down(swiglu(gate(x), up(x))): three matrices instead of two, without an extra bend."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(swiglu(self.gate(x), self.up(x)))  # (..., D) -> (..., F) -> (..., D)

    def extra_repr(self) -> str:
        return "activation=swiglu"


def make_feedforward(config: ModelConfig) -> FeedForward | GatedFeedForward:
    """The feed-forward layer that `config` asks for."""
    return GatedFeedForward(config) if config.ffn == "swiglu" else FeedForward(config)
