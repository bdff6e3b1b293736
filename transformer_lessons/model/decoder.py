"""The whole model: token ids in, a score for every possible next token out. Lesson 10."""

import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor, nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import Rope, attend, causal_mask
from transformer_lessons.model.block import Block
from transformer_lessons.model.cache import KVCache
from transformer_lessons.model.embedding import Embedding, sinusoidal_table
from transformer_lessons.model.norm import make_norm
from transformer_lessons.model.rope import rope_table


def initialize(model: nn.Module, n_layers: int) -> None:
    """Small random weights ~ N(0, 0.02²), zero biases; layers that add to the sum start smaller.

    Small weights make small logits: the first loss is close to ln V. Each block adds twice to the
    residual stream; the sum of 2 * n_layers independent terms is sqrt(2 * n_layers) times as large
    as one, so the matrices that end in it ("out", "down") start with 0.02 / sqrt(2 * n_layers).
    Source: Radford et al. 2019, section 2.3, and the GPT-2 code.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Embedding):
            adds_to_the_sum = name.endswith((".out", ".down"))
            std = 0.02 / math.sqrt(2 * n_layers) if adds_to_the_sum else 0.02
            nn.init.normal_(module.weight, mean=0.0, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class Decoder(nn.Module):
    """A decoder-only transformer: embedding, blocks, final norm, head.

    `model(tokens)` maps token ids (B, T) to logits (B, T, V). Each position sees itself and what is
    before it, unless `mask` (T, T) says otherwise; `positions` (T,) replaces 0, 1, 2, … With a
    `cache` the tokens come after those it has seen; positions and mask are then the cache's. Tokens
    outside the vocabulary, or more than the context holds, raise `LessonsError`.

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
        self.dropout = nn.Dropout(config.dropout * config.size_scale)
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
        return self.dropout(x)

    def hidden_states(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What the head reads: (B, T, D), after the final norm."""
        _check_tokens(self.config, tokens)
        if cache is not None:
            if positions is not None or mask is not None:
                raise LessonsError("positions and mask are the cache's own", where="Decoder")
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

    def extra_repr(self) -> str:
        chosen = [f.name for f in fields(self.config) if getattr(self.config, f.name) != f.default]
        return ", ".join(f"{name}={getattr(self.config, name)!r}" for name in chosen)


def attention_inputs(
    config: ModelConfig, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Rope | None]:
    """What the blocks need besides tokens: positions, the mask and the RoPE table.

    Positions (T,) and a mask (T, T) serve all sequences of a batch; positions (B, T) and a mask
    (B, 1, T, T) are those of each.
    """
    n_tokens = tokens.shape[1]
    if positions is None:
        positions = torch.arange(n_tokens, device=tokens.device)
    elif config.position == "learned" or not isinstance(positions, Tensor):
        _check_ids(positions, config.context_length, "position", "context_length")
    if mask is None:
        mask = causal_mask(n_tokens, config.sliding_window, tokens.device)
    rope = None
    if config.position == "rope":
        shared = positions if positions.ndim == 1 else positions[:, None]  # the same for all heads
        rope = rope_table(shared, config.heads.head_dim, config.rope_theta, config.rope_scaling)
    return positions, mask, rope


def _check_tokens(config: ModelConfig, tokens: Tensor) -> None:
    """Raise `LessonsError` for tokens (B, T) that a model of `config` can't look at."""
    _check_ids(tokens, config.vocab_size, "token", "vocab_size")
    if tokens.ndim != 2:
        what = f"tokens have the shape {tuple(tokens.shape)}, not (batch, tokens)"
        raise LessonsError(what, where="tokens", remedy="One sequence is tokens[None].")
    if not 1 <= (n_tokens := tokens.shape[1]) <= config.context_length:
        what = f"{n_tokens} tokens, but this model looks at 1 to {config.context_length}"
        raise LessonsError(what, where="context_length", remedy="Give it fewer tokens.")


def _check_ids(ids: Tensor, size: int, kind: str, field: str) -> None:
    """Raise `LessonsError` unless all `ids` are integers from 0 to size - 1, in a tensor."""
    if not isinstance(ids, Tensor) or "int" not in str(ids.dtype):
        raise LessonsError(f"not a tensor of integers, but {ids!r:.50}", where=f"{kind}s")
    # A compiled model can't stop to look at values; whoever compiles checks the data once.
    if torch.compiler.is_compiling() or ids.is_meta or ids.numel() == 0:
        return
    low, high = map(int, ids.long().aminmax())
    if low < 0 or high >= size:
        what = f"{kind} {low if low < 0 else high} is not from 0 to {size - 1}"
        remedy = "Is it the tokenizer that this model was made for?" if kind == "token" else ""
        raise LessonsError(what, where=field, remedy=remedy)
