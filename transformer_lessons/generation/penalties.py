"""Tokens that are there already made less likely, so that the text does not run in circles."""

from collections.abc import Sequence

import torch
from torch import Tensor


def penalize_repetition(logits: Tensor, history: Sequence[int], penalty: float) -> Tensor:
    """Scores (V,) of tokens in `history`: divided by `penalty` above 0, multiplied below 0.

    Either way they sink, if `penalty` is above 1. How often a token occurred makes no difference.
    Source: Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model", section 4.1.

    >>> penalize_repetition(torch.tensor([2.0, -2.0, 2.0]), [0, 1, 1], 4.0).tolist()
    [0.5, -8.0, 2.0]
    """
    seen = count_tokens(history, len(logits)) > 0
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def penalize_frequency(logits: Tensor, history: Sequence[int], penalty: float) -> Tensor:
    """logits - penalty * (how often each token occurs in `history`), (V,).

    >>> penalize_frequency(torch.tensor([2.0, 2.0, 2.0]), [0, 1, 1], 0.5).tolist()
    [1.5, 1.0, 2.0]
    """
    return logits - penalty * count_tokens(history, len(logits)).to(logits.dtype)


def count_tokens(history: Sequence[int], vocab_size: int) -> Tensor:
    """How often each token occurs: (V,).

    >>> count_tokens([0, 2, 2], vocab_size=4).tolist()
    [1, 0, 2, 0]
    """
    return torch.bincount(torch.tensor(list(history), dtype=torch.int64), minlength=vocab_size)
