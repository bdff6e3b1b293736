"""Several processes that train one model, each on its rows of every batch. Lesson 15.

`torchrun` starts the processes and numbers them: rank 0 to n_ranks - 1. What they send each other
goes through PyTorch's process group: gloo between CPUs, NCCL between GPUs.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.training.trainer import Batch

MEETING = timedelta(minutes=5)  # so long all processes may take to start
DIAGNOSIS = 10  # seconds for finding out which rank doesn't answer


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many; `store` is a small table that all can read and write."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0  # among those of this machine: the number of its GPU
    store: Any = None


def find_ranks() -> Ranks:
    """What `torchrun` says in the environment, with the store that it opened; else one process."""
    if "RANK" not in os.environ:
        return Ranks()
    try:
        store, rank, n_ranks = next(dist.rendezvous("env://", timeout=MEETING))
    except (RuntimeError, ValueError) as error:  # a port in use, or somebody who didn't come
        what, remedy = f"the processes can't meet: {error}", "Choose another --master-port."
        raise LessonsError(what.split("\n")[0], where="torchrun", remedy=remedy) from None
    store.set_timeout(timedelta(days=1))
    return Ranks(rank, n_ranks, int(os.environ.get("LOCAL_RANK", rank)), store)


@contextmanager
def joined(ranks: Ranks, seconds: float) -> Iterator[None]:
    """Inside, the processes are a group, in which nobody waits more than `seconds` for another.

    When an exchange fails, all that still run meet once more, and `LessonsError` names who is
    missing: the exchange itself only says who noticed.
    """
    if ranks.store is None:
        yield
        return
    time, (rank, n) = timedelta(seconds=seconds), (ranks.rank, ranks.n_ranks)
    dist.init_process_group(store=ranks.store, rank=rank, world_size=n, timeout=time)
    watch = dist.new_group(backend="gloo", timeout=time)
    try:
        yield
    except RuntimeError as error:
        if not re.search("gloo|NCCL|ProcessGroup", str(error)):
            raise
        what = f"{_missing(watch, rank)} (an exchange failed after at most {seconds:g} s)"
        remedy = "Look at what it said last, then go on with --resume."
        raise LessonsError(what, where=f"noticed by rank {rank}", remedy=remedy) from error
    dist.destroy_process_group()


def _missing(watch: dist.ProcessGroup, rank: int) -> str:
    """Who does not come to a barrier; rank 0 waits for each, and the others for rank 0."""
    time = timedelta(seconds=DIAGNOSIS if rank == 0 else 2 * DIAGNOSIS)
    try:
        dist.monitored_barrier(watch, time, wait_all_ranks=True)
    except RuntimeError as error:
        if found := re.search(r"Ranks? ([\d, ]+) failed to pass", str(error)):
            return f"rank {found[1].strip()} does not answer"
        return "rank 0 does not answer"
    return "an exchange failed, but all ranks answer"


@contextmanager
def one_voice(ranks: Ranks) -> Iterator[None]:
    """An error that all ranks have is told by rank 0; one that it doesn't have, by who has it."""
    try:
        yield
    except LessonsError as error:
        if ranks.store is None or ranks.rank == 0:
            if ranks.store is not None:
                ranks.store.set("error", str(error))
            raise
        try:
            ranks.store.wait(["error"], timedelta(seconds=2))
        except RuntimeError:
            what = f"rank {ranks.rank}: {error.what}"
            raise LessonsError(what, where=error.where, remedy=error.remedy) from None
        raise SystemExit(2) from None


def check_same(ranks: Ranks, values: dict[str, str]) -> None:
    """Raise `LessonsError` for the first of `values` that is not what rank 0 has."""
    for name, value in values.items() if ranks.store is not None else ():
        if ranks.rank == 0:
            ranks.store.set(f"same/{name}", value)
        elif ranks.store.get(f"same/{name}").decode() != value:
            raise LessonsError(f"{name} is not the same as on rank 0", where=f"rank {ranks.rank}")


def is_first() -> bool:
    """Whether this process speaks and writes for all: rank 0 does, and one that is alone."""
    return not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0


def gather(value: float) -> list[float]:
    """The `value` of every rank, in their order; all ranks call it together."""
    own = torch.tensor([value], dtype=torch.float64)
    values = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(values, own)
    return [number.item() for number in values]


def own_rows(inputs: Tensor, targets: Tensor, rank: int, n_ranks: int) -> Batch:
    """The rows of a batch (B, T) that rank `rank` takes; together the ranks take each row once.

    Where a batch has no row left for a rank, it computes one in which there is nothing to learn.

    >>> tokens = torch.arange(5)[:, None]
    >>> [own_rows(tokens, tokens, rank, 2)[0].flatten().tolist() for rank in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    first, end = (len(inputs) * r // n_ranks for r in (rank, rank + 1))
    if first == end:
        return inputs[:1], torch.full_like(targets[:1], IGNORE, dtype=torch.long)
    return inputs[first:end], targets[first:end]
