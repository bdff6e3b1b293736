"""Trained models of every kind, and what `generate` and `chat` have in common."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_lessons import generation, weights
from transformer_lessons.cli.options.models import SAMPLING, SMALL, SMOLLM2, ModelOptions
from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import SAMPLERS, Sampler
from transformer_lessons.generation.conversation import Template
from transformer_lessons.generation.decoding import ForwardFn, last_logits
from transformer_lessons.generation.speculative import Draft
from transformer_lessons.model import Decoder, SmallBatchLinear, count_parameters, replace_linear
from transformer_lessons.support.assets import find_cached
from transformer_lessons.tokenizers import Tokenizer, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.shipped import SHIPPED

LAYERS = {
    None: 2 * (SmallBatchLinear,),
    8: 2 * (weights.Int8Linear,),
    4: (weights.Int4Linear, weights.Int8Linear),
}


class Speculation:
    """Writes with a draft that guesses `k` tokens at a time, and counts."""

    def __init__(self, draft: Draft, k: int) -> None:
        self.draft, self.k = draft, k
        self.n_passes = self.n_tokens = self.n_guesses = 0  # since the last report

    def __call__(
        self, model: Decoder, prompt: Sequence[int], n_new: int, *choices: Any, allowed: Any = None
    ) -> Iterator[int]:
        """In place of `generation.generate.stream`: choices are sampler, seed and stop."""
        how = [self.draft], self.k, *choices, allowed
        for _, tokens, n_guesses in generation.speculate(model, [prompt], n_new, *how):
            self.n_passes += 1
            self.n_tokens += len(tokens)
            self.n_guesses += n_guesses
            yield from tokens

    def report(self) -> str:
        """What was counted since the last report, in words."""
        n_kept = self.n_tokens - self.n_passes  # each pass adds one token of the model's own
        words = f"{self.n_passes:,} passes, kept {n_kept:,} of {self.n_guesses:,} guesses"
        self.n_passes = self.n_tokens = self.n_guesses = 0
        return words


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what goes with it."""

    name: str
    model: Decoder
    tokenizer: Tokenizer
    n_parameters: int  # before any were rounded
    template: Template | None = None  # its chat template, if it was trained to converse
    trained_length: int | None = None  # of the sequences it was trained on, where that is known
    n_steps: int | None = None  # of the training, for a run of this package
    forward_fn: ForwardFn = last_logits
    speculation: Speculation | None = None
    sampler: Sampler = SAMPLERS["plain"]

    @property
    def known_tokens(self) -> Tensor:
        """Which tokens (V,) the tokenizer has: others must not be written."""
        return generation.known_tokens(self.tokenizer, self.model.config.vocab_size)

    @property
    def stream_fn(self) -> Callable[..., Iterator[int]]:
        """`generation.stream`, with this model's way to write."""
        return self.speculation or partial(generation.stream, forward_fn=self.forward_fn)


def sampler_of(options: ModelOptions, usual: Sampler) -> Sampler:
    """What chooses the next token: --preset or `usual`, changed by the options that are given."""
    given = {name: value for name in SAMPLING if (value := getattr(options, name)) is not None}
    return replace(usual if options.preset is None else named_sampler(options.preset), **given)


def named_sampler(name: str) -> Sampler:
    """The preset called `name`; an unknown one raises `LessonsError`."""
    if name not in SAMPLERS:
        raise LessonsError(f"no preset {name!r}", remedy=f"Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def open_model(options: ModelOptions, sampler: Sampler) -> LoadedModel:
    """Load what was asked for, to be run; what can't be loaded or run raises `LessonsError`."""
    loaded = with_draft(load(options.checkpoint or find_model(options.model or SMALL)), options)
    check_sampler(sampler, loaded.model)
    of_blocks, of_head = LAYERS[options.bits]  # a head of 4 bits would cost more than it saves
    replace_linear(loaded.model.blocks, of_blocks)
    loaded.model.add_module("head", of_head(loaded.model.head))
    forward_fn = generation.compiled_forward() if options.compile else last_logits
    name = options.model or loaded.name
    return replace(loaded, name=name, forward_fn=forward_fn, sampler=sampler)


def with_draft(loaded: LoadedModel, options: ModelOptions) -> LoadedModel:
    """With what --speculate asks for; a draft that doesn't suit the model raises `LessonsError`."""
    if options.speculate is None:
        return loaded
    if options.compile:
        raise LessonsError("not together with --compile", where="--speculate")
    config = loaded.model.config
    if options.guesses >= config.context_length:
        what = f"{options.guesses} guesses, but the model sees {config.context_length} tokens"
        raise LessonsError(what, where="--guesses", remedy="Use a smaller number.")
    draft: Draft = generation.PromptLookup(config.vocab_size)
    if options.speculate != "lookup":
        other = load(Path(options.speculate))
        check_same_tokens(loaded.tokenizer, other.tokenizer, config.vocab_size)
        draft = generation.DraftModel(other.model)
    return replace(loaded, speculation=Speculation(draft, options.guesses))


def check_same_tokens(tokenizer: Tokenizer, other: Tokenizer, vocab_size: int) -> None:
    """Raise `LessonsError` unless the ids of both mean the same bytes."""
    known, also = (generation.known_tokens(t, vocab_size) for t in (tokenizer, other))
    ids = known.nonzero().flatten().tolist() if known.equal(also) else [None]
    if any(i is None or tokenizer.decode_bytes([i]) != other.decode_bytes([i]) for i in ids):
        what = "the draft has another tokenizer than the model"
        raise LessonsError(what, where="--speculate", remedy="Use lookup, which suits every model.")


def check_sampler(sampler: Sampler, model: Decoder) -> None:
    """Raise `LessonsError` if `sampler` can't choose among the model's tokens: it is tried."""
    sampler.probabilities(torch.zeros(model.config.vocab_size))


def find_model(name: str) -> Path:
    """Where the model called `name` is on this machine."""
    if name not in (SMALL, SMOLLM2):
        remedy = f"Known: {SMALL}, {SMOLLM2}. A model of your own is given by its folder."
        raise LessonsError(f"no model {name!r}", where="--model", remedy=remedy)
    path = SHIPPED if name == SMALL else find_cached(name)
    if path is None:
        remedy = f"Fetch it once: python -m transformer_lessons download {name}"
        raise LessonsError(f"{name} is not on this machine", where="--model", remedy=remedy)
    return path


def path_of(given: Path) -> Path:
    """Where the model `given` is, which may be the name of one, where nothing here is called so."""
    is_name = str(given) in (SMALL, SMOLLM2) and not given.exists()
    return find_model(str(given)) if is_name else given


def load(given: Path) -> LoadedModel:
    """A run of this package or one of its checkpoints, Hugging Face's folder, GGUF, or a name."""
    name, path = str(given), path_of(given)
    published = ("model.safetensors", "model.safetensors.index.json")
    is_run = (path / "checkpoint.json").exists() or not any((path / n).exists() for n in published)
    if path.suffix != ".gguf" and is_run:
        run = load_checkpoint(path)
        model, choices = run.model, (run.training or {}).get("config")
        length = choices.get("sequence_length") if isinstance(choices, dict) else None
        known = length if type(length) is int else model.config.context_length
        about = count_parameters(model), None, known, run.step
        loaded = LoadedModel(name, model, load_tokenizer(path), *about)
    else:
        model, tokenizer = weights.load_pretrained(path)
        if tokenizer is None:
            remedy = "Its tokenizer.json belongs beside it."
            raise LessonsError("a model without a tokenizer", where=name, remedy=remedy)
        template = weights.load_chat_template(path)
        render = None if template is None else template.render
        loaded = LoadedModel(name, model, tokenizer, count_parameters(model), render)
    check_tokenizer(loaded.model.config, loaded.tokenizer, name)
    return replace(loaded, name=SMALL) if path == SHIPPED else loaded


@contextmanager
def named_compiler_errors() -> Iterator[None]:
    """Inside of this block, a model that can't be compiled raises `LessonsError`."""
    try:
        yield
    except RuntimeError as error:  # by name, for importing the class takes a while
        if "TorchDynamoException" not in [kind.__name__ for kind in type(error).__mro__]:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = f"the model can't be compiled here: {reason}"
        raise LessonsError(what, remedy="Leave --compile away.") from None
