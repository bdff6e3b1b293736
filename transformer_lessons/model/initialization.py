"""Initialization: the numbers a model starts from. Lesson 10."""

import math

from torch import nn

from transformer_lessons.model.embedding import Embedding


def initialize(model: nn.Module, n_layers: int) -> None:
    """Small random weights ~ N(0, 0.02²), zero biases; layers that add to the sum start smaller.

    Small weights make small logits, so that every token starts out about equally likely and the
    first loss is close to ln V. Each block adds twice to the running numbers; 2 * n_layers
    independent terms have a sum that is sqrt(2 * n_layers) times as large as one of them, so the
    matrices that end in the sum ("out" and "down") start with 0.02 / sqrt(2 * n_layers).
    Source: Radford et al. 2019, section 2.3, and the GPT-2 code.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Embedding):
            adds_to_the_sum = name.endswith((".out", ".down"))
            std = 0.02 / math.sqrt(2 * n_layers) if adds_to_the_sum else 0.02
            nn.init.normal_(module.weight, mean=0.0, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
