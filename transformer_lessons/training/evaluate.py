"""How good a model is on text it was not trained on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.text.batches import IGNORE
from transformer_lessons.training.loss import cross_entropy


@dataclass(frozen=True)
class Evaluation:
    """A loss in nats per token over `n_targets` tokens, and two other ways to say it.

    >>> result = Evaluation(loss=math.log(8), n_targets=100)
    >>> round(result.perplexity, 6), round(result.bits_per_byte, 6)
    (8.0, 3.0)
    """

    loss: float
    n_targets: int

    @property
    def perplexity(self) -> float:
        """e ** loss: as unsure as a fair choice among this many tokens."""
        return math.exp(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """loss / ln 2, for a model whose tokens are bytes."""
        return self.loss / math.log(2)


def evaluate(model: Decoder, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """The mean loss over every real target of `batches`, each target counting the same."""
    device = next(model.parameters()).device
    total, n_targets = 0.0, 0
    with inference(model):
        for inputs, targets in batches:
            n_real = int((targets != IGNORE).sum())
            if n_real == 0:  # the mean over nothing is not a number
                continue
            loss = cross_entropy(model(inputs.to(device)), targets.to(device))
            total += loss.item() * n_real
            n_targets += n_real
    if n_targets == 0:
        raise LessonsError("no targets to evaluate on", remedy="Give at least one batch.")
    return Evaluation(total / n_targets, n_targets)


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
