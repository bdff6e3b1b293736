"""From scores to a choice: which token comes next. Lessons 1 and 17.

Shapes: V tokens of the vocabulary, `...` any leading dimensions. A token with the score -inf has
the probability exp(-inf) = 0, and the softmax shares its part out among those that are left.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from transformer_lessons.config import Allowed, Count, Fraction, check_fields
from transformer_lessons.errors import LessonsError

# Below 0.001 the division can overflow; the choice is greedy long before that.
Temperature = Annotated[
    float,
    Allowed("0 (greedy), or at least 0.001 and finite", lambda v: v == 0 or 0.001 <= v < math.inf),
]
TopP = Annotated[float, Allowed("above 0, at most 1", lambda v: 0 < v <= 1)]
RepetitionPenalty = Annotated[float, Allowed("from 1 (no penalty) to 10", lambda v: 1 <= v <= 10)]
FrequencyPenalty = Annotated[float, Allowed("from 0 (no penalty) to 10", lambda v: 0 <= v <= 10)]


def temperature_softmax(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature): below 1 sharper, above 1 flatter. (..., V) -> (..., V).

    Source: Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines".

    >>> logits = torch.tensor([2.0, 0.0])
    >>> temperature_softmax(logits, 0.5).tolist() == torch.tensor([4.0, 0.0]).softmax(-1).tolist()
    True
    """
    return (logits / temperature).softmax(dim=-1)


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


def penalize_repetition(logits: Tensor, history: Sequence[int], penalty: float) -> Tensor:
    """Scores (V,) of tokens in `history`: divided by `penalty` above 0, multiplied below 0.

    Either way they sink, if `penalty` is above 1. How often a token occurred makes no difference.
    Sources: Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model", section 4.1, who
    only divide; the rule for negative scores came later, in `transformers`.

    >>> penalize_repetition(torch.tensor([2.0, -2.0, 2.0]), [0, 1, 1], 4.0).tolist()
    [0.5, -8.0, 2.0]
    """
    seen = _count_tokens(history, len(logits)) > 0
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def penalize_frequency(logits: Tensor, history: Sequence[int], penalty: float) -> Tensor:
    """logits - penalty * (how often each token occurs in `history`), (V,).

    >>> penalize_frequency(torch.tensor([2.0, 2.0, 2.0]), [0, 1, 1], 0.5).tolist()
    [1.5, 1.0, 2.0]
    """
    return logits - penalty * _count_tokens(history, len(logits)).to(logits.dtype)


def _count_tokens(history: Sequence[int], vocab_size: int) -> Tensor:
    """How often each token occurs: (V,)."""
    ids = torch.tensor(_check_ids(history, vocab_size, "history"), dtype=torch.int64)
    return torch.bincount(ids, minlength=vocab_size)


@dataclass(frozen=True)
class Sampler:
    """How to choose the next token: at random by probability, or, at temperature 0, the likeliest.

    In this order: penalties, temperature, top-k, top-p, min-p; what is left is drawn from.

    >>> Sampler(temperature=0)(torch.tensor([1.0, 3.0, 2.0]), torch.Generator())
    1
    >>> Sampler(top_k=2).probabilities(torch.tensor([0.5, 0.2, 0.3]).log())
    tensor([0.6250, 0.0000, 0.3750])
    """

    temperature: Temperature = 1.0  # below 1 surer, above 1 more varied; 0: greedy
    top_k: Count | None = None  # only the k most likely tokens
    top_p: TopP = 1.0  # only the most likely tokens that sum to p
    min_p: Fraction = 0.0  # only tokens at least p times as likely as the most likely one
    repetition_penalty: RepetitionPenalty = 1.0  # divides the scores of tokens that occurred
    frequency_penalty: FrequencyPenalty = 0.0  # is subtracted from them for each time

    def __post_init__(self) -> None:
        check_fields(self)

    def penalize(self, logits: Tensor, history: Sequence[int] = ()) -> Tensor:
        """The scores (V,), with those of tokens in `history` lowered by the penalties."""
        _check_scores(logits)
        if self.repetition_penalty != 1:
            logits = penalize_repetition(logits, history, self.repetition_penalty)
        if self.frequency_penalty:
            logits = penalize_frequency(logits, history, self.frequency_penalty)
        return logits

    def probabilities(self, logits: Tensor, history: Sequence[int] = ()) -> Tensor:
        """What the next token is drawn from: (V,), from the model's scores (V,) after `history`."""
        logits = self.penalize(logits, history)
        if self.temperature == 0:  # of equal scores, the lowest id
            return one_hot(logits.argmax(), len(logits)).to(logits.dtype)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p:
            logits = keep_min_p(logits, self.min_p)
        return logits.softmax(dim=-1)

    def __call__(
        self, logits: Tensor, generator: torch.Generator, history: Sequence[int] = ()
    ) -> int:
        """Choose from the scores (V,) of all tokens; `generator` supplies the randomness."""
        if self.temperature == 0:  # without the way through 1 and zeros
            return int(self.penalize(logits, history).argmax())
        return int(torch.multinomial(self.probabilities(logits, history), 1, generator=generator))


def _check_ids(ids: Iterable[int], vocab_size: int, where: str) -> list[int]:
    """`ids` as a list of integers; anything else, or an id outside the vocabulary, raises."""
    try:
        tokens = [index(token) for token in ids]  # also the integers of NumPy and PyTorch
    except TypeError:
        remedy = "Text becomes ids by `tokenizer.encode(text)`, one prompt becomes many by `[ids]`."
        raise LessonsError(f"not token ids: {ids!r:.60}", where=where, remedy=remedy) from None
    for position, token in enumerate(tokens):
        if not 0 <= token < vocab_size:
            what = f"token {token} is not in the vocabulary of {vocab_size}"
            raise LessonsError(what, where=f"{where}, position {position}")
    return tokens


def _check_scores(logits: Tensor) -> None:
    """Raise `LessonsError` for a NaN or an infinite score; -inf, "never", may be among others."""
    if not math.isfinite(logits.max()):  # the largest of numbers among which is a NaN is NaN
        remedy = "The model has diverged: train it again with a lower learning rate."
        raise LessonsError("the scores are not all finite", remedy=remedy)


# Named choices, from the surest to the most varied.
SAMPLERS = {
    "greedy": Sampler(temperature=0),
    "sure": Sampler(0.2, top_p=0.95),  # for code: Chen et al. 2021, "Evaluating … Code"
    "balanced": Sampler(0.7, top_p=0.9),
    "varied": Sampler(1.0, min_p=0.05),
    "plain": Sampler(),  # the model's own distribution
}
