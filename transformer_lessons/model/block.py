"""One block: look back, then think; each adds its result to the token's running numbers."""

from torch import Tensor, nn
from torch.nn.functional import dropout

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.attention import CausalAttention
from transformer_lessons.model.feedforward import FeedForward
from transformer_lessons.model.norm import LayerNorm


def make_norm(config: ModelConfig) -> LayerNorm:
    """The layer norm that `config` asks for, faded by `config.size_scale` if it is adaptive."""
    scale = config.size_scale if config.adaptive_norm else 1.0
    return LayerNorm(config.d_model, config.norm_eps, scale)


class Block(nn.Module):
    """x = x + attention(norm(x)), then x = x + feedforward(norm(x)).

    The norm comes before each layer and outside the sum ("pre-norm"), so that the running numbers
    `x` pass from the first block to the last without being squeezed.
    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout * config.size_scale
        self.attention_norm = make_norm(config)
        self.attention = CausalAttention(config)
        self.feedforward_norm = make_norm(config)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        attended = self.attention(self.attention_norm(x), mask, cos, sin)
        x = x + dropout(attended, self.dropout, self.training)
        thought = self.feedforward(self.feedforward_norm(x))
        return x + dropout(thought, self.dropout, self.training)  # (B, T, D)
