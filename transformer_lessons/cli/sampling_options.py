"""How the next token is chosen, as options of a command."""

from dataclasses import dataclass, replace

import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import SAMPLERS, Sampler

NUMBERS = (
    *("temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "frequency_penalty"),
)


@dataclass(frozen=True)
class SamplingOptions:
    """What commands that generate inherit. An option that isn't given leaves the preset's value."""

    preset: str | None = None
    """Named settings: greedy, sure, balanced, varied or plain. Other options change them."""
    temperature: float | None = None
    """At least 0.001. Below 1 surer, above 1 more varied."""
    greedy: bool = False
    """Always take the most likely token; the temperature is then not used."""
    top_k: int | None = None
    """Only the k most likely tokens; at least 1."""
    top_p: float | None = None
    """Only the most likely tokens that sum to p; above 0, at most 1."""
    min_p: float | None = None
    """Only tokens at least p times as likely as the most likely one; from 0 to 1."""
    repetition_penalty: float | None = None
    """Make tokens that occurred less likely; from 1 (not at all) to 10."""
    frequency_penalty: float | None = None
    """The same, for each time that they occurred; from 0 (not at all) to 10."""

    def sampler(self, default: Sampler) -> Sampler:
        """The preset, or else `default`, with the options that were given."""
        sampler = default if self.preset is None else named_sampler(self.preset)
        given = {name: getattr(self, name) for name in NUMBERS}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(sampler, greedy=sampler.greedy or self.greedy, **given)


def check_vocabulary(sampler: Sampler, vocab_size: int) -> None:
    """Raise `LessonsError` if `sampler` can't choose among so many tokens: it is tried."""
    sampler.probabilities(torch.zeros(vocab_size))


def named_sampler(name: str) -> Sampler:
    """The preset called `name`; an unknown one raises `LessonsError`."""
    if name not in SAMPLERS:
        raise LessonsError(f"no preset {name!r}", remedy=f"Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]
