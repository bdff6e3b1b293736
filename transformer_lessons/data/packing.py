"""Packing: documents of all lengths, one after another, cut into windows of one length. Lesson 4.

Attention may look across the documents of a window (Brown et al. 2020, appendix B), or a mask and
positions keep each of them alone (Grattafiori et al. 2024, section 3.2).
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.token_files import TokenFile
from transformer_lessons.errors import LessonsError


def count_windows(n_tokens: int, context_length: int) -> int:
    """How many windows make every token but the first a target: ceil((n_tokens - 1) / T)."""
    return -(-(n_tokens - 1) // context_length)


def take_window(ids: np.ndarray, index: int, context_length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (T,) of window `index`: targets are the tokens after the inputs.

    Windows follow one another. The last one is moved back, so that it is whole; what it has in
    common with the one before is not a target again.

    >>> take_window(np.arange(6), 1, context_length=3)
    (tensor([2, 3, 4]), tensor([-100,    4,    5]))
    """
    start = min(index * context_length, len(ids) - 1 - context_length)
    window = torch.from_numpy(ids[start : start + context_length + 1].astype(np.int64))
    inputs, targets = window[:-1], window[1:].clone()
    targets[: index * context_length - start] = IGNORE
    return inputs, targets


def number_documents(inputs: Tensor, end_of_text: int) -> Tensor:
    """Which document of its window each token (..., T) is in; an end belongs to what it ends.

    >>> number_documents(torch.tensor([5, 9, 7, 8, 9, 6]), end_of_text=9)
    tensor([0, 0, 1, 1, 1, 2])
    """
    is_end = (inputs == end_of_text).long()
    return is_end.cumsum(-1) - is_end


def document_positions(documents: Tensor) -> Tensor:
    """Positions (..., T) that start from 0 in each document of `number_documents`.

    >>> document_positions(torch.tensor([0, 0, 1, 1, 1, 2]))
    tensor([0, 1, 0, 1, 2, 0])
    """
    places = torch.arange(documents.shape[-1], device=documents.device).expand_as(documents)
    is_first = documents.diff(dim=-1, prepend=documents[..., :1] - 1) != 0
    return places - (places * is_first).cummax(-1).values


def document_mask(documents: Tensor) -> Tensor:
    """Who may look at whom: (..., T, T), True for tokens of the same document, up to oneself."""
    return (documents[..., :, None] == documents[..., None, :]).tril()


def hide_boundaries(inputs: Tensor, targets: Tensor, end_of_text: int) -> Tensor:
    """`targets`, ignoring those after an end: nothing there says how the next document begins."""
    return targets.masked_fill(inputs == end_of_text, IGNORE)


class TokenWindows(Dataset):
    """The windows of a token file: `windows[i]` is inputs and targets, (T,) each.

    With `alone`, documents are to be told apart: the first token of one is no target. The mask and
    the positions that go with it follow from the inputs, and so are computed where the model is:

        documents = number_documents(inputs, end_of_text)  # a batch: (B, T)
        positions, mask = document_positions(documents), document_mask(documents)
        model(inputs, positions=positions, mask=mask[:, None])
    """

    def __init__(self, tokens: TokenFile, context_length: int, alone: bool = False) -> None:
        self.tokens, self.context_length, self.alone = tokens, context_length, alone
        if alone and tokens.facts.end_of_text is None:
            what, remedy = (
                "nothing shows where documents end",
                "Use a tokenizer with <|endoftext|>.",
            )
            raise LessonsError(what, where=str(tokens.path), remedy=remedy)
        if not 1 <= context_length < len(tokens.ids):
            what = f"{len(tokens.ids)} tokens, but windows of {context_length} need one more"
            raise LessonsError(what, where=str(tokens.path), remedy="Use a longer text.")

    def __len__(self) -> int:
        return count_windows(len(self.tokens.ids), self.context_length)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)  # this is how Python's `for` finds the end
        inputs, targets = take_window(self.tokens.ids, index, self.context_length)
        if self.alone and self.tokens.facts.end_of_text is not None:
            targets = hide_boundaries(inputs, targets, self.tokens.facts.end_of_text)
        return inputs, targets
