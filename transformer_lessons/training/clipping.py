"""What keeps one strange batch from undoing a day of training. Lesson 12."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Shorten all gradients together to the length `max_norm`, if they are longer.

    The length is sqrt(sum of the squares of all numbers of all gradients). Each gradient is
    multiplied by min(1, max_norm / (length + 1e-6)), so the direction stays. Returns the length
    before. Sums run in float32 at least.
    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks".

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm([weight], max_norm=1.0), weight.grad
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    factor = (max_norm / (length + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
    return length
