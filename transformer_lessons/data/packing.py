"""Packing: documents of all lengths, one after another, cut into windows of one length. Lesson 4.

Attention may look across the documents of a window (Brown et al. 2020, appendix B), or a mask and
positions keep each of them alone (Grattafiori et al. 2024, section 3.2).
"""

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.data.token_files import TokenFile
from transformer_lessons.errors import LessonsError


class TokenWindows:
    """The windows of a token file: inputs and targets, (T,) each. A shorter rest is left out."""

    def __init__(self, tokens: TokenFile, context_length: int) -> None:
        self.tokens, self.context_length = tokens, context_length
        if not 1 <= context_length < len(tokens.ids):
            what = f"{len(tokens.ids)} tokens, but windows of {context_length} need one more"
            raise LessonsError(what, where=str(tokens.path), remedy="Use a longer text.")

    def __len__(self) -> int:
        return (len(self.tokens.ids) - 1) // self.context_length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)  # this is how Python's `for` finds the end
        start = index * self.context_length
        ids = self.tokens.ids[start : start + self.context_length + 1]
        window = torch.from_numpy(ids.astype(np.int64))
        return window[:-1], window[1:]


def document_mask(inputs: Tensor, end_of_text: int) -> Tensor:
    """Who may look at whom: (..., T, T), True for tokens of the same document, up to oneself.

    An end belongs to the document that it ends. So `mask.sum(-1) - 1` are positions (..., T) that
    start from 0 in each document: how many tokens of it came before.

    >>> (document_mask(torch.tensor([5, 9, 7, 8, 9, 6]), end_of_text=9).sum(-1) - 1).tolist()
    [0, 1, 0, 1, 2, 0]
    """
    is_end = (inputs == end_of_text).long()
    numbers = is_end.cumsum(-1) - is_end  # of the document that each token is in
    return (numbers[..., :, None] == numbers[..., None, :]).tril()
