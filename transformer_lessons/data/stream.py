"""Streaming: batches from documents that are never all on the disk, and a place to resume from.

Lesson 4. The documents of one split, as token ids, are laid end to end and cut into windows. Where
training stands is the number of a document, and how many of its tokens are behind us.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from transformer_lessons.config import Count, CountOrZero, Fraction, check_fields, one_of
from transformer_lessons.data.batches import _check_rank, _check_state
from transformer_lessons.data.documents import END_OF_TEXT
from transformer_lessons.data.split import split_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint


@runtime_checkable
class DocumentSource(Protocol):
    """A row of documents, the same whenever it is read, like `support.shards.ShardFolder`."""

    name: str  # equal for equal rows only

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents `start`, `start` + 1, … to the last."""


def cut_windows(
    documents: Iterable[tuple[int, Sequence[int]]], context_length: int, n_used: int = 0
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Windows of T + 1 ids from numbered documents, and the place where the next window begins.

    The first `n_used` ids of the first document are skipped. A place is the number of a document,
    and how many of its ids are behind us.

    >>> list(cut_windows([(4, [1, 2, 3]), (7, [4, 5, 6, 7])], context_length=3))
    [([1, 2, 3, 4], (7, 0)), ([4, 5, 6, 7], (7, 3))]
    """
    held: list[int] = []  # ids that are not behind us
    begins: deque[tuple[int, int]] = deque()  # of the documents that they are from: number, place
    for number, ids in documents:
        begins.append((number, len(held) - n_used))
        held += ids[n_used:]
        n_used = n_done = 0
        while len(held) - n_done > context_length:
            window = held[n_done : n_done + context_length + 1]
            n_done += context_length
            while len(begins) > 1 and begins[1][1] <= n_done:
                begins.popleft()
            yield window, (begins[0][0], n_done - begins[0][1])
        held = held[n_done:]
        begins = deque((number, place - n_done) for number, place in begins)


@dataclass(eq=False)
class TokenStream:
    """Endless batches (B, T) of inputs and targets from the documents of one split of a source.

    After the last document comes the first again. Document i belongs to process i % `n_ranks`. The
    split is that of `split_of`: it doesn't depend on the order, on the files, or on what is read.
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
        end_of_text = self.tokenizer.special_tokens.get(END_OF_TEXT)
        ending = [] if end_of_text is None else [end_of_text]
        start, n_used = self.document, self.n_used
        while True:
            n_ids = 0
            for number, text in enumerate(self.source.read(start), start):
                is_ours = number % self.n_ranks == self.rank
                if is_ours and split_of(text, self.validation, test=0.0) == self.split:
                    ids = self.tokenizer.encode_ordinary(text) + ending
                    if n_used and (number != start or n_used >= len(ids)):
                        break
                    n_ids, n_used = n_ids + len(ids), 0
                    yield number, ids
            if n_used:  # the document to begin in has not come, or is not so long
                what = f"there is no token {n_used} in a document {start} of this split and process"
                remedy = "Use the state of this very stream."
                raise LessonsError(what, where="TokenStream", remedy=remedy)
            if start == n_ids == 0:
                what, remedy = f"no token in the split {self.split!r}", "Give more documents."
                raise LessonsError(what, where=self.source.name, remedy=remedy)
            start = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        windows = cut_windows(self.documents(), self.context_length, self.n_used)
        while True:
            some = list(islice(windows, self.batch_size))
            ids = torch.tensor([window for window, _ in some])
            # Before the batch is handed out, because then it counts as taken.
            self.document, self.n_used = some[-1][1]
            yield ids[:, :-1], ids[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        names = ("split", "validation", "rank", "n_ranks", "document", "n_used")
        state = {name: getattr(self, name) for name in names}
        return state | {"source": self.source.name, "tokenizer": fingerprint(self.tokenizer)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also with another batch size or context length.

        An iteration that has begun isn't moved; begin a new one.
        """
        _check_state(state, self.state_dict(), ["document", "n_used"], where="TokenStream")
        self.document, self.n_used = state["document"], state["n_used"]
