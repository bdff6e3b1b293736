"""The feed-forward layer, or MLP: each token, on its own, works on what it gathered. Lesson 9.

Shapes: D numbers per token, F hidden ones, `...` any leading dimensions.
"""

from torch import Tensor, nn
from torch.nn import functional

from transformer_lessons.config import ModelConfig


class FeedForward(nn.Module):
    """down(activation(up(x))): widen D numbers to F, bend them, go back to D.

    The activation is ReLU, max(x, 0), or GELU as GPT-2 computes it, with a tanh:
    x/2 * (1 + tanh(sqrt(2/π) * (x + 0.044715 x³))).
    Sources: Vaswani et al. 2017, section 3.3; Hendrycks and Gimpel 2016, "GELUs".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = nn.ReLU() if config.ffn == "relu" else nn.GELU(approximate="tanh")
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))  # (..., D) -> (..., F) -> (..., D)


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
