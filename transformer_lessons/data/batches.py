"""One long row of token ids, cut into batches: T + 1 tokens, T targets. Lessons 1, 4 and 14."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.data.documents import encode_documents, separate_documents
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document, read_documents
from transformer_lessons.tokenizers.tokenizer import Tokenizer

IGNORE = -100  # a target with this value is not learned: padding, or the question of a pair


def random_windows(
    tokens: Tensor, context_length: int, batch_size: int, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (B, T) of inputs and targets from random places; the same for one seed."""
    _check_long_enough(tokens, context_length + 1)
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

    >>> [targets.tolist() for _, targets in consecutive_windows(torch.arange(6), 2, batch_size=2)]
    [[[1, 2], [3, 4]], [[5]]]
    """
    _check_long_enough(tokens, 2)
    inputs, targets = tokens[:-1], tokens[1:]
    n_whole = len(inputs) // context_length * context_length
    if n_whole:
        whole = (row[:n_whole].view(-1, context_length) for row in (inputs, targets))
        yield from zip(*(rows.split(batch_size) for rows in whole), strict=True)
    if n_whole < len(inputs):
        yield inputs[None, n_whole:], targets[None, n_whole:]


class CountedBatches:
    """The batches of `make()`, counted; to go on later, as many are drawn again and thrown away."""

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
        return {"n_taken": self.n_taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        _load_state(self, state, ["n_taken"])


def encode_and_hold_out(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    held_out: float = 0.1,
    separator: str | None = None,
) -> tuple[Tensor, Tensor]:
    """All documents as one row of ids: those to train on, and the last share `held_out` of them.

    With a `separator`, documents are split there too, and whole documents are held out.
    """
    if separator is not None:
        documents = separate_documents(documents, separator)
    rows, ends = [torch.empty(0, dtype=torch.long)], [0]
    for _, ids in encode_documents(documents, tokenizer):
        rows.append(torch.tensor(ids, dtype=torch.long))
        ends.append(ends[-1] + len(ids))
    n_train = ends[-1] - int(ends[-1] * held_out)
    if separator and len(ends) > 2:  # to the nearest end of a document, but not of the last
        n_train = min(ends[1:-1], key=lambda end: abs(end - n_train))
    tokens = torch.cat(rows)
    return tokens[:n_train], tokens[n_train:]


def batches_from_text(
    text_or_path: str | Path,
    tokenizer: Tokenizer,
    context_length: int,
    batch_size: int,
    seed: int = 0,
    held_out: float = 0.1,
    separator: str | None = None,
) -> tuple[CountedBatches, Tensor]:
    """Endless random windows for a `Trainer`, and the last share `held_out` of the tokens.

    A string is the text itself; a `Path` is a file or folder of documents, read into memory. With a
    `separator`, such as <|endoftext|>, one text is many documents: see `encode_and_hold_out`.
    """
    text = [Document(text_or_path, "the text")] if isinstance(text_or_path, str) else None
    documents = read_documents([text_or_path]) if text is None else text
    train, rest = encode_and_hold_out(documents, tokenizer, held_out, separator)
    _check_long_enough(train, context_length + 1)  # now, not at the first batch
    return CountedBatches(partial(random_windows, train, context_length, batch_size, seed)), rest


def _check_long_enough(tokens: Tensor, needed: int) -> None:
    if len(tokens) < needed:
        remedy = "Use a longer text or a shorter context_length. A file is given as a Path."
        raise LessonsError(f"{len(tokens)} tokens, but {needed} are needed", remedy=remedy)


def _check_rank(rank: int, n_ranks: int, where: str) -> None:
    if rank >= n_ranks:
        raise LessonsError(f"rank = {rank} is not from 0 to {n_ranks - 1}", where=where)


def _load_state(loader: Any, state: Any, moving: Collection[str]) -> None:
    """Set the counts named in `moving`; raise `LessonsError` if anything else differs."""
    here, where = loader.state_dict(), type(loader).__name__
    if not isinstance(state, dict) or set(state) != set(here):
        raise LessonsError(f"a state has {', '.join(here)}", where=where)
    for name, value in state.items():
        is_count = type(value) is int and 0 <= value < 2**63
        if not is_count if name in moving else value != here[name]:
            what = f"{name} = {value!r} in the state, {here[name]!r} here"
            remedy = "Resume with the same data, choices, and number of processes."
            raise LessonsError(what, where=where, remedy=remedy)
    vars(loader).update({name: state[name] for name in moving})
