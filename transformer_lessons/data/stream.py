"""Streaming: batches from documents that are never all on the disk, and a place to resume from.

Lesson 4. The documents of one split, as token ids, are laid end to end and cut into windows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from transformer_lessons.config import Count, CountOrZero, Fraction, check_fields, one_of
from transformer_lessons.data.batches import _check_rank, _load_state
from transformer_lessons.data.documents import END_OF_TEXT
from transformer_lessons.data.split import split_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint

Place = tuple[int, int]  # the number of a document, and how many of its ids are behind us


@runtime_checkable
class DocumentSource(Protocol):
    """A row of documents, the same whenever it is read, like `support.shards.ShardFolder`."""

    name: str  # equal for equal rows only

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents `start`, `start` + 1, … to the last."""


def cut_windows(
    documents: Iterable[tuple[int, Sequence[int]]], context_length: int, place: Place = (0, 0)
) -> Iterator[tuple[list[int], Place]]:
    """Windows of T + 1 ids from numbered documents, each with the place where the next one begins.

    The first begins at `place`: the number of a document, and how many of its ids are behind us.

    >>> list(cut_windows([(0, [1, 2, 3]), (1, [4, 5, 6, 7])], context_length=3))
    [([1, 2, 3, 4], (1, 0)), ([4, 5, 6, 7], (1, 3))]
    """
    held, places, n_used = list[int](), list[Place](), place[1]  # ids not behind us, and where from
    for number, ids in documents:
        if n_used and (number != place[0] or n_used >= len(ids)):
            what = f"there is no token {n_used} in a document {place[0]} of this split and process"
            remedy = "Use the state of this very stream."
            raise LessonsError(what, where="TokenStream", remedy=remedy)
        held += ids[n_used:]
        places += [(number, n) for n in range(n_used, len(ids))]
        n_used = start = 0
        while len(held) - start > context_length:
            window = held[start : start + context_length + 1]
            start += context_length
            yield window, places[start]
        held, places = held[start:], places[start:]


@dataclass(eq=False)
class TokenStream:
    """Endless batches (B, T) of inputs and targets from the documents of one split of a source.

    After the last document comes the first again. Document i belongs to process i % `n_ranks`, and
    to the split that `split_of` says.
    """

    source: DocumentSource
    tokenizer: Tokenizer
    context_length: Count
    batch_size: Count
    split: Annotated[str, one_of("train", "validation")] = "train"
    validation: Fraction = 0.1
    rank: CountOrZero = 0
    n_ranks: Count = 1
    document: int = field(default=0, init=False)  # the one in which the next window begins
    n_used: int = field(default=0, init=False)  # so many of its tokens are behind us

    def __post_init__(self) -> None:
        check_fields(self)
        _check_rank(self.rank, self.n_ranks, where="TokenStream.rank")

    def documents(self) -> Iterator[tuple[int, list[int]]]:
        """This process's documents as ids, with their numbers, from `document` on, without end."""
        end = self.tokenizer.special_tokens.get(END_OF_TEXT)
        for start in chain([self.document], repeat(0)):
            n_ids = 0
            for number, text in enumerate(self.source.read(start), start):
                is_ours = number % self.n_ranks == self.rank
                if is_ours and split_of(text, self.validation, test=0.0) == self.split:
                    ids = self.tokenizer.encode_ordinary(text) + ([] if end is None else [end])
                    n_ids += len(ids)
                    yield number, ids
            if start == n_ids == 0:
                what, remedy = f"no token in the split {self.split!r}", "Give more documents."
                raise LessonsError(what, where=self.source.name, remedy=remedy)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        windows = cut_windows(self.documents(), self.context_length, (self.document, self.n_used))
        while some := list(islice(windows, self.batch_size)):
            ids = torch.tensor([window for window, _ in some])
            # Before the batch is handed out, because then it counts as taken.
            self.document, self.n_used = some[-1][1]
            yield ids[:, :-1], ids[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        names = ("split", "validation", "rank", "n_ranks", "document", "n_used")
        state = {name: getattr(self, name) for name in names}
        return state | {"source": self.source.name, "tokenizer": fingerprint(self.tokenizer)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also with another batch size or context length."""
        _load_state(self, state, ["document", "n_used"])
