"""The whole model: token ids in, a score for every possible next token out."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import attend, causal_mask
from transformer_lessons.model.block import Block
from transformer_lessons.model.cache import KVCache
from transformer_lessons.model.embedding import Embedding, sinusoidal_table
from transformer_lessons.model.initialization import initialize
from transformer_lessons.model.norm import make_norm
from transformer_lessons.model.rope import rope_table


class Decoder(nn.Module):
    """A decoder-only transformer: embedding, blocks, final norm, head.

    `model(tokens)` maps token ids (B, T) to logits (B, T, V), one score for each token that could
    come next. Each position sees itself and what is before it, unless `mask` (T, T) says otherwise;
    `positions` (T,) replaces 0, 1, 2, … Tokens outside the vocabulary, or more than the context
    holds, raise `LessonsError`. With a `cache` the tokens are what comes after those it has seen;
    positions and mask are then the cache's. `attend` is the function that attends.

    >>> config = ModelConfig(256, context_length=16, d_model=4, n_layers=2, n_heads=2, d_ff=8)
    >>> Decoder(config)(torch.tensor([[97, 98]])).shape
    torch.Size([1, 2, 256])
    """

    def __init__(self, config: ModelConfig, attend: Callable[..., Tensor] = attend) -> None:
        super().__init__()
        self.config = config
        scale = math.sqrt(config.d_model) if config.scale_embeddings else 1.0
        self.embedding = Embedding(config.vocab_size, config.d_model, scale)
        if config.position == "learned":
            self.position_embedding = Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(Block(config, attend) for _ in range(config.n_layers))
        self.final_norm = make_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight  # one tensor, not a copy
        initialize(self, config.n_layers)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Rows of the embedding (B, T, D), with positions added unless RoPE brings them in."""
        x = self.embedding(tokens)
        if self.config.position == "learned":
            x = x + self.position_embedding(positions)
        if self.config.position == "sinusoidal":
            x = x + sinusoidal_table(positions, self.config.d_model).to(x.dtype)
        return dropout(x, self.config.dropout * self.config.size_scale, self.training)

    def hidden_states(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What the head reads: (B, T, D), after the final norm."""
        check_tokens(self.config, tokens)
        if cache is not None:
            check_unset(positions, mask)
            positions, mask = cache.next_inputs(tokens)
        positions, mask, rope = attention_inputs(self.config, tokens, positions, mask)
        x = self.embed(tokens, positions)  # (B, T, D)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, rope, None if cache is None else partial(cache.update, layer))
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.final_norm(x)

    def forward(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        return self.head(self.hidden_states(tokens, cache, positions, mask))  # (B, T, V)


def attention_inputs(
    config: ModelConfig,
    tokens: Tensor,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """What the blocks need besides tokens: positions, the mask and the RoPE table.

    Positions (T,) and a mask (T, T) serve all texts of a batch; positions (B, T) and a mask
    (B, 1, T, T) are those of each text.
    """
    n_tokens = tokens.shape[1]
    if positions is None:
        positions = torch.arange(n_tokens, device=tokens.device)
    elif config.position == "learned":
        check_ids(positions, config.context_length, "position", "context_length")
    if mask is None:
        mask = causal_mask(n_tokens, config.sliding_window, tokens.device)
    rope = None
    if config.position == "rope":
        places = positions if positions.ndim == 1 else positions[:, None]  # the same for all heads
        rope = rope_table(places, config.heads.head_dim, config.rope_theta, config.rope_scaling)
    return positions, mask, rope


def check_tokens(config: ModelConfig, tokens: Tensor) -> None:
    """Raise `LessonsError` for tokens (B, T) that a model of `config` can't look at."""
    if tokens.ndim != 2:
        what = f"tokens have the shape {tuple(tokens.shape)}, not (batch, tokens)"
        raise LessonsError(what, where="tokens", remedy="One text is tokens[None].")
    n_tokens = tokens.shape[1]
    if not 1 <= n_tokens <= config.context_length:
        raise LessonsError(
            f"{n_tokens} tokens, but this model looks at 1 to {config.context_length}",
            where="context_length",
            remedy="Give it fewer tokens, or make a model with a longer context_length.",
        )
    check_ids(tokens, config.vocab_size, "token", "vocab_size")


def check_unset(positions: Tensor | None, mask: Tensor | None) -> None:
    """Raise `LessonsError` if positions or a mask were given beside a cache, which has its own."""
    if positions is not None or mask is not None:
        what = "positions and mask are the cache's own, when there is a cache"
        raise LessonsError(what, where="Decoder", remedy="Leave them away.")


def check_ids(ids: Tensor, size: int, kind: str, field: str) -> None:
    """Raise `LessonsError` unless all `ids` are integers from 0 to size - 1."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise LessonsError(f"{kind}s are {ids.dtype}, not integers", where=f"{kind}s")
    # A compiled model can't stop to look at values; whoever compiles checks the data once.
    if torch.compiler.is_compiling() or ids.is_meta or ids.numel() == 0:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= size:
        what = f"{kind} {low if low < 0 else high} is not from 0 to {size - 1}"
        remedy = "Is it the tokenizer that this model was made for?" if kind == "token" else ""
        raise LessonsError(what, where=field, remedy=remedy)
