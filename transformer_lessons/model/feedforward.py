"""The feed-forward layer: each token, on its own, thinks about what it has gathered."""

from torch import Tensor, nn

from transformer_lessons.config import ModelConfig


class FeedForward(nn.Module):
    """down(relu(up(x))): widen D numbers to F, drop the negative ones, go back to D.

    Source: Vaswani et al. 2017, section 3.3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())  # (..., D) -> (..., F) -> (..., D)
