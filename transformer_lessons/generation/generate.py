"""Generation: predict a next token, append it, and ask again."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Decoding, Step, last_logits
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference


def continue_texts(
    decoding: Decoding,
    max_new_tokens: int,
    sampler: Sampler,
    seeds: Sequence[int],
    stop: Collection[int] = (),
) -> Iterator[tuple[int, int, Tensor]]:
    """New tokens as they are made: the number of the text, the token, and its scores (V,).

    Each text draws from a random stream of its own, seeded with its seed. One that has made a token
    of `stop` is done; unless the step is compiled, it costs nothing from then on.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    alive = list(range(len(seeds)))  # the number of the text in each row
    for n_left in reversed(range(max_new_tokens)):
        logits, tokens = decoding.logits.float().cpu(), []
        for row, number in enumerate(alive):
            token = sampler(logits[row], generators[number], decoding.texts[row])
            tokens.append(token)
            yield number, token, logits[row]
        if stop and any(token in stop for token in tokens):
            kept = [row for row, token in enumerate(tokens) if token not in stop]
            if not kept:
                return
            decoding.select(kept)
            alive, tokens = [alive[row] for row in kept], [tokens[row] for row in kept]
        if n_left:
            decoding.append(tokens)


def stream_with_probabilities(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    step: Step = last_logits,
) -> Iterator[tuple[int, float]]:
    """New tokens one by one, each with the probability the model gave it (at temperature 1).

    The model looks at the last `context_length` tokens: when the text outgrows the context, the
    window slides and what left it is forgotten.
    """
    check_prompt(model, prompt, max_new_tokens)
    if max_new_tokens == 0:
        return
    decoding = Decoding(model, [prompt], max_new_tokens, step)
    steps = continue_texts(decoding, max_new_tokens, sampler or Sampler(), [seed], stop)
    for _, token, logits in steps:
        yield token, logits.softmax(dim=-1)[token].item()


def stream(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    step: Step = last_logits,
) -> Iterator[int]:
    """The new tokens that follow `prompt`, one by one, as they are made."""
    steps = stream_with_probabilities(model, prompt, max_new_tokens, sampler, seed, stop, step)
    return (token for token, _ in steps)


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    n_samples: int = 1,
    step: Step = last_logits,
) -> list[list[int]]:
    """For each prompt, the tokens that follow it (without the prompt), `n_samples` times.

    The lists are in the order of the prompts, the samples of one side by side. Each has
    `max_new_tokens` tokens, or fewer if it ends with a token of `stop`. All are made together, and
    each as if it were alone: list number i draws from a random stream seeded with seed + i.

    `step=compiled_step()` runs a compiled model. Keep the step, for it compiles when first used
    with a batch size or a length.
    """
    for prompt in prompts:
        check_prompt(model, prompt, max_new_tokens)
    if n_samples < 1:
        raise LessonsError(f"n_samples = {n_samples} is below 1", where="generate")
    n_texts = len(prompts) * n_samples
    made: list[list[int]] = [[] for _ in range(n_texts)]
    if n_texts == 0 or max_new_tokens == 0:
        return made
    decoding = Decoding(model, prompts, max_new_tokens, step)
    if n_samples > 1:  # the samples of a prompt share its reading
        decoding.select([row for row in range(len(prompts)) for _ in range(n_samples)])
    seeds = range(seed, seed + n_texts)
    with inference(model):  # once, and not for every token
        steps = continue_texts(decoding, max_new_tokens, sampler or Sampler(), seeds, stop)
        for row, token, _ in steps:
            made[row].append(token)
    return made


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
