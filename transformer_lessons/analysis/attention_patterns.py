"""What each head looks at."""

import torch
from torch import Tensor

from transformer_lessons.model.attention import attention_weights
from transformer_lessons.model.decoder import Decoder, attention_inputs, check_length
from transformer_lessons.model.inference import inference


def attention_patterns(model: Decoder, tokens: Tensor) -> Tensor:
    """The attention weights of every block and head: (B, T) tokens -> (n_layers, B, H, T, T).

    Row t of a (T, T) pattern says how token t divides its attention over the tokens. More tokens
    than the model can look at raise `LessonsError`.
    """
    check_length(model.config, tokens.shape[1])
    patterns = []
    with inference(model):
        x = model.embedding(tokens)
        mask, cos, sin = attention_inputs(model.config, tokens)
        for block in model.blocks:
            q, k, _ = block.attention.project(block.attention_norm(x), cos, sin)
            patterns.append(attention_weights(q, k, mask))
            x = block(x, mask, cos, sin)
    return torch.stack(patterns)
