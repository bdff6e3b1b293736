"""Trained models of every kind, and what `generate` and `chat` have in common."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from transformer_lessons import cli
from transformer_lessons.cli.run_folder import check_tokenizer, trained_length
from transformer_lessons.cli.speculation import Speculation, check_same_tokens
from transformer_lessons.config import Allowed, Count, Seed
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Template
from transformer_lessons.generation.decoding import ForwardFn, compiled_forward, last_logits
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.generation.speculative import Draft, DraftModel, PromptLookup
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import SmallBatchLinear, replace_linear
from transformer_lessons.support.assets import find_cached
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.quantize import Int4Linear, Int8Linear
from transformer_lessons.weights.shipped import SHIPPED

SMALL, SMOLLM2 = "python-small", "smollm2-135m"
LAYERS = {None: 2 * (SmallBatchLinear,), 8: 2 * (Int8Linear,), 4: (Int4Linear, Int8Linear)}
LONGEST = 100_000  # tokens of a text or an answer
Length = Annotated[int, Allowed(f"from 0 to {LONGEST:,}", lambda v: 0 <= v <= LONGEST)]


@dataclass(frozen=True)
class First:
    """The option that gives others their defaults."""

    preset: str | None = None
    """Named settings: greedy, sure, balanced, varied or plain. The options below change them."""


@dataclass(frozen=True)
class ModelOptions(First):
    """What commands that generate inherit."""

    checkpoint: Annotated[Path | None, tyro.conf.Positional] = None
    """A run folder or one of its checkpoints, a Hugging Face folder, or a GGUF file."""
    model: str | None = None
    """By name: python-small, which ships with the package and is the default, or smollm2-135m."""
    max_new_tokens: Length = 200
    """How many tokens to write, at most; of a chat, in each answer."""
    stop: tuple[str, ...] = ()
    """Strings at which the text ends."""
    speculate: str | None = None
    """Guess tokens and check them in one pass: "lookup", or a model with the same tokenizer."""
    guesses: Count = 4
    """How many tokens to guess at a time, with --speculate."""
    seed: Seed = 0
    """The same seed writes the same text. In a chat, each answer adds 1."""
    compile: bool = False
    """Compile the model: it takes a minute or two, once for each length of text, and is kept."""
    bits: Literal[8, 4] | None = None
    """Round the weights to 8 or 4 bits. With --compile, one text is faster."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    """How the next token is chosen."""


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


def parse_options(cls: type[ModelOptions], arguments: Sequence[str], sampler: Sampler) -> Any:
    """Options of the command `cls`. Where --preset is given, it takes the place of `sampler`."""
    command = cls.__name__.lower()
    preset = cli.parse(First, arguments, command, early=True).preset
    default = cls(sampler=sampler if preset is None else named_sampler(preset))
    options = cli.parse(cls, arguments, command, default)
    if options.checkpoint is not None and options.model is not None:
        raise LessonsError("give either a checkpoint or --model")
    if "" in options.stop:
        raise LessonsError("a stop string is empty", where="--stop", remedy="Give a character.")
    return options


def named_sampler(name: str) -> Sampler:
    """The preset called `name`; an unknown one raises `LessonsError`."""
    if name not in SAMPLERS:
        raise LessonsError(f"no preset {name!r}", remedy=f"Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def open_model(options: ModelOptions) -> LoadedModel:
    """Load what was asked for, to be run; what can't be loaded or run raises `LessonsError`."""
    loaded = with_draft(load(options.checkpoint or find_model(options.model or SMALL)), options)
    check_sampler(options.sampler, loaded.model)
    of_blocks, of_head = LAYERS[options.bits]  # a head of 4 bits would cost more than it saves
    replace_linear(loaded.model.blocks, of_blocks)
    loaded.model.add_module("head", of_head(loaded.model.head))
    forward_fn = compiled_forward() if options.compile else last_logits
    return replace(loaded, name=options.model or loaded.name, forward_fn=forward_fn)


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
    draft: Draft = PromptLookup(config.vocab_size)
    if options.speculate != "lookup":
        other = load(Path(options.speculate))
        check_same_tokens(loaded.tokenizer, other.tokenizer, config.vocab_size)
        draft = DraftModel(other.model)
    return replace(loaded, speculation=Speculation(draft, options.guesses))


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


def load(given: Path) -> LoadedModel:
    """A run of this package or one of its checkpoints, a Hugging Face folder, or a GGUF file.

    `given` may also be the name of a model, where nothing here is called so.
    """
    name = str(given)
    path = find_model(name) if name in (SMALL, SMOLLM2) and not given.exists() else given
    weights = ("model.safetensors", "model.safetensors.index.json")
    is_published = any((path / file).exists() for file in weights)
    if path.suffix != ".gguf" and (not is_published or (path / "checkpoint.json").exists()):
        run, tokenizer = load_checkpoint(path), load_tokenizer(path)
        model = run.model
        about: tuple[Any, ...] = (None, trained_length(path), run.step)
    else:  # imported here, because it takes a while and most runs don't need it
        from transformer_lessons.weights.chat_template import load_chat_template
        from transformer_lessons.weights.pretrained import load_pretrained

        model, found = load_pretrained(path)
        if found is None:
            remedy = "Its tokenizer.json belongs beside it."
            raise LessonsError("a model without a tokenizer", where=name, remedy=remedy)
        tokenizer, template = found, load_chat_template(path)
        about = (None if template is None else template.render), None, None
    check_tokenizer(model.config, tokenizer, name)
    name = SMALL if path == SHIPPED else name
    return LoadedModel(name, model, tokenizer, count_parameters(model), *about)


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
