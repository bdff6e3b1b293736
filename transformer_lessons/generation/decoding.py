"""One step of generation for many texts at once: read what is new, score what may follow.

Shapes: B texts, T new tokens, V tokens of the vocabulary.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference

FEW = 8  # texts; measured in book/benchmarks.md

Step = Callable[[Decoder, Tensor, KVCache | None], Tensor]


def last_logits(model: Decoder, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
    """Scores (B, V) of what follows `tokens` (B, T), which follow what `cache` has seen.

    The head, half of the work in a small model, looks at the last token of each text only.
    """
    return scores_of_few(model.head, model.hidden(tokens, cache)[:, -1])


def scores_of_few(head: nn.Linear, x: Tensor) -> Tensor:
    """head(x) for rows (B, D); few of them as (W x^T)^T, with the large W as left factor.

    The product is the same. But the processor's library rearranges the right factor first, which
    for few rows and a large vocabulary takes longer than to multiply: twice as long for 8 rows.
    """
    if len(x) > FEW:
        return head(x)
    scores = (head.weight @ x[0])[None] if len(x) == 1 else (head.weight @ x.T).T.contiguous()
    return scores if head.bias is None else scores + head.bias


def prefill(model: Decoder, texts: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
    """Read `texts` into the empty `cache`; returns the scores (B, V) of what follows each.

    Shorter texts get padding at the front, so that all end at the same place and their next tokens
    go side by side; `cache.starts` says where each begins. At most `cache.chunk` tokens of a text
    are read at once, which bounds the memory and changes nothing else.
    """
    device, longest = cache.length.device, max(len(text) for text in texts)
    n_padding = [longest - len(text) for text in texts]
    if any(n_padding):
        cache.starts = torch.tensor(n_padding, device=device)
    rows = [[0] * n + list(text) for n, text in zip(n_padding, texts, strict=True)]
    with inference(model):
        for tokens in torch.tensor(rows, device=device).split(cache.chunk, dim=1):
            logits = last_logits(model, tokens, cache)
    return logits


class Decoding:
    """Texts that grow side by side, and a cache of what the model has read of them.

    `logits` (B, V) are the scores of what may follow each of `texts`. When the longest outgrows the
    context the window slides: the model reads the last `context_length` tokens again, as if they
    were the whole text, for every token from then on.

    `step` computes as `last_logits` does, or is a compiled version of it; then all steps have the
    same shapes.
    """

    def __init__(
        self,
        model: Decoder,
        texts: Sequence[Sequence[int]],
        max_new_tokens: int,
        step: Step = last_logits,
    ) -> None:
        self.model, self.step, self.n_left = model, step, max_new_tokens
        self.texts = [list(text) for text in texts]
        self.read_again()

    def read_again(self) -> None:
        """Read the last `context_length` tokens of all texts into a new cache."""
        config, parameter = self.model.config, next(self.model.parameters())
        windows = [text[-config.context_length :] for text in self.texts]
        longest, allowed = max(len(window) for window in windows), longest_cached(config)
        if longest > allowed:  # keys kept would be wrong from now on
            self.cache, rows = None, [torch.tensor([w], device=parameter.device) for w in windows]
            with inference(self.model):
                self.logits = torch.cat([last_logits(self.model, row) for row in rows])
            return
        capacity = longest + self.n_left
        static = self.step is not last_logits
        if static:  # few different sizes, for each is compiled anew
            capacity = 64 * math.ceil(capacity / 64)
        self.cache = KVCache(
            *(config, len(windows), min(capacity, allowed)),
            static=static,
            device=parameter.device,
            dtype=parameter.dtype,
        )
        self.logits = prefill(self.model, windows, self.cache)

    def append(self, tokens: Sequence[int]) -> None:
        """Add one token to each text, and find out what may follow."""
        self.n_left -= 1
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)
        if self.cache is None or len(self.cache) == self.cache.capacity:
            return self.read_again()
        with inference(self.model):  # where also `new` is made: else it would be compiled twice
            new = torch.tensor(tokens, device=self.logits.device)[:, None]  # (B, 1)
            self.logits = self.step(self.model, new, self.cache)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with the texts `rows` only, in that order; some may come several times."""
        self.texts = [list(self.texts[row]) for row in rows]
        kept = torch.tensor(rows, device=self.logits.device)
        self.logits = self.logits[kept]
        if self.cache is not None:
            self.cache.select(kept)
