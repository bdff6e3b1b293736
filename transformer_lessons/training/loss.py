"""How wrong the model is, as one number.

Source: Shannon 1948, "A Mathematical Theory of Communication": the surprise of an event of
probability p is -log p. Here log is the natural logarithm, so losses are in nats.
"""

from torch import Tensor

from transformer_lessons.data.batches import IGNORE


def total_surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(logits)[target] over the targets that are not `IGNORE`, in nats.

    `logits` is (..., V), `targets` is (...); the result is a scalar. -log softmax is computed as
    logsumexp(logits) - logits[target], which never takes the logarithm of a rounded-off zero, and
    in float32 at least, because bfloat16 keeps only two or three digits.

    >>> import torch
    >>> round(total_surprise(torch.zeros(3, 256), torch.tensor([97, IGNORE, 98])).item(), 3)
    11.09
    """
    real = targets != IGNORE
    chosen = logits.gather(-1, targets.where(real, 0)[..., None]).squeeze(-1)
    if logits.element_size() < 4:
        logits, chosen = logits.float(), chosen.float()
    surprise = logits.logsumexp(dim=-1) - chosen
    return surprise.where(real, 0).sum()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[target] over the targets that are not `IGNORE`, in nats.

    `logits` is (..., V), `targets` is (...); the result is a scalar.

    >>> import torch
    >>> round(cross_entropy(torch.zeros(1, 256), torch.tensor([97])).item(), 4)  # ln 256
    5.5452
    """
    return total_surprise(logits, targets) / (targets != IGNORE).sum()
