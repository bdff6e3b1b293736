"""Generation: predict a next token, append it, and ask again. Lesson 18."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Decoding, ForwardFn, last_logits
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.text_stream import TextStreamer, eos_token_ids
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.tokenizers.tokenizer import Tokenizer


def stream_batch(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    n_samples: int = 1,
    forward_fn: ForwardFn = last_logits,
) -> Iterator[tuple[int, int, Tensor]]:
    """New tokens as they are made: the number of the sequence, the token, the model's scores (V,).

    Each prompt is read once and continued `n_samples` times. Sequence number i draws from a random
    stream of its own, seeded with seed + i. One that has made a token of `stop` is done; unless the
    model is compiled, it costs nothing from then on.
    """
    for prompt in prompts:
        _check_prompt(model, prompt, max_new_tokens)
    if n_samples < 1:
        raise LessonsError(f"n_samples = {n_samples} is below 1", where="generate")
    if not prompts or max_new_tokens == 0:
        return
    sampler = sampler or Sampler()
    decoding = Decoding(model, prompts, max_new_tokens, forward_fn)
    if n_samples > 1:
        decoding.select_rows([row for row in range(len(prompts)) for _ in range(n_samples)])
    alive = list(range(len(prompts) * n_samples))  # the number of the sequence in each row
    generators = [torch.Generator().manual_seed(seed + number) for number in alive]
    for n_left in reversed(range(max_new_tokens)):
        logits, tokens = decoding.logits.float().cpu(), []
        for row, number in enumerate(alive):
            tokens.append(sampler(logits[row], generators[number], decoding.sequences[row]))
            yield number, tokens[-1], logits[row]
        kept = [row for row, token in enumerate(tokens) if token not in stop]
        if not kept:
            return
        if len(kept) < len(tokens):
            decoding.select_rows(kept)
            alive, tokens = [alive[row] for row in kept], [tokens[row] for row in kept]
        if n_left:
            decoding.append(tokens)


def stream(
    model: Decoder,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    forward_fn: ForwardFn = last_logits,
) -> Iterator[int]:
    """The new tokens that follow `prompt`, one by one, as they are made."""
    steps = stream_batch(model, [prompt], max_new_tokens, sampler, seed, stop, 1, forward_fn)
    return (token for _, token, _ in steps)


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    n_samples: int = 1,
    forward_fn: ForwardFn = last_logits,
) -> list[list[int]]:
    """For each prompt, the tokens that follow it (without the prompt), `n_samples` times.

    The lists are in the order of the prompts, the samples of one side by side. Each has
    `max_new_tokens` tokens, or fewer if it ends with a token of `stop`. All are made together, and
    each as if it were alone: list number i draws with seed + i.
    """
    made: list[list[int]] = [[] for _ in range(len(prompts) * n_samples)]
    steps = stream_batch(model, prompts, max_new_tokens, sampler, seed, stop, n_samples, forward_fn)
    with inference(model):  # once, and not for every token
        for number, token, _ in steps:
            made[number].append(token)
    return made


def complete(
    model: Decoder,
    tokenizer: Tokenizer,
    text: str,
    max_new_tokens: int = 100,
    sampler: Sampler | None = None,
    stop: Sequence[str] = (),
    seed: int = 0,
) -> str:
    """The text that `model` writes after `text`, in which special tokens are plain text.

    It ends after `max_new_tokens` tokens, before an end-of-text token of the tokenizer, or before
    one of the strings `stop`, whichever comes first.
    """
    prompt, eos = tokenizer.encode_ordinary(text), eos_token_ids(tokenizer).values()
    tokens = stream(model, prompt, max_new_tokens, sampler, seed, eos)
    return "".join(TextStreamer(tokenizer, tokens, eos, stop))


def _check_prompt(model: Decoder, prompt: Sequence[int], max_new_tokens: int) -> None:
    """Raise `LessonsError` for an empty prompt, an unknown token, or a negative length."""
    if len(prompt) == 0:
        raise LessonsError("the prompt is empty", remedy="Give at least one token to start from.")
    for position, token in enumerate(prompt):
        if not 0 <= token < model.config.vocab_size:
            what = f"token {token} is not in the vocabulary of {model.config.vocab_size}"
            raise LessonsError(what, where=f"prompt, position {position}")
    if max_new_tokens < 0:
        raise LessonsError(f"max_new_tokens = {max_new_tokens} is below 0", remedy="Use 0 or more.")
