"""From scores to a choice: which token comes next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from transformer_lessons.config import Allowed, Count, Fraction, check_fields
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.filters import keep_min_p, keep_top_k, keep_top_p
from transformer_lessons.generation.penalties import penalize_frequency, penalize_repetition

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


@dataclass(frozen=True)
class Sampler:
    """How to choose the next token: the most likely one (`greedy`), or at random by probability.

    In this order: penalties, temperature, top-k, top-p, min-p; what is left is drawn from.

    >>> Sampler(greedy=True)(torch.tensor([1.0, 3.0, 2.0]), torch.Generator())
    1
    >>> Sampler(top_k=2).probabilities(torch.tensor([0.5, 0.2, 0.3]).log())
    tensor([0.6250, 0.0000, 0.3750])
    """

    temperature: float = 1.0  # below 1 surer, above 1 more varied
    greedy: bool = False  # True: always the most likely; of equal ones, the lowest id
    top_k: Count | None = None  # only the k most likely tokens
    top_p: TopP = 1.0  # only the most likely tokens that sum to p
    min_p: Fraction = 0.0  # only tokens at least p times as likely as the most likely one
    repetition_penalty: RepetitionPenalty = 1.0  # scores of what occurred are divided by this
    frequency_penalty: FrequencyPenalty = 0.0  # and lowered by this for each time

    def __post_init__(self) -> None:
        check_sampler(self)

    def penalized(self, logits: Tensor, history: Sequence[int] = ()) -> Tensor:
        """The scores (V,) of the model, lowered for what is in `history`, the text so far."""
        check_scores(logits)
        if self.repetition_penalty != 1:
            logits = penalize_repetition(logits, history, self.repetition_penalty)
        if self.frequency_penalty:
            logits = penalize_frequency(logits, history, self.frequency_penalty)
        return logits

    def probabilities(self, logits: Tensor, history: Sequence[int] = ()) -> Tensor:
        """What the next token is drawn from: (V,), from the scores (V,) of the model."""
        logits = self.penalized(logits, history)
        if self.greedy:
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
        if self.greedy:  # without probabilities, which would be 1 and zeros
            return int(self.penalized(logits, history).argmax())
        probabilities = self.probabilities(logits, history)
        return int(torch.multinomial(probabilities, 1, generator=generator))


def check_scores(logits: Tensor) -> None:
    """Raise `LessonsError` for a NaN or an infinite score; -inf, "never", may be among others."""
    if not math.isfinite(logits.max()):  # the largest of numbers among which is a NaN is NaN
        remedy = "The model has diverged: train it again with a lower learning rate."
        raise LessonsError("the scores are not all finite", remedy=remedy)


def check_sampler(sampler: Sampler) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    # Below 0.001 the division can overflow; the choice is greedy long before that.
    if not 0.001 <= sampler.temperature < math.inf:
        raise LessonsError(
            f"temperature = {sampler.temperature!r} is not at least 0.001 and finite",
            where="Sampler.temperature",
            remedy="Use 0.1 to 2, or ask for the most likely token with greedy.",
        )
    check_fields(sampler)


# Named choices, from the surest to the most varied.
SAMPLERS = {
    "greedy": Sampler(greedy=True),
    "sure": Sampler(0.2, top_p=0.95),  # for code: Chen et al. 2021, "Evaluating … Code"
    "balanced": Sampler(0.7, top_p=0.9),
    "varied": Sampler(1.0, min_p=0.05),
    "plain": Sampler(),  # the model's own distribution
}
