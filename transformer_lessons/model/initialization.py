"""The numbers a model starts from."""

from torch import nn


def initialize(module: nn.Module) -> None:
    """Small random weights, zero biases: weights ~ N(0, 0.02²). Used as `model.apply(initialize)`.

    Small weights make small logits, so that every token starts out about equally likely and the
    first loss is close to ln V. Source: Radford et al. 2019, the GPT-2 code.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
