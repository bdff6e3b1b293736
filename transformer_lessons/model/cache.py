"""What attention needs of the tokens before: their keys and values, kept instead of made again.

Shapes: B batch, T new tokens, C slots of the cache, K heads of keys and values, d numbers per head.
"""

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError


class KVCache:
    """Keys and values of the tokens a model has seen: per block, two tensors (B, K, C, d).

    `model(tokens, cache)` reads `tokens` (B, T) as what comes next, and keeps their keys and values
    here; the logits are those of one pass over the whole text. A token at place p of the text is
    kept in slot p mod C. Without a window nothing may be overwritten, and C is `capacity`. With one
    of W tokens, C is at most W - 1 + `chunk`: then up to `chunk` new tokens overwrite only what is
    out of sight of the first of them.

    `left_padding` (B,) says how many places at the front of each text are padding, which no one
    looks at. With a window the slots are a rolling buffer (ring). A `static` cache hands out all of
    its slots, so that every step has the same shapes, as a compiled model wants; otherwise only the
    filled ones.
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
        check_capacity(config, batch_size, self.capacity, chunk)
        self.window, self.chunk, self.static = config.sliding_window, chunk, static
        self.n_slots = self.capacity
        if self.window is not None:
            self.n_slots = min(self.capacity, self.window - 1 + chunk)
        shape = (batch_size, config.heads.n_kv_heads, self.n_slots, config.heads.head_dim)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.length = torch.zeros((), dtype=torch.int64, device=device)  # places filled so far
        self.left_padding: Tensor | None = None
        self.furthest = 0  # the most places that were filled before a `crop`

    def __len__(self) -> int:
        return int(self.length)

    @property
    def n_bytes(self) -> int:
        """Memory of all keys and values: 2 * layers * B * K * C * d * bytes per number."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def next_inputs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and mask of the next tokens (B, T), for which there must be room."""
        n_texts = self.keys[0].shape[0]
        if len(tokens) != n_texts:
            what = f"{len(tokens)} texts, but the cache was made for {n_texts}"
            raise LessonsError(what, where="KVCache")
        self.check_room(tokens.shape[1])
        return self.positions(tokens.shape[1]), self.mask(tokens.shape[1])

    def _slot_positions(self, n_tokens: int) -> Tensor:
        """Where in the text the next `n_tokens` tokens are: (T,), padding counted."""
        return self.length + torch.arange(n_tokens, device=self.length.device)

    def positions(self, n_tokens: int) -> Tensor:
        """Their positions, which start at 0 after the padding: (T,), or (B, T) if any has some."""
        places = self._slot_positions(n_tokens)
        return (
            places
            if self.left_padding is None
            else (places - self.left_padding[:, None]).clamp(min=0)
        )

    def mask(self, n_tokens: int) -> Tensor:
        """Which slots the next tokens may look at: (T, S), or (B, 1, T, S) with padding.

        Slot s holds the last place p <= `last` for which p mod C = s; below 0, it is empty.
        """
        places, last = self._slot_positions(n_tokens)[:, None], self.length + n_tokens - 1
        slots = torch.arange(self.n_visible(n_tokens), device=places.device)
        held = slots  # without a window, nothing is ever overwritten
        if self.window is not None:
            held = last - (last - slots) % self.n_slots
        mask = (held >= 0) & (held <= places)
        if self.window is not None:
            mask &= places - held < self.window
        if self.left_padding is None:
            return mask
        visible = mask & (held >= self.left_padding[:, None, None])
        # Padding looks at itself: a softmax over nothing is nan, and nan times 0 is nan again.
        return (visible | (held == places))[:, None]

    def n_visible(self, n_tokens: int) -> int:
        """S: how many slots are handed out when `n_tokens` more are in."""
        return self.n_slots if self.static else min(len(self) + n_tokens, self.n_slots)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values (B, K, T, d) of a block; returns all it has: (B, K, S, d).

        No gradient flows back into what is kept.
        """
        slots = self._slot_positions(k.shape[2]) % self.n_slots
        self.keys[layer].index_copy_(2, slots, k.detach())
        self.values[layer].index_copy_(2, slots, v.detach())
        n_visible = self.n_visible(k.shape[2])
        return self.keys[layer][:, :, :n_visible], self.values[layer][:, :, :n_visible]

    def check_room(self, n_tokens: int) -> None:
        """Raise `LessonsError` if `n_tokens` more don't fit."""
        if torch.compiler.is_compiling():
            return  # a compiled model can't stop to look at values; its caller counts
        if len(self) + n_tokens > self.capacity:
            what = f"{n_tokens} more tokens, but the cache holds {len(self)} of {self.capacity}"
            raise LessonsError(what, where="KVCache", remedy="Use a cache of a larger capacity.")
        if self.n_slots < self.capacity and n_tokens > self.chunk:
            what = f"{n_tokens} tokens at once into a cache made for chunks of {self.chunk}"
            raise LessonsError(what, where="KVCache", remedy="Use `prefill`, or a larger chunk.")

    def crop(self, length: int) -> None:
        """Keep the first `length` places only, as if the others had never been read."""
        self.furthest = max(self.furthest, len(self))
        n_lost = max(self.furthest - self.n_slots, 0)  # places that others were written over
        # With a window W, the next token at place p looks back to place p - W + 1.
        least = 0 if n_lost == 0 else n_lost + self.window - 1
        if not least <= length <= len(self):
            what = f"can't crop {len(self)} places to {length}"
            remedy = f"Before place {least} the ring was partly overwritten." if n_lost else ""
            raise LessonsError(what, where="KVCache.crop", remedy=remedy)
        self.length -= len(self) - length

    def select_rows(self, rows: Tensor) -> None:
        """Keep the texts `rows` (N,), in that order: fewer, in another order, or some repeated."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]
        self.left_padding = None if self.left_padding is None else self.left_padding[rows]


def longest_cached(config: ModelConfig) -> int:
    """The longest text whose cached keys stay right: the context, as a rule.

    "Dynamic" RoPE scaling changes the angles of all keys once a text is longer than those the
    model was trained on; beyond that length a cache would hold keys turned by the old angles.
    """
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic":
        return min(config.context_length, scaling.original_context_length)
    return config.context_length


def check_capacity(config: ModelConfig, batch_size: int, capacity: int, chunk: int) -> None:
    """Raise `LessonsError` for a cache that can't be."""
    for name, value in (("batch_size", batch_size), ("capacity", capacity), ("chunk", chunk)):
        if value < 1:
            raise LessonsError(f"{name} = {value} is below 1", where=f"KVCache.{name}")
    if capacity > longest_cached(config):
        what = f"capacity = {capacity}, but this model's cache serves {longest_cached(config)}"
        raise LessonsError(what, where="KVCache.capacity")
