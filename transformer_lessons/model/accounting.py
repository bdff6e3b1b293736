"""Counting what a model is made of."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """How many numbers training can change; a tensor used in two places counts once.

    >>> count_parameters(nn.Linear(4, 8))
    40
    """
    return sum(parameter.numel() for parameter in model.parameters())
