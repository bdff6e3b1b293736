"""The order of the windows: random, repeatable, shared out among processes, and easy to resume.

Lesson 4. One endless row of windows: all of them in a random order (an epoch), then all of them in
another, and so on. Where training stands is how many windows of the row have been taken.
"""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from transformer_lessons.config import Count, CountOrZero, Seed, check_fields
from transformer_lessons.data.batches import _check_rank, _check_state
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.errors import LessonsError


def epoch_order(n_windows: int, seed: int, epoch: int) -> np.ndarray:
    """The windows 0 to n_windows - 1 in the random order of `epoch`; the same for the same seed."""
    return np.random.default_rng((seed, epoch)).permutation(n_windows)


@dataclass(eq=False)
class WindowSampler:
    """Batches of window numbers for process `rank` of `n_ranks`, without end.

    All processes together take each window once before any of them takes one twice. Iterating
    looks ahead from `n_taken` and doesn't change it; `load_batches` moves it on.
    """

    n_windows: Count
    batch_size: Count
    seed: Seed = 0
    rank: CountOrZero = 0
    n_ranks: Count = 1
    n_taken: int = field(default=0, init=False)  # windows of the row behind us, of all processes

    def __post_init__(self) -> None:
        check_fields(self)
        _check_rank(self.rank, self.n_ranks, where="WindowSampler.rank")
        self.stride = self.batch_size * self.n_ranks  # windows that all take in one step
        self.order = lru_cache(maxsize=2)(partial(epoch_order, self.n_windows, self.seed))

    def batch(self, n_taken: int) -> list[int]:
        """This process's windows of the step that begins after `n_taken` windows of the row."""
        start = n_taken + self.rank * self.batch_size
        places = (divmod(place, self.n_windows) for place in range(start, start + self.batch_size))
        return [int(self.order(epoch)[index]) for epoch, index in places]

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.batch, itertools.count(self.n_taken, self.stride))

    def state_dict(self) -> dict[str, int]:
        return {"n_windows": self.n_windows, "seed": self.seed, "n_taken": self.n_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also with another batch size or number of processes."""
        _check_state(state, self.state_dict(), ["n_taken"], where="WindowSampler")
        self.n_taken = state["n_taken"]


def load_batches(
    windows: TokenWindows, sampler: WindowSampler, n_workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (B, T) of inputs and targets, read by `n_workers` processes (0: by this one).

    The sampler counts the batches that were handed out here, not those that workers have read
    ahead. With a GPU, batches lie in pinned memory, from where they are copied to it fastest.
    """
    if len(windows) != sampler.n_windows:
        what = f"the sampler is for {sampler.n_windows} windows, but there are {len(windows)}"
        raise LessonsError(what, where="WindowSampler.n_windows")
    if type(n_workers) is not int or n_workers < 0:
        raise LessonsError(f"n_workers = {n_workers!r} is not an integer of at least 0")
    with warnings.catch_warnings():  # more workers than cores were asked for: so be it
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader = DataLoader(
            windows,
            batch_sampler=sampler,
            num_workers=n_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or it would draw from the numbers that dropout uses
        )
        batches = iter(loader)
    for inputs, targets in batches:
        sampler.n_taken += sampler.stride  # before it is handed out: then it counts as taken
        yield inputs, targets
