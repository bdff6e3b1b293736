"""SmolLM2-135M continues a text: what each contestant does. Every function here returns a `Work`.

All read the same GGUF file. The description of a run holds the tokens made, and scores of the first
and of the last of them.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks.decoding import continuation, huggingface_continuation, our_forward
from benchmarks.worker import Work

NAME = "smollm2-135m"
PROMPT = "The capital of France is Paris. The capital of Italy is Rome. The capital of"  # 17 tokens
N_NEW = 64


def some_scores(first: Tensor, last: Tensor) -> list[float]:
    """Of the scores (..., V) of the first and the last token made, those of 16 tokens far apart."""
    return torch.stack([first, last])[..., ::3072].flatten().tolist()


def ours(
    dtype: str = "float32", int8: bool = False, compiled: bool = False, n_new: int = N_NEW
) -> Work:
    """`generate` of the book, greedy; its linear layers as the command `generate` has them."""
    from transformer_lessons.generation.generate import generate, stream_batch
    from transformer_lessons.generation.sampling import Sampler
    from transformer_lessons.model.linear import SmallBatchLinear, replace_linear
    from transformer_lessons.support.assets import fetch
    from transformer_lessons.weights.pretrained import load_pretrained
    from transformer_lessons.weights.quantize import Int8Linear

    model, tokenizer = load_pretrained(fetch(NAME), getattr(torch, dtype))
    replace_linear(model, Int8Linear if int8 else SmallBatchLinear)
    prompt, how = tokenizer.encode(PROMPT), {"forward_fn": our_forward(compiled)}
    how["sampler"] = Sampler(temperature=0)

    def scores() -> list[float]:
        logits = [logits for *_, logits in stream_batch(model, [prompt], n_new, **how)]
        return some_scores(logits[0], logits[-1])

    return continuation(lambda: generate(model, [prompt], n_new, **how), scores)


def huggingface(dtype: str = "float32", compiled: bool = False, n_new: int = N_NEW) -> Work:
    """`generate` of transformers, with a cache that grows, or compiled, with a static one."""
    from transformer_lessons.support.assets import fetch
    from transformer_lessons.support.gguf_file import read_gguf
    from transformer_lessons.weights.pretrained import gguf_tokenizer

    tokenizer = gguf_tokenizer(read_gguf(fetch(NAME)))
    prompt = torch.tensor([tokenizer.encode(PROMPT)])
    model = their_model(dtype)
    model.generation_config.eos_token_id = None  # nobody stops early
    how = {"do_sample": False, "max_new_tokens": n_new}
    how |= {"attention_mask": torch.ones_like(prompt), "pad_token_id": 2}
    how |= {"cache_implementation": "static"} if compiled else {}
    return huggingface_continuation(model, prompt, how, some_scores, compiled)


def their_model(dtype: str) -> Any:
    """The file as transformers reads it: all of it turned into floats."""
    from transformers import AutoModelForCausalLM

    from transformer_lessons.support.assets import fetch

    path = fetch(NAME)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=getattr(torch, dtype)
    ).eval()


def reading(n_parameters: int = 134_515_008, n_times: int = N_NEW) -> Work:
    """Read as many float32 numbers as the model has, once for each token, and sum them up."""
    weights = torch.ones(n_parameters)
    return Work(lambda: [weights.sum() for _ in range(n_times)], lambda sums: None)


def load_ours() -> Work:
    """From the file to a model and its tokenizer."""
    from transformer_lessons.model.accounting import count_parameters
    from transformer_lessons.support.assets import fetch
    from transformer_lessons.weights.pretrained import load_pretrained

    path = fetch(NAME)
    return Work(lambda: load_pretrained(path), lambda loaded: count_parameters(loaded[0]))


def load_huggingface() -> Work:
    """The same without a tokenizer, by transformers."""
    return Work(lambda: their_model("float32"), lambda model: model.num_parameters())
