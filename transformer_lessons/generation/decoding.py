"""One step of generation for many sequences at once: read what is new, score what may follow.

Lesson 18. Shapes: B sequences, T new tokens, V tokens of the vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.compilation import compiled
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference

ForwardFn = Callable[[Decoder, Tensor, KVCache | None], Tensor]


def last_logits(model: Decoder, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
    """Scores (B, V) of what follows `tokens` (B, T), which follow what `cache` has seen.

    The head, a large part of the work in a small model, is applied to the last token only.
    """
    return model.head(model.hidden_states(tokens, cache)[:, -1])


def compiled_forward() -> ForwardFn:
    """`last_logits`, compiled when it is first used with a batch size or a length. Keep it.

    (Or with padding for the first time. After eight programs PyTorch makes no more, and says so.)
    The compiler likes to compute numbers again where they are needed instead of storing them. In a
    product of one row with a matrix it would normalize that row again for each row of the matrix.
    The option has it store what took more than five operations.
    """
    return compiled(last_logits, dynamic=False, options={"realize_opcount_threshold": 5})


def prefill(model: Decoder, sequences: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
    """Read `sequences` into the empty `cache`; returns the scores (B, V) of what follows each.

    Shorter ones get padding on the left, so that all end at the same place and their next tokens
    go side by side; `cache.left_padding` says how much. At most `cache.chunk` tokens of a sequence
    are read at once, which bounds the memory and changes nothing else.
    """
    device, longest = cache.length.device, max(len(sequence) for sequence in sequences)
    n_padding = [longest - len(sequence) for sequence in sequences]
    if any(n_padding):
        cache.left_padding = torch.tensor(n_padding, device=device)
    rows = [[0] * n + list(sequence) for n, sequence in zip(n_padding, sequences, strict=True)]
    with inference(model):
        for tokens in torch.tensor(rows, device=device).split(cache.chunk, dim=1):
            logits = last_logits(model, tokens, cache)
    return logits


class Decoding:
    """Sequences that grow side by side, and a cache of what the model has read of them.

    `logits` (B, V) are the scores of what may follow each of `sequences`. When the longest outgrows
    the context the window slides: the model reads the last `context_length` tokens again, as if
    they were the whole sequence, for every token from then on.

    `forward_fn` computes as `last_logits` does, or is a compiled version of it; then many
    steps have the same shapes: the cache is static, and doubles when it is full.
    """

    def __init__(
        self,
        model: Decoder,
        sequences: Sequence[Sequence[int]],
        max_new_tokens: int,
        forward_fn: ForwardFn = last_logits,
    ) -> None:
        self.model, self.forward_fn, self.n_left = model, forward_fn, max_new_tokens
        self.modules = list(model.modules())  # to find them takes longer than to ask them
        self.sequences = [list(sequence) for sequence in sequences]
        self.read_again()

    def read_again(self) -> None:
        """Read the last `context_length` tokens of all sequences into a new cache."""
        config, parameter = self.model.config, next(self.model.parameters())
        windows = [sequence[-config.context_length :] for sequence in self.sequences]
        longest, allowed = max(len(window) for window in windows), longest_cached(config)
        if longest > allowed:  # keys kept would be wrong from now on
            self.cache, rows = None, [torch.tensor([w], device=parameter.device) for w in windows]
            with inference(self.model):
                self.logits = torch.cat([last_logits(self.model, row) for row in rows])
            return
        capacity = longest + self.n_left
        static = self.forward_fn is not last_logits
        if static:  # 64, 128, 256, ...: few sizes, for each is compiled anew
            # All slots are read for every token, so there are few at first: it grows when full.
            capacity = min(capacity, max(longest + 1, 256))
            capacity = max(64, 1 << (capacity - 1).bit_length())
        self.cache = KVCache(
            config,
            batch_size=len(windows),
            capacity=min(capacity, allowed),
            static=static,
            device=parameter.device,
            dtype=parameter.dtype,
        )
        self.logits = prefill(self.model, windows, self.cache)

    def append(self, tokens: Sequence[int]) -> None:
        """Add one token to each sequence, and find out what may follow."""
        self.n_left -= 1
        n_copies = len(self.sequences) - len(tokens)  # see `select_rows`
        tokens = [*tokens, *[tokens[0]] * n_copies]
        for sequence, token in zip(self.sequences, tokens, strict=True):
            sequence.append(token)
        if self.cache is not None and len(self.cache) == self.cache.capacity:
            self.cache = self._grown(self.cache)
        if self.cache is None:
            return self.read_again()
        is_training = any(module.training for module in self.modules)
        # Where also `new` is made: else it would be compiled twice.
        with inference(self.model) if is_training else torch.inference_mode():
            new = torch.tensor(tokens, device=self.logits.device)[:, None]  # (B, 1)
            self.logits = self.forward_fn(self.model, new, self.cache)

    def _grown(self, cache: KVCache) -> KVCache | None:
        """A cache of twice the capacity that has read the same; None where the context ends."""
        config, like = self.model.config, cache.keys[0]
        capacity = min(2 * cache.capacity, longest_cached(config))
        if capacity == cache.capacity or not cache.static:
            return None
        size = len(like), capacity, cache.chunk
        larger = KVCache(config, *size, static=True, device=like.device, dtype=like.dtype)
        for new, old in zip(larger.keys + larger.values, cache.keys + cache.values, strict=True):
            new[:, :, : cache.n_slots] = old  # a ring is not full yet, or stays as large as it is
        larger.length, larger.left_padding = cache.length, cache.left_padding
        return larger

    def select_rows(self, rows: Sequence[int]) -> None:
        """Go on with the sequences `rows` only, in that order; some may come several times.

        A compiled forward function would have to be compiled anew for fewer sequences. So the first
        of `rows` is repeated until there are as many as before; `append` needs no tokens for the
        copies.
        """
        if self.cache is not None and self.cache.static:
            rows = [*rows, *[rows[0]] * (len(self.sequences) - len(rows))]
        self.sequences = [list(self.sequences[row]) for row in rows]
        kept = torch.tensor(rows, device=self.logits.device)
        self.logits = self.logits[kept]
        if self.cache is not None:
            self.cache.select_rows(kept)
