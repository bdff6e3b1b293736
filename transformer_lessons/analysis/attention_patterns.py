"""What each head looks at. Lessons 1 and 24."""

import torch
from torch import Tensor

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
