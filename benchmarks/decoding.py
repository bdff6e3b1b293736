"""Continuing texts: what each contestant does. Every function here returns a `Work`.

A run reads some prompts of random tokens and continues each by `n_new` tokens, always the most
likely one. The description holds the tokens made, and scores of the first and of the last of them.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import huggingface_model, litgpt_model, our_model
from benchmarks.training_model import Shape, shape_of, starting_weights
from benchmarks.worker import Work

TOLERANCE = 1e-4  # how far scores of the same work are apart, in float32
N_SCORES = 16  # of each text, at each of the two places

Made = tuple[list[list[int]], list[float]]


def decoding_shape(size: str, context_length: int) -> Shape:
    """A Llama of this size, which can look at `context_length` tokens."""
    return replace(shape_of(size, "llama"), context_length=context_length)


def decoding_weights(shape: Shape) -> dict[str, Tensor]:
    """Starting weights, those of the blocks enlarged to a deviation of 1 / sqrt(d_model).

    With smaller ones attention is nearly even, and a wrong cache could pass for a right one.
    """
    weights, scale = starting_weights(shape), 50 / math.sqrt(shape.d_model)
    return {name: scale * w if "block" in name and w.ndim > 1 else w for name, w in weights.items()}


def prompts_of(shape: Shape, n_texts: int, n_prompt: int) -> Tensor:
    """Random tokens (B, T), always the same."""
    random = torch.Generator().manual_seed(2)
    return torch.randint(shape.vocab_size, (n_texts, n_prompt), generator=random)


def same_texts(expected: Made, found: Made) -> bool:
    """Whether the tokens are equal, and the scores but for `TOLERANCE`.

    >>> made = ([[7, 8]], [0.5, 0.25])
    >>> same_texts(made, ([[7, 8]], [0.5, 0.25001])), same_texts(made, ([[7, 9]], [0.5, 0.25]))
    (True, False)
    """
    pairs = zip(expected[1], found[1], strict=True)
    return expected[0] == found[0] and all(abs(a - b) <= TOLERANCE for a, b in pairs)


def some_scores(first: Tensor, last: Tensor) -> list[float]:
    """Of the scores (B, V) of the first and the last token made, those of the first few tokens."""
    return torch.stack([first, last])[..., :N_SCORES].flatten().tolist()


def continuation(make: Callable[[], Sequence[Sequence[int]]], scores: Callable[[], Any]) -> Work:
    """`make()` is timed; `scores()` is called once, before, which also warms everything up."""
    figures = scores()
    return Work(make, lambda made: ([list(map(int, text)) for text in made], figures))


def without_cache(model: Any, prompts: Tensor, n_new: int) -> Iterator[Tensor]:
    """The next token (B, 1) of each text, `n_new` times, the whole text read for each.

    Even so the head looks at the last token only, as `generate` has it do.
    """
    from transformer_lessons.generation.decoding import last_logits
    from transformer_lessons.model.inference import inference

    texts = prompts
    for _ in range(n_new):
        with inference(model):
            tokens = last_logits(model, texts).argmax(dim=-1, keepdim=True)
            texts = torch.cat([texts, tokens], dim=1)
        yield tokens


def our_forward(compiled: bool) -> Any:
    """The forward function that `generate` takes, compiled as lesson 18 does it."""
    from transformer_lessons.generation.decoding import compiled_forward, last_logits

    return compiled_forward() if compiled else last_logits


def our_decoder(shape: Shape, attention: str = "attend") -> Any:
    """The book's model, with linear layers for few rows, as the command `generate` has them."""
    from transformer_lessons.model.linear import SmallBatchLinear, replace_linear

    model = our_model(shape, decoding_weights(shape), attention)
    replace_linear(model, SmallBatchLinear)
    return model


def ours(
    size: str,
    context_length: int,
    n_texts: int,
    n_prompt: int,
    n_new: int,
    compiled: bool = False,
    cached: bool = True,
    attention: str = "attend",
) -> Work:
    """`generate` of the book, or the same without a cache."""
    from transformer_lessons.generation.generate import generate, stream_batch
    from transformer_lessons.generation.sampling import Sampler

    shape = decoding_shape(size, context_length)
    model = our_decoder(shape, attention)
    prompts = prompts_of(shape, n_texts, n_prompt)
    sequences = prompts.tolist()
    how = {"sampler": Sampler(temperature=0), "forward_fn": our_forward(compiled)}

    def make() -> list[list[int]]:
        if cached:
            return generate(model, sequences, n_new, **how)
        return torch.cat(list(without_cache(model, prompts, n_new)), dim=1).tolist()

    def scores() -> list[float]:
        logits = [logits for *_, logits in stream_batch(model, sequences, n_new, **how)]
        return some_scores(torch.stack(logits[:n_texts]), torch.stack(logits[-n_texts:]))

    return continuation(make, scores)


def ours_by_length(
    size: str, n_new: int, n_apart: int, compiled: bool = False, cached: bool = True
) -> Work:
    """One text from one token to `n_new` more. The result: the median seconds of a token.

    One figure for each `n_apart` tokens that the text has grown by.
    """
    from transformer_lessons.generation.generate import stream
    from transformer_lessons.generation.sampling import Sampler

    shape = decoding_shape(size, n_new + 1)
    model = our_decoder(shape)
    prompt = prompts_of(shape, 1, 1)
    how = {"sampler": Sampler(temperature=0), "forward_fn": our_forward(compiled)}

    def run() -> list[float]:
        if cached:
            tokens = stream(model, prompt[0].tolist(), n_new, **how)
        else:
            tokens = without_cache(model, prompt, n_new)
        times = [time.perf_counter() for _ in tokens]
        seconds = [after - before for before, after in pairwise(times)]
        return [median(seconds[i : i + n_apart]) for i in range(0, len(seconds), n_apart)]

    run()
    return Work(run, list)


def huggingface(
    size: str,
    context_length: int,
    n_texts: int,
    n_prompt: int,
    n_new: int,
    compiled: bool = False,
    cache: str = "dynamic",
) -> Work:
    """`generate` of transformers; `cache` is "dynamic", which grows, or "static"."""
    shape = decoding_shape(size, context_length)
    model = huggingface_model(shape, decoding_weights(shape)).eval()
    prompts = prompts_of(shape, n_texts, n_prompt)
    how = {"do_sample": False, "max_new_tokens": n_new, "attention_mask": torch.ones_like(prompts)}
    how["cache_implementation"] = cache
    return huggingface_continuation(model, prompts, how, some_scores, compiled)


def huggingface_continuation(
    model: Any,
    prompts: Tensor,
    how: dict[str, Any],
    some_scores: Callable[[Tensor, Tensor], list[float]],
    compiled: bool,
) -> Work:
    """`model.generate(prompts, **how)` of transformers; `compiled` wants a static cache."""
    from transformers import CompileConfig

    if compiled:
        how["compile_config"] = CompileConfig()
        how["compile_config"]._compile_all_devices = True  # else a processor doesn't compile

    def scores() -> list[float]:
        found = model.generate(prompts, **how, output_logits=True, return_dict_in_generate=True)
        return some_scores(found.logits[0], found.logits[-1])

    def make() -> list[list[int]]:
        return model.generate(prompts, **how)[:, prompts.shape[1] :].tolist()

    return continuation(make, scores)


@torch.inference_mode()
def litgpt(
    size: str, context_length: int, n_texts: int, n_prompt: int, n_new: int, compiled: bool = False
) -> Work:
    """LitGPT's `generate`: for one text with a cache cut to its length, if it isn't compiled."""
    from litgpt.generate.base import batched_generate_fn, generate_fn

    shape = decoding_shape(size, context_length)
    model = litgpt_model(shape, decoding_weights(shape)).eval()
    model.max_seq_length = n_prompt + n_new
    model.set_kv_cache(n_texts)
    prompts = prompts_of(shape, n_texts, n_prompt)
    forward = torch.compile(model, dynamic=False) if compiled else model
    ends = {"include_prompt": False, "include_eos": True}

    def make() -> list[list[int]]:
        if n_texts == 1 and not compiled:
            tokens = generate_fn(model, prompts[0], n_prompt + n_new, temperature=0.0, **ends)
            return [list(map(int, tokens))]
        how = {"sample_args": {"temperature": 0.0}, **ends}
        made = batched_generate_fn(forward, prompts, n_prompt + n_new, **how)
        return torch.tensor([list(map(int, tokens)) for tokens in made]).T.tolist()

    def scores() -> list[float]:
        whole = torch.cat([prompts, torch.tensor(make())], dim=1)
        first = forward(prompts, torch.arange(n_prompt))[:, -1]
        last = forward(whole[:, -2:-1], torch.tensor([whole.shape[1] - 2]))[:, -1]
        return some_scores(first, last)

    return continuation(make, scores)
