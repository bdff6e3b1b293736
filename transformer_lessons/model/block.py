"""One block: attention, then the MLP; each adds to the residual stream. Lesson 10."""

from collections.abc import Callable

from torch import Tensor, nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.attention import CausalAttention, Rope, UpdateCache, attend
from transformer_lessons.model.feedforward import make_feedforward
from transformer_lessons.model.norm import make_norm


class Block(nn.Module):
    """x = x + attention(norm(x)), then x = x + feedforward(norm(x)), with dropout in training.

    Here the norm comes before each layer and outside the sum ("pre-norm"), so that `x` passes from
    the first block to the last without being squeezed. "Post-norm" is x = norm(x + layer(x)).
    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".
    """

    def __init__(self, config: ModelConfig, attend: Callable[..., Tensor] = attend) -> None:
        super().__init__()
        self.pre_norm = config.norm_placement == "pre"
        self.dropout = nn.Dropout(config.dropout * config.size_scale)
        self.attention_norm = make_norm(config)
        self.attention = CausalAttention(config, attend)
        self.feedforward_norm = make_norm(config)
        self.feedforward = make_feedforward(config)

    def forward(
        self, x: Tensor, mask: Tensor, rope: Rope | None = None, update: UpdateCache | None = None
    ) -> Tensor:
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, rope, update))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))  # (B, T, D)
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, rope, update)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))  # (B, T, D)
