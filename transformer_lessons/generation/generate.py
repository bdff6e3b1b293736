"""Generation: predict a next token, append it, and ask again. Lessons 17 and 18."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Decoding, ForwardFn, last_logits
from transformer_lessons.generation.sampling import Sampler, _check_ids
from transformer_lessons.generation.text_stream import TextStreamer
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.tokenizers.tokenizer import Tokenizer

# Special tokens with which models end a text, or begin the next message of a conversation.
_ENDS = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "<|im_start|>"}
_ENDS |= {"<|eot_id|>", "<|eom_id|>", "<|start_header_id|>"}


def eos_token_ids(tokenizer: Tokenizer) -> set[int]:
    """The tokens that end a text ("end of sequence").

    They are those that the model's own files name, and special tokens with a well-known name.
    """
    special_tokens = tokenizer.special_tokens.items()
    return {*tokenizer.eos_ids, *(id for name, id in special_tokens if name in _ENDS)}


def known_tokens(tokenizer: Tokenizer, vocab_size: int) -> Tensor:
    """Which of a model's ids are tokens of `tokenizer`: (V,) booleans.

    A model may have more ids than its tokenizer, because its size was rounded up, and a vocabulary
    may have gaps. No text was ever made of these ids, so the model must not choose them.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> known_tokens(ByteTokenizer(), vocab_size=258)[254:].tolist()
    [True, True, False, False]
    """
    known = torch.zeros(vocab_size, dtype=torch.bool)
    known[list(tokenizer.eos_ids)] = True
    for token in range(min(vocab_size, tokenizer.n_vocab)):
        with suppress(LessonsError):  # what a tokenizer says to an id that it lacks
            tokenizer.decode_bytes([token])
            known[token] = True
    return known


def stream_batch(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    n_samples: int = 1,
    forward_fn: ForwardFn = last_logits,
    allowed: Tensor | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """New tokens as they are made: the number of the sequence, the token, the model's scores (V,).

    Each prompt is read once and continued `n_samples` times. Sequence number i draws from a random
    stream of its own, seeded with seed + i. One that has made a token of `stop` is done; unless the
    model is compiled, it costs nothing from then on. With `allowed` (V,), booleans, tokens that are
    not allowed get the score -inf and are never drawn: see `known_tokens`.
    """
    prompts = _check_prompts(model, prompts)
    stop = _check_ids(stop, model.config.vocab_size, "stop")
    _check_count("max_new_tokens", max_new_tokens, 0)
    _check_count("n_samples", n_samples, 1)
    if not prompts or max_new_tokens == 0:
        return
    sampler = sampler or Sampler()
    decoding = Decoding(model, prompts, max_new_tokens, forward_fn)
    if n_samples > 1:
        decoding.select_rows([row for row in range(len(prompts)) for _ in range(n_samples)])
    alive = list(range(len(prompts) * n_samples))  # the number of the sequence in each row
    generators = [torch.Generator().manual_seed(seed + number) for number in alive]
    for n_left in reversed(range(max_new_tokens)):
        logits, tokens = _only(decoding.logits.float().cpu(), allowed), []
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
    allowed: Tensor | None = None,
) -> Iterator[int]:
    """The new tokens that follow `prompt`, one by one, as they are made."""
    given = [prompt], max_new_tokens, sampler, seed, stop
    steps = stream_batch(model, *given, forward_fn=forward_fn, allowed=allowed)
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
    allowed: Tensor | None = None,
) -> list[list[int]]:
    """For each prompt, the tokens that follow it (without the prompt), `n_samples` times.

    The lists are in the order of the prompts, the samples of one side by side. Each has
    `max_new_tokens` tokens, or fewer if it ends with a token of `stop`. All are made together, and
    each as if it were alone: list number i draws with seed + i. If `allowed` (V,) is given, tokens
    that are False in it are never drawn.
    """
    prompts = _check_prompts(model, prompts)
    _check_count("n_samples", n_samples, 1)
    made: list[list[int]] = [[] for _ in range(len(prompts) * n_samples)]
    given = prompts, max_new_tokens, sampler, seed, stop, n_samples, forward_fn, allowed
    steps = stream_batch(model, *given)
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

    It ends after `max_new_tokens` tokens, before a token that ends a text (`eos_token_ids`), or
    before one of the strings `stop`, whichever comes first.
    """
    prompt, eos = tokenizer.encode_ordinary(text), eos_token_ids(tokenizer)
    known = known_tokens(tokenizer, model.config.vocab_size)
    tokens = stream(model, prompt, max_new_tokens, sampler, seed, eos, allowed=known)
    return "".join(TextStreamer(tokenizer, tokens, eos, stop))


def _only(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """The scores (..., V), in which tokens that are not `allowed` (V,) have -inf."""
    if allowed is None:
        return logits
    if allowed.dtype != torch.bool or allowed.shape != logits.shape[-1:]:
        what = f"{allowed.dtype} of shape {tuple(allowed.shape)}, not {logits.shape[-1]} booleans"
        raise LessonsError(what, where="allowed")
    return logits.masked_fill(~allowed.to(logits.device), -math.inf)


def _check_prompts(model: Decoder, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts as lists; one that is empty, or isn't made of the model's ids, raises."""
    tokens = [_check_ids(prompt, model.config.vocab_size, "prompt") for prompt in prompts]
    if not all(tokens):
        raise LessonsError("the prompt is empty", remedy="Give at least one token to start from.")
    return tokens


def _check_count(name: str, value: int, least: int) -> None:
    """Raise `LessonsError` unless `value` is an integer, and not below `least`."""
    if not hasattr(value, "__index__") or value < least:
        raise LessonsError(f"{name} = {value!r} is not an integer of at least {least}", where=name)
