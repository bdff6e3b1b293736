"""One long row of token ids, cut into batches of windows.

A window of T + 1 tokens makes T inputs and T targets: each target is the token after its input.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError

IGNORE = -100  # a target with this value is not learned: padding, or the question of a pair


def random_windows(
    tokens: Tensor, context_length: int, batch_size: int, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (B, T) of inputs and targets from random places; the same for one seed.

    >>> inputs, targets = next(random_windows(torch.arange(10), context_length=4, batch_size=1))
    >>> bool((targets == inputs + 1).all())
    True
    """
    check_long_enough(tokens, context_length + 1)
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.arange(context_length + 1)
    while True:
        # Every window is equally likely: the last one starts at len - (T + 1).
        starts = torch.randint(len(tokens) - context_length, (batch_size, 1), generator=generator)
        windows = tokens[starts + offsets]  # (B, T + 1)
        yield windows[:, :-1], windows[:, 1:]


def consecutive_windows(
    tokens: Tensor, context_length: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All of `tokens` once, in order, for evaluation: every token but the first is one target.

    The last batch holds fewer windows, and a last, shorter window comes alone.

    >>> for inputs, targets in consecutive_windows(torch.arange(6), context_length=2, batch_size=2):
    ...     print(inputs.tolist(), targets.tolist())
    [[0, 1], [2, 3]] [[1, 2], [3, 4]]
    [[4]] [[5]]
    """
    check_long_enough(tokens, 2)
    inputs, targets = tokens[:-1], tokens[1:]
    n_whole = len(inputs) // context_length * context_length
    whole_inputs = inputs[:n_whole].view(-1, context_length).split(batch_size)
    whole_targets = targets[:n_whole].view(-1, context_length).split(batch_size)
    if n_whole:
        yield from zip(whole_inputs, whole_targets, strict=True)
    if n_whole < len(inputs):
        yield inputs[None, n_whole:], targets[None, n_whole:]


class CountedBatches:
    """Batches of an iterator that always starts alike, with a place in them that can be restored.

    `make()` returns the iterator. To go on after `n_taken` batches, they are drawn once more and
    thrown away: right for batches that cost little, like those of `random_windows`.

    >>> batches = CountedBatches(lambda: iter("abcd"))
    >>> next(iter(batches)), batches.state_dict()
    ('a', {'n_taken': 1})
    >>> batches.load_state_dict({"n_taken": 2})
    >>> next(iter(batches))
    'c'
    """

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self.make, self.n_taken = make, 0

    def __iter__(self) -> Iterator[Any]:
        batches = self.make()
        for _ in range(self.n_taken):
            next(batches)
        for batch in batches:
            self.n_taken += 1  # before it is handed out: then it counts as taken
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches were handed out."""
        return {"n_taken": self.n_taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        if set(state) != {"n_taken"} or type(state["n_taken"]) is not int or state["n_taken"] < 0:
            raise LessonsError(f"{state!r} is no place in these batches", where="CountedBatches")
        self.n_taken = state["n_taken"]


def check_long_enough(tokens: Tensor, needed: int) -> None:
    """Raise `LessonsError` when there are fewer than `needed` tokens."""
    if len(tokens) < needed:
        remedy = "Use a longer text or a shorter context_length."
        raise LessonsError(f"{len(tokens)} tokens, but {needed} are needed", remedy=remedy)
