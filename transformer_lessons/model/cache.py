"""The KV cache: keys and values of the tokens before, kept instead of made again. Lesson 18.

Shapes: B batch, T new tokens, C slots of the cache, K heads of keys and values, d numbers per head.
"""

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError


class KVCache:
    """Keys and values of the tokens a model has seen: per block, two tensors (B, K, C, d).

    `model(tokens, cache)` reads `tokens` (B, T) as what comes next; the logits are those of one
    pass over the whole sequence. Token p of it is kept in slot p mod C. Without a window, C is
    `capacity`. With a window of W the slots are a ring, or rolling buffer: C is at most
    W - 1 + `chunk`, so that `chunk` new tokens overwrite only what the first of them can't see.

    `left_padding` (B,) says how many tokens at the front of each sequence are padding. A `static`
    cache hands out all slots, not only the filled ones: a compiled model wants constant shapes.
    Source: Shazeer 2019, "Fast Transformer Decoding", section 2.4.

    >>> cache = KVCache(ModelConfig(256, 16, d_model=4, n_layers=2, n_heads=2, d_ff=8))
    >>> cache.keys[0].shape, len(cache), cache.n_bytes
    (torch.Size([1, 2, 16, 2]), 0, 1024)
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int = 1,
        capacity: int | None = None,
        chunk: int = 512,
        static: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.capacity = longest_cached(config) if capacity is None else capacity
        _check_capacity(config, batch_size, self.capacity, chunk)
        self.window, self.chunk, self.static = config.sliding_window, chunk, static
        self.n_slots = min(self.capacity, (self.window or self.capacity) - 1 + chunk)
        shape = (batch_size, config.heads.n_kv_heads, self.n_slots, config.heads.head_dim)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.length = torch.zeros((), dtype=torch.int64, device=device)  # tokens read so far
        self.left_padding: Tensor | None = None
        self.longest = 0  # the greatest length before a `crop`

    def __len__(self) -> int:
        return int(self.length)

    @property
    def n_bytes(self) -> int:
        """Memory of all keys and values: 2 * layers * B * K * C * d * bytes per number."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def next_inputs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and mask of the next tokens (B, T); if they don't fit, a `LessonsError`."""
        self._check_room(*tokens.shape)
        return self.positions(tokens.shape[1]), self.mask(tokens.shape[1])

    def _slot_positions(self, n_tokens: int) -> Tensor:
        """Where in the sequence the next `n_tokens` tokens are: (T,), padding counted."""
        return self.length + torch.arange(n_tokens, device=self.length.device)

    def positions(self, n_tokens: int) -> Tensor:
        """Their positions, which start at 0 after the padding: (T,), or (B, T) if any has some."""
        counted, padding = self._slot_positions(n_tokens), self.left_padding
        return counted if padding is None else (counted - padding[:, None]).clamp(min=0)

    def mask(self, n_tokens: int) -> Tensor:
        """The causal mask over slots: (T, S), or (B, 1, T, S) with padding."""
        query, last = self._slot_positions(n_tokens)[:, None], self.length + n_tokens - 1
        slots = torch.arange(self._n_visible(n_tokens), device=query.device)
        held, mask = slots, slots <= query  # without a window, nothing is ever overwritten
        if self.window is not None:  # slot s holds the last p for which p mod C = s, or none: p < 0
            held = last - (last - slots) % self.n_slots
            mask = (held >= 0) & (held <= query) & (query - held < self.window)
        if self.left_padding is None:
            return mask
        visible = mask & (held >= self.left_padding[:, None, None])
        # Padding looks at itself: a softmax over nothing is nan, and nan times 0 is nan again.
        return (visible | (held == query))[:, None]

    def _n_visible(self, n_tokens: int) -> int:
        """S: how many slots are handed out when `n_tokens` more are in."""
        return self.n_slots if self.static else min(len(self) + n_tokens, self.n_slots)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values (B, K, T, d), without gradients; returns all: (B, K, S, d)."""
        slots = self._slot_positions(k.shape[2]) % self.n_slots
        self.keys[layer].index_copy_(2, slots, k.detach())
        self.values[layer].index_copy_(2, slots, v.detach())
        n_visible = self._n_visible(k.shape[2])
        return self.keys[layer][:, :, :n_visible], self.values[layer][:, :, :n_visible]

    def _check_room(self, n_sequences: int, n_tokens: int) -> None:
        """Raise `LessonsError` unless so many sequences of so many tokens more fit."""
        what, remedy, batch_size = "", "", len(self.keys[0])
        if n_sequences != batch_size:
            what = f"{n_sequences} sequences, but the cache was made for {batch_size}"
        # A compiled model can't stop to look at values; its caller counts.
        elif not torch.compiler.is_compiling() and len(self) + n_tokens > self.capacity:
            what = f"{n_tokens} more tokens, but the cache holds {len(self)} of {self.capacity}"
            remedy = "Use a cache of a larger capacity."
        elif self.n_slots < self.capacity and n_tokens > self.chunk:
            what = f"{n_tokens} tokens at once into a cache made for chunks of {self.chunk}"
            remedy = "Use `prefill`, or a larger chunk."
        if what:
            raise LessonsError(what, where="KVCache", remedy=remedy)

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens, padding counted, as if no more had ever been read."""
        self.longest = max(self.longest, len(self))
        n_lost = max(self.longest - self.n_slots, 0)  # positions that others were written over
        # The next token looks back to length - (W - 1); without a window, nothing is lost.
        shortest = n_lost + (self.window or 1) - 1 if n_lost else 0
        if not shortest <= length <= len(self):
            what = f"can't crop a cache of {len(self)} tokens to {length}"
            remedy = f"It can keep {shortest} or more: the rest was partly overwritten."
            raise LessonsError(what, where="KVCache.crop", remedy=remedy if n_lost else "")
        self.length += length - len(self)

    def select_rows(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (N,), in that order: fewer, in another order, or repeated."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]
        self.left_padding = None if self.left_padding is None else self.left_padding[rows]


def longest_cached(config: ModelConfig) -> int:
    """The longest sequence whose cached keys stay right: the context, as a rule.

    Beyond the trained length, "dynamic" RoPE scaling changes the angles of all keys before.
    """
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic":
        return min(config.context_length, scaling.trained_length)
    return config.context_length


def _check_capacity(config: ModelConfig, batch_size: int, capacity: int, chunk: int) -> None:
    """Raise `LessonsError` for a cache that can't be."""
    for name, value in (("batch_size", batch_size), ("capacity", capacity), ("chunk", chunk)):
        if value < 1:
            raise LessonsError(f"{name} = {value} is below 1", where=f"KVCache.{name}")
    if capacity > longest_cached(config):
        what = f"capacity = {capacity}, but this model's cache serves {longest_cached(config)}"
        raise LessonsError(what, where="KVCache.capacity")
