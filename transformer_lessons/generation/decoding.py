"""One step of generation for many texts at once: read what is new, score what may follow.

Shapes: B texts, T new tokens, V tokens of the vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.compilation import compiled
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference

Step = Callable[[Decoder, Tensor, KVCache | None], Tensor]


def last_logits(model: Decoder, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
    """Scores (B, V) of what follows `tokens` (B, T), which follow what `cache` has seen.

    The head, a large part of the work in a small model, looks at the last token of each text only.
    """
    return model.head(model.hidden_states(tokens, cache)[:, -1])


def compiled_step() -> Step:
    """`last_logits`, compiled when it is first used with a batch size or a length. Keep it.

    (Or with padding for the first time. After eight programs PyTorch makes no more, and says so.)
    The compiler likes to compute numbers again where they are needed instead of storing them. In a
    product of one row with a matrix it would normalize that row again for each row of the matrix.
    The option has it store what took more than a dozen operations.
    """
    return compiled(last_logits, dynamic=False, options={"realize_opcount_threshold": 12})


def prefill(model: Decoder, texts: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
    """Read `texts` into the empty `cache`; returns the scores (B, V) of what follows each.

    Shorter texts get padding at the front, so that all end at the same place and their next tokens
    go side by side; `cache.left_padding` says where each begins. At most `cache.chunk` tokens of a text
    are read at once, which bounds the memory and changes nothing else.
    """
    device, longest = cache.length.device, max(len(text) for text in texts)
    n_padding = [longest - len(text) for text in texts]
    if any(n_padding):
        cache.left_padding = torch.tensor(n_padding, device=device)
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
        if static:  # 64, 128, 256, ...: few sizes, for each is compiled anew
            capacity = max(64, 1 << (capacity - 1).bit_length())
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
        tokens = [*tokens, *tokens[:1] * (len(self.texts) - len(tokens))]  # see `select`
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)
        if self.cache is None or len(self.cache) == self.cache.capacity:
            return self.read_again()
        with inference(self.model):  # where also `new` is made: else it would be compiled twice
            new = torch.tensor(tokens, device=self.logits.device)[:, None]  # (B, 1)
            self.logits = self.step(self.model, new, self.cache)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with the texts `rows` only, in that order; some may come several times.

        A compiled step would have to be compiled anew for fewer texts. So the first of `rows` is
        repeated until there are as many as before; `append` needs no tokens for the copies.
        """
        if self.cache is not None and self.cache.static:
            rows = [*rows, *rows[:1] * (len(self.texts) - len(rows))]
        self.texts = [list(self.texts[row]) for row in rows]
        kept = torch.tensor(rows, device=self.logits.device)
        self.logits = self.logits[kept]
        if self.cache is not None:
            self.cache.select_rows(kept)
