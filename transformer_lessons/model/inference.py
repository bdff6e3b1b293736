"""Running a model without training it. Lesson 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Inside this block dropout is off and no gradients are kept; afterwards all is as before.

    >>> model = nn.Dropout(0.5).train()
    >>> with inference(model):
    ...     print(model(torch.ones(3)).tolist())
    [1.0, 1.0, 1.0]
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
