"""What each head looks at."""

import torch
from torch import Tensor

from transformer_lessons.model.attention import attention_weights, repeat_heads
from transformer_lessons.model.decoder import Decoder, attention_inputs, check_tokens
from transformer_lessons.model.inference import inference


def attention_patterns(model: Decoder, tokens: Tensor) -> Tensor:
    """The attention weights of every block and head: (B, T) tokens -> (n_layers, B, H, T, T).

    Row t of a (T, T) pattern says how token t divides its attention over the tokens. Tokens that
    the model can't look at raise `LessonsError`.
    """
    check_tokens(model.config, tokens)
    n_times = model.config.n_heads // model.config.kv_heads
    patterns = []
    with inference(model):
        positions, mask, rope = attention_inputs(model.config, tokens)
        x = model.embed(tokens, positions)
        for block in model.blocks:
            before = block.attention_norm(x) if block.pre_norm else x
            q, k, _ = block.attention.project(before, rope)
            patterns.append(attention_weights(q, repeat_heads(k, n_times), mask))
            x = block(x, mask, rope)
    return torch.stack(patterns)
