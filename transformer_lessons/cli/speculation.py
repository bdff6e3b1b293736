"""`--speculate`: a draft for `generate` and `chat`, and what became of its guesses."""

from collections.abc import Iterator, Sequence
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import known_tokens
from transformer_lessons.generation.speculative import Draft, speculate
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.tokenizer import Tokenizer


class Speculation:
    """Writes with a draft that guesses `k` tokens at a time, and counts."""

    def __init__(self, draft: Draft, k: int) -> None:
        self.draft, self.k = draft, k
        self.n_passes = self.n_tokens = self.n_guesses = 0  # since the last report

    def __call__(
        self, model: Decoder, prompt: Sequence[int], n_new: int, *choices: Any, allowed: Any = None
    ) -> Iterator[int]:
        """In place of `generation.generate.stream`: choices are sampler, seed and stop."""
        how = [self.draft], self.k, *choices, allowed
        for _, tokens, n_guesses in speculate(model, [prompt], n_new, *how):
            self.n_passes += 1
            self.n_tokens += len(tokens)
            self.n_guesses += n_guesses
            yield from tokens

    def report(self) -> str:
        """What was counted since the last report, in words."""
        n_kept = self.n_tokens - self.n_passes  # each pass adds one token of the model's own
        words = f"{self.n_passes:,} passes, kept {n_kept:,} of {self.n_guesses:,} guesses"
        self.n_passes = self.n_tokens = self.n_guesses = 0
        return words


def check_same_tokens(tokenizer: Tokenizer, other: Tokenizer, vocab_size: int) -> None:
    """Raise `LessonsError` unless the ids of both mean the same bytes."""
    known, also = known_tokens(tokenizer, vocab_size), known_tokens(other, vocab_size)
    ids = known.nonzero().flatten().tolist() if known.equal(also) else [None]
    if any(i is None or tokenizer.decode_bytes([i]) != other.decode_bytes([i]) for i in ids):
        what = "the draft has another tokenizer than the model"
        raise LessonsError(what, where="--speculate", remedy="Use lookup, which suits every model.")
