"""The whole model: token ids in, a score for every possible next token out."""

import torch
from torch import Tensor, nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask
from transformer_lessons.model.block import Block, make_norm
from transformer_lessons.model.initialization import initialize
from transformer_lessons.model.position import rope_table


class Decoder(nn.Module):
    """A decoder-only transformer: embedding, blocks, final norm, head.

    `model(tokens)` maps token ids (B, T) to logits (B, T, V): at every position, one score for
    each token that could come next. By default each position sees itself and what is before it;
    `mask` (T, T) says otherwise, and `positions` (T,) replaces 0, 1, 2, …

    >>> from transformer_lessons.config import preset
    >>> model = Decoder(preset("fluctlight"))
    >>> model(torch.tensor([[97, 98]])).shape
    torch.Size([1, 2, 256])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        self.apply(initialize)

    def forward(
        self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        check_length(self.config, tokens.shape[1])
        x = self.embedding(tokens)  # (B, T, D)
        mask, cos, sin = attention_inputs(self.config, tokens, positions, mask)
        for block in self.blocks:
            x = block(x, mask, cos, sin)
        return self.head(self.final_norm(x))  # (B, T, V)


def attention_inputs(
    config: ModelConfig,
    tokens: Tensor,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What every block's attention needs besides its input: the mask and the RoPE table."""
    n_tokens = tokens.shape[1]
    if positions is None:
        positions = torch.arange(n_tokens, device=tokens.device)
    if mask is None:
        mask = causal_mask(n_tokens, tokens.device)
    cos, sin = rope_table(positions, config.d_head, config.rope_base)
    return mask, cos, sin


def check_length(config: ModelConfig, n_tokens: int) -> None:
    """Raise `LessonsError` when a model of `config` can't look at `n_tokens` tokens at once."""
    if not 1 <= n_tokens <= config.context_length:
        raise LessonsError(
            f"{n_tokens} tokens, but this model looks at 1 to {config.context_length}",
            where="context_length",
            remedy="Give it fewer tokens, or make a model with a longer context_length.",
        )
