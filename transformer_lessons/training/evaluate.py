"""How good a model is on text it was not trained on. Lesson 13."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.training.loss import cross_entropy

if TYPE_CHECKING:  # the trainer, which needs an `Evaluation`, loads no tokenizer
    from transformer_lessons.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """A loss in nats per token over `n_targets` tokens, and two other ways to say it.

    `n_bytes` is how much text the targets are; None: a byte each.

    >>> result = Evaluation(loss=math.log(8), n_targets=100)
    >>> round(result.perplexity, 6), round(result.bits_per_byte, 6)
    (8.0, 3.0)
    >>> round(Evaluation(math.log(8), n_targets=100, n_bytes=300).bits_per_byte, 6)
    1.0
    """

    loss: float
    n_targets: int
    n_bytes: int | None = None

    @property
    def perplexity(self) -> float:
        """e ** loss: as unsure as a fair choice among this many tokens."""
        return math.inf if self.loss > 709 else math.exp(self.loss)  # floats end at e ** 709.8

    @property
    def bits_per_byte(self) -> float:
        """The loss of all targets, in bits, shared out among the bytes of the text.

        Unlike loss and perplexity, it compares models with different tokenizers.
        """
        n_bytes = self.n_targets if self.n_bytes is None else self.n_bytes
        return self.loss * self.n_targets / math.log(2) / n_bytes


def evaluate(
    model: Decoder,
    batches: Iterable[tuple[Tensor, Tensor]],
    lengths: Tensor | None = None,
    add_up: Callable[[float], float] = lambda own: own,
) -> Evaluation:
    """The mean loss over every real target of `batches`, each target counting the same.

    `lengths` (V,) has the number of bytes of each token; None: tokens are bytes. Several processes,
    each with its own batches, give an `add_up` that adds a number of each of them (lesson 15).
    """
    device = next(model.parameters()).device
    total, n_targets, n_bytes = 0.0, 0, 0
    with inference(model):
        for inputs, targets in batches:
            real = targets[targets != IGNORE].long()
            logits, targets = model(inputs.to(device)), targets.to(device)
            total += cross_entropy(logits, targets, reduction="sum").item()
            n_targets += len(real)
            n_bytes += len(real) if lengths is None else int(lengths[real].sum())
    total, n_targets, n_bytes = add_up(total), int(add_up(n_targets)), int(add_up(n_bytes))
    if n_targets == 0:
        raise LessonsError("no targets to evaluate on", remedy="Give at least one batch.")
    return Evaluation(total / n_targets, n_targets, n_bytes)


def token_lengths(tokenizer: "Tokenizer") -> Tensor:
    """The number of bytes (V,) that each token stands for; special tokens stand for no text.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> token_lengths(ByteTokenizer())[:3]
    tensor([1, 1, 1])
    """
    special = set(tokenizer.special_tokens.values())
    lengths = torch.zeros(tokenizer.n_vocab, dtype=torch.long)
    for token in range(tokenizer.n_vocab):
        if token not in special:
            with suppress(LessonsError):  # some vocabularies have gaps: no token, no text
                lengths[token] = len(tokenizer.decode_bytes([token]))
    return lengths


def unigram_loss(train_tokens: Tensor, held_out: Tensor, vocab_size: int) -> float:
    """The loss of knowing only how often each token occurs in `train_tokens`, in nats per token.

    Tokens are counted with one added to every count, so that none is impossible (Laplace).

    >>> tokens = torch.tensor([0, 1] * 500)
    >>> round(unigram_loss(tokens, tokens, vocab_size=2), 4)  # ln 2
    0.6931
    """
    counts = torch.bincount(train_tokens, minlength=vocab_size).double() + 1
    log_shares = (counts / counts.sum()).log()
    return -log_shares[held_out].mean().item()
