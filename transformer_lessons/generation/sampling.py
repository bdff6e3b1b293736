"""From scores to a choice: which token comes next."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError


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

    >>> Sampler(greedy=True)(torch.tensor([1.0, 3.0, 2.0]), torch.Generator())
    1
    """

    temperature: float = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        # Below 0.001 the division can overflow; the choice is greedy long before that.
        if not 0.001 <= self.temperature < math.inf:
            raise LessonsError(
                f"temperature = {self.temperature!r} is not at least 0.001 and finite",
                where="Sampler.temperature",
                remedy="Use 0.1 to 2, or ask for the most likely token with greedy.",
            )

    def __call__(self, logits: Tensor, generator: torch.Generator) -> int:
        """Choose from the scores (V,) of all tokens; `generator` supplies the randomness."""
        if not logits.max().isfinite():  # the largest of numbers among which is a NaN is NaN
            remedy = "The model has diverged: train it again with a lower learning rate."
            raise LessonsError("the scores are not all finite", remedy=remedy)
        if self.greedy:
            return int(logits.argmax())
        probabilities = temperature_softmax(logits, self.temperature)
        return int(torch.multinomial(probabilities, 1, generator=generator))
