"""Fewer bits for the matrix products; weights, averages and sums keep theirs. Lesson 13.

bfloat16 has the range of float32 and 8 bits of precision. float16 has 11 bits, but nothing below
6e-8: small gradients would become zero, so the loss is multiplied by a large number first.
Source: Micikevicius et al. 2018, "Mixed Precision Training".
"""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from transformer_lessons.errors import LessonsError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """A context in which matrix products run in "fp32", "bf16" or "fp16".

    >>> with autocast(torch.device("cpu"), "bf16"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


class GradScaler:
    """The number that the loss is multiplied by, so that float16 can hold its gradients.

    It starts at 65,536. A step whose gradients are not finite is left out, and halves it; 2,000
    good steps in a row double it.

    >>> scaler = GradScaler()
    >>> scaler.update(is_finite=False)
    >>> scaler.scale
    32768.0
    """

    def __init__(self, scale: float = 2.0**16, n_good: int = 0) -> None:
        if not (1 <= scale < math.inf and 0 <= n_good < 2000):
            raise LessonsError(f"scale = {scale}, n_good = {n_good}", where="GradScaler")
        self.scale, self.n_good = scale, n_good

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradients those of the loss itself."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= self.scale

    def update(self, is_finite: bool) -> None:
        """Learn from a step; a scale below 1 means that the model itself is broken."""
        self.n_good = self.n_good + 1 if is_finite else 0
        if not is_finite:
            self.scale /= 2
        elif self.n_good == 2000:
            self.scale, self.n_good = self.scale * 2, 0
        if self.scale < 1:
            remedy = "Lower the learning rate, or train in bf16 or fp32."
            raise LessonsError("no loss scale makes the gradients finite", remedy=remedy)
