"""What each head looks at. Lessons 1 and 24."""

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import attend, attention_weights
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference


def attention_patterns(model: Decoder, tokens: Tensor) -> Tensor:
    """The attention weights of every block and head: (B, T) tokens -> (n_layers, B, H, T, T).

    Row t of a (T, T) pattern says how token t divides its attention over the tokens. Tokens that
    the model can't look at raise `LessonsError`.
    """
    patterns = []

    def attend_and_keep(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        patterns.append(attention_weights(q, k, mask))
        return attend(q, k, v, mask)

    with torch.device("meta"):  # a second model without numbers of its own: it takes `model`'s
        watched = Decoder(model.config, attend_and_keep)
    watched.load_state_dict(model.state_dict(), assign=True)
    with inference(watched):
        watched(tokens)
    return torch.stack(patterns)


def induction_scores(patterns: Tensor, period: int) -> Tensor:
    """How much each head looks at what followed its token one period ago: -> (n_layers, H).

    `patterns` (n_layers, B, H, T, T) are `attention_patterns` of tokens that repeat every `period`.
    The score is the mean weight from each position t of the later copies to t - period + 1. Other
    shapes, as with a KV cache, and patterns without a second copy raise `LessonsError`.
    Source: Olsson et al. 2022, "In-context Learning and Induction Heads".
    """
    if patterns.ndim != 5 or not 1 <= period < patterns.shape[-2] == patterns.shape[-1]:
        what = f"patterns {tuple(patterns.shape)} hold no second copy of {period} tokens"
        raise LessonsError(what, where="patterns", remedy="Take those of `attention_patterns`.")
    return patterns[..., period:, :].diagonal(1, -2, -1).mean((1, -1))  # [period + i, i + 1]
