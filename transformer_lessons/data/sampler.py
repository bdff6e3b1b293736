"""The order of the windows: random, repeatable, shared out among processes, and easy to resume.

Lesson 4. One endless row of windows: all of them in a random order (an epoch), then all of them in
another, and so on. Where training stands is how many windows of the row have been taken.
"""

import itertools
import warnings
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from transformer_lessons.config import Count, CountOrZero, Seed, check_fields
from transformer_lessons.data.batches import _check_rank, _load_state


def epoch_order(n_windows: int, seed: int, epoch: int) -> np.ndarray:
    """The windows 0 to n_windows - 1 in the random order of `epoch`; the same for the same seed."""
    return np.random.default_rng((seed, epoch)).permutation(n_windows)


@dataclass(eq=False)
class WindowLoader:
    """Endless batches (B, T) of inputs and targets from `windows`, for process `rank` of `n_ranks`.

    All processes together take each window once before any of them takes one twice. `n_workers`
    more processes read ahead; `n_taken` counts only what was handed out.
    """

    windows: Sized  # `TokenWindows`, or whatever has a length and takes [i]
    batch_size: Count
    seed: Seed = 0
    rank: CountOrZero = 0
    n_ranks: Count = 1
    n_workers: CountOrZero = 0
    n_taken: int = field(default=0, init=False)  # windows of the row behind us, of all processes

    def __post_init__(self) -> None:
        check_fields(self)
        _check_rank(self.rank, self.n_ranks, where="WindowLoader.rank")
        self.stride = self.batch_size * self.n_ranks  # windows that all take in one step
        self.order = lru_cache(maxsize=2)(partial(epoch_order, len(self.windows), self.seed))

    def numbers(self, n_taken: int) -> list[int]:
        """This process's windows of the step that begins after `n_taken` windows of the row."""
        start, n = n_taken + self.rank * self.batch_size, len(self.windows)
        return [int(self.order(i // n)[i % n]) for i in range(start, start + self.batch_size)]

    def __iter__(self) -> Iterator[Any]:
        steps = map(self.numbers, itertools.count(self.n_taken, self.stride))
        options: dict[str, Any] = {"batch_sampler": steps, "num_workers": self.n_workers}
        options["pin_memory"] = torch.cuda.is_available()  # from there a GPU copies fastest
        options["generator"] = torch.Generator()  # not the one that dropout draws from
        with warnings.catch_warnings():  # more workers than cores were asked for: so be it
            warnings.filterwarnings("ignore", "This DataLoader will create")
            batches = iter(DataLoader(cast(Any, self.windows), **options))
        for batch in batches:
            self.n_taken += self.stride  # before it is handed out: then it counts as taken
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"n_windows": len(self.windows), "seed": self.seed, "n_taken": self.n_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also with another batch size or number of processes."""
        _load_state(self, state, ["n_taken"])
