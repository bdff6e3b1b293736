"""Generation: predict a next token, append it, and ask again."""

from collections.abc import Iterator, Sequence

import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference


def stream_with_probabilities(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Iterator[tuple[int, float]]:
    """New tokens one by one, each with the probability the model gave it (at temperature 1).

    The model looks at the last `context_length` tokens: when the text outgrows the context, the
    window slides and what left it is forgotten.
    """
    check_prompt(model, prompt, max_new_tokens)
    sampler = sampler or Sampler()
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    tokens = list(prompt)
    for _ in range(max_new_tokens):
        window = torch.tensor([tokens[-model.config.context_length :]], device=device)
        with inference(model):
            logits = model(window)[0, -1].float().cpu()  # (V,): the last position's next token
        token = sampler(logits, generator)
        tokens.append(token)
        yield token, logits.softmax(dim=-1)[token].item()


def stream(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """The new tokens that follow `prompt`, one by one, as they are made."""
    steps = stream_with_probabilities(model, prompt, max_new_tokens, sampler, seed)
    return (token for token, _ in steps)


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """For each prompt, the `max_new_tokens` tokens that follow it (without the prompt).

    Prompt number i draws from a random stream of its own, seeded with seed + i, so its
    continuation doesn't depend on its neighbours.
    """
    return [
        list(stream(model, prompt, max_new_tokens, sampler, seed + row))
        for row, prompt in enumerate(prompts)
    ]


def check_prompt(model: Decoder, prompt: Sequence[int], max_new_tokens: int) -> None:
    """Raise `LessonsError` for an empty prompt, an unknown token, or a negative length."""
    if len(prompt) == 0:
        raise LessonsError("the prompt is empty", remedy="Give at least one token to start from.")
    for place, token in enumerate(prompt):
        if not 0 <= token < model.config.vocab_size:
            what = f"token {token} is not in the vocabulary of {model.config.vocab_size}"
            raise LessonsError(what, where=f"prompt, position {place}")
    if max_new_tokens < 0:
        raise LessonsError(f"max_new_tokens = {max_new_tokens} is below 0", remedy="Use 0 or more.")
