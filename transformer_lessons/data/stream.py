"""Streaming: batches from documents that are never all on the disk, and a place to resume from.

A source is a row of documents, numbered from 0. Reading can begin at any of them. The documents of
one split, as token ids, laid end to end and cut into windows, are the batches. Where training
stands is then two numbers: the document in which the next window begins, and how many of its tokens
are behind us.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.data.shards import DocumentSource
from transformer_lessons.data.split import split_of
from transformer_lessons.data.token_files import END_OF_TEXT
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint

PLACE = ("document", "n_used")  # what moves in the state of a stream; all else must stay as it was


def cut_windows(
    documents: Iterable[tuple[int, Sequence[int]]], context_length: int, n_used: int = 0
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Windows of T + 1 ids from numbered documents, and the place where the next window begins.

    A window begins with the last id of the one before: every id but the first is a target, once.
    The first `n_used` ids of the first document are skipped. A place is the number of a document,
    and how many of its ids are behind us.

    >>> for window in cut_windows([(4, [1, 2, 3]), (7, [4, 5, 6, 7])], context_length=3):
    ...     print(window)
    ([1, 2, 3, 4], (7, 0))
    ([4, 5, 6, 7], (7, 3))
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


class TokenStream:
    """Endless batches (B, T) of inputs and targets from the documents of one split of a source.

    After the last document comes the first again. Document i belongs to process i % `n_ranks`. The
    split is that of `split_of`: it doesn't depend on the order, on the files, or on what is read.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> class Letters:
    ...     name = "letters"
    ...     def read(self, start):
    ...         return iter(["abc", "de", "fgh"][start:])
    >>> stream = TokenStream(Letters(), ByteTokenizer(), 3, batch_size=1, validation=0.0)
    >>> inputs, targets = next(iter(stream))
    >>> bytes(inputs[0].tolist()), bytes(targets[0].tolist())
    (b'abc', b'bcd')
    >>> stream.document, stream.n_used  # the next window begins in document 1 with its token 0
    (1, 0)
    """

    def __init__(
        self,
        source: DocumentSource,
        tokenizer: Tokenizer,
        context_length: int,
        batch_size: int,
        split: str = "train",
        validation: float = 0.1,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        check_stream(context_length, batch_size, split, validation, rank, n_ranks)
        self.source, self.tokenizer = source, tokenizer
        self.context_length, self.batch_size = context_length, batch_size
        self.split, self.validation, self.rank, self.n_ranks = split, validation, rank, n_ranks
        self.document = self.n_used = 0

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
                    check_place(start, n_used, number, len(ids))
                    n_ids, n_used = n_ids + len(ids), 0
                    yield number, ids
            check_place(start, n_used, -1, 0)  # unless the document to begin in has come
            check_any_read(start, n_ids, self.source.name, self.split)
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
        """Where the stream stands: with it, `load_state_dict` goes on with the very next batch."""
        fixed = {"split": self.split, "validation": self.validation}
        fixed |= {"rank": self.rank, "n_ranks": self.n_ranks, "source": self.source.name}
        fixed |= {"tokenizer": fingerprint(self.tokenizer)}
        return fixed | {"document": self.document, "n_used": self.n_used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, also with another batch size or context length.

        An iteration that has begun isn't moved; begin a new one.
        """
        check_state(state, self.state_dict())
        self.document, self.n_used = state["document"], state["n_used"]


def check_stream(
    context_length: int, batch_size: int, split: str, validation: float, rank: int, n_ranks: int
) -> None:
    """Raise `LessonsError` for the first choice that is out of its range."""
    least = {"context_length": 1, "batch_size": 1, "n_ranks": 1, "rank": 0}
    values = (context_length, batch_size, n_ranks, rank)
    for (name, low), value in zip(least.items(), values, strict=True):
        if type(value) is not int or value < low:
            what = f"{name} = {value!r} is not an integer of at least {low}"
            raise LessonsError(what, where=f"TokenStream.{name}")
    if rank >= n_ranks:
        what = f"rank = {rank} is not from 0 to {n_ranks - 1}"
        raise LessonsError(what, where="TokenStream.rank")
    if split not in ("train", "validation"):
        what = f"split = {split!r} is neither 'train' nor 'validation'"
        raise LessonsError(what, where="TokenStream.split")
    if type(validation) not in (int, float) or not 0 <= validation <= 1:
        what = f"validation = {validation!r} is not a share from 0 to 1"
        raise LessonsError(what, where="TokenStream.validation")


def check_state(state: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise `LessonsError` unless `state` is one of a stream whose state is `here`."""
    if not isinstance(state, dict) or set(state) != set(here):
        raise LessonsError(f"a state has {', '.join(here)}", where="TokenStream")
    for name in here:
        if name not in PLACE and state[name] != here[name]:
            what = f"{name} = {state[name]!r} in the state, {here[name]!r} here"
            remedy = "Resume with the same source, split, tokenizer and number of processes."
            raise LessonsError(what, where="TokenStream", remedy=remedy)
        if name in PLACE and (type(state[name]) is not int or not 0 <= state[name] < 2**63):
            raise LessonsError(f"{name} = {state[name]!r} is not a number", where="TokenStream")


def check_place(start: int, n_used: int, number: int, n_ids: int) -> None:
    """Raise `LessonsError` when a stream is to begin inside a document that isn't so long."""
    if n_used and (number != start or n_used >= n_ids):
        what = f"there is no token {n_used} in a document {start} of this split and process"
        raise LessonsError(what, where="TokenStream", remedy="Use the state of this very stream.")


def check_any_read(start: int, n_ids: int, name: str, split: str) -> None:
    """Raise `LessonsError` when a whole source was read, and had nothing in the split."""
    if start == 0 and n_ids == 0:
        what = f"there is no token in the split {split!r}"
        raise LessonsError(what, where=name, remedy="Give more documents, or another share.")
