"""One block: look back, then think; each adds its result to the token's running numbers."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import dropout

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.attention import CausalAttention, Rope, Update, attend
from transformer_lessons.model.feedforward import make_feedforward
from transformer_lessons.model.norm import make_norm


class Block(nn.Module):
    """x = x + attention(norm(x)), then x = x + feedforward(norm(x)).

    Here the norm comes before each layer and outside the sum ("pre-norm"), so that the running
    numbers `x` pass from the first block to the last without being squeezed. "Post-norm", the
    original, is x = norm(x + layer(x)).
    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".
    """

    def __init__(self, config: ModelConfig, attend: Callable[..., Tensor] = attend) -> None:
        super().__init__()
        self.pre_norm = config.norm_placement == "pre"
        self.dropout = config.dropout * config.size_scale
        self.attention_norm = make_norm(config)
        self.attention = CausalAttention(config, attend)
        self.feedforward_norm = make_norm(config)
        self.feedforward = make_feedforward(config)

    def forward(
        self, x: Tensor, mask: Tensor, rope: Rope | None = None, update: Update | None = None
    ) -> Tensor:
        if self.pre_norm:
            x = x + self.drop(self.attention(self.attention_norm(x), mask, rope, update))
            return x + self.drop(self.feedforward(self.feedforward_norm(x)))  # (B, T, D)
        x = self.attention_norm(x + self.drop(self.attention(x, mask, rope, update)))
        return self.feedforward_norm(x + self.drop(self.feedforward(x)))  # (B, T, D)

    def drop(self, x: Tensor) -> Tensor:
        """While training, a random share of the numbers is set to 0 and the rest made larger."""
        return dropout(x, self.dropout, self.training)
