"""Which tokens may be drawn: each function takes scores and sets those of the others to -inf.

Shapes: V tokens of the vocabulary, `...` any leading dimensions. A token with the score -inf has
the probability exp(-inf) = 0, and the softmax shares its part out among those that are left.
"""

import math

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest scores of (..., V), exactly k: of equal ones, those of the lowest ids.

    Source: Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation", section 5.

    >>> keep_top_k(torch.tensor([1.0, 2.0, 2.0, 2.0]), 2).tolist()
    [-inf, 2.0, 2.0, -inf]
    """
    if not 1 <= k <= logits.shape[-1]:
        remedy = "Use a smaller k, or leave top_k away to keep all."
        what = f"top_k = {k} of a vocabulary of {logits.shape[-1]}"
        raise LessonsError(what, where="Sampler.top_k", remedy=remedy)
    smallest_kept = logits.topk(k).values[..., -1:]
    above, tied = logits > smallest_kept, logits == smallest_kept
    room = k - above.sum(dim=-1, keepdim=True)
    return logits.masked_fill(~(above | tied & (tied.cumsum(dim=-1) <= room)), -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most likely tokens whose probabilities sum to p or more ("nucleus").

    A token stays if the tokens more likely than it sum to less than p; so the most likely one
    always stays. Of equal ones, those of the lowest ids come first.
    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.

    >>> keep_top_p(torch.tensor([0.5, 0.2, 0.3]).log(), 0.6).exp()
    tensor([0.5000, 0.0000, 0.3000])
    """
    if p == 1.0:
        return logits  # also the tokens that the sum below would lose in its rounding
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    sum_before = probabilities.cumsum(dim=-1) - probabilities
    dropped = torch.zeros_like(logits, dtype=torch.bool)
    dropped.scatter_(-1, order, sum_before >= p)  # from the order of size to that of ids
    return logits.masked_fill(dropped, -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens at least p times as likely as the most likely one: logit >= max + ln p.

    Source: Nguyen et al. 2025, "Turning Up the Heat: Min-p Sampling".

    >>> keep_min_p(torch.tensor([0.6, 0.1, 0.3]).log(), 0.5).exp()
    tensor([0.6000, 0.0000, 0.3000])
    """
    least = logits.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(logits < least, -math.inf)
