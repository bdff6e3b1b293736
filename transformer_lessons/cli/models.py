"""What `generate` and `chat` have in common: the model, how it is run, and how it chooses."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from transformer_lessons.cli import check_seed
from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Template
from transformer_lessons.generation.decoding import ForwardFn, compiled_forward, last_logits
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import SmallBatchLinear, replace_linear
from transformer_lessons.support.assets import find_cached
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.quantize import Int8Linear
from transformer_lessons.weights.shipped import SHIPPED

SMALL, SMOLLM2 = "python-small", "smollm2-135m"
LONGEST = 100_000  # tokens of a text or an answer


@dataclass(frozen=True)
class ModelOptions:
    """What commands that generate inherit."""

    checkpoint: Annotated[Path | None, tyro.conf.Positional] = None
    """A run folder or one of its checkpoints, a Hugging Face folder, or a GGUF file."""
    model: str | None = None
    """By name: python-small, which ships with the package and is the default, or smollm2-135m."""
    max_new_tokens: int = 200
    """How many tokens to write, at most; of a chat, in each answer."""
    stop: tuple[str, ...] = ()
    """Strings at which the text ends."""
    seed: int = 0
    """The same seed writes the same text. In a chat, each answer adds 1."""
    compile: bool = False
    """Compile the model: it takes a minute or two, once for each length of text, and is kept."""
    int8: bool = False
    """Round the weights to 8 bits. With --compile, one text is faster; without, it is slower."""
    preset: str | None = None
    """Named settings: greedy, sure, balanced, varied or plain. The options below change them."""
    sampler: Annotated[Sampler, tyro.conf.arg(name="")] = field(default_factory=Sampler)
    """How the next token is chosen."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be run, and what goes with it."""

    name: str
    model: Decoder
    tokenizer: Tokenizer
    template: Template | None = None  # its chat template, if it was trained to converse
    n_parameters: int = 0  # before any were rounded
    forward_fn: ForwardFn = last_logits


def parse_options(cls: type[ModelOptions], arguments: Sequence[str], sampler: Sampler) -> Any:
    """Options of the command `cls`. Where --preset is given, it takes the place of `sampler`."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset")
    preset = early.parse_known_args(arguments)[0].preset
    default = cls(sampler=sampler if preset is None else named_sampler(preset))
    prog = f"python -m transformer_lessons {cls.__name__.lower()}"
    options = tyro.cli(cls, args=arguments, default=default, prog=prog)
    if options.checkpoint is not None and options.model is not None:
        raise LessonsError("give either a checkpoint or --model")
    check_seed(options.seed)
    check_length(options.max_new_tokens)
    if "" in options.stop:
        raise LessonsError("a stop string is empty", where="--stop", remedy="Give a character.")
    return options


def check_length(max_new_tokens: int) -> None:
    """Raise `LessonsError` for a text that can't be, or would take days."""
    if not 0 <= max_new_tokens <= LONGEST:
        raise LessonsError(f"max_new_tokens = {max_new_tokens} is not from 0 to {LONGEST:,}")


def named_sampler(name: str) -> Sampler:
    """The preset called `name`; an unknown one raises `LessonsError`."""
    if name not in SAMPLERS:
        raise LessonsError(f"no preset {name!r}", remedy=f"Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def open_model(options: ModelOptions) -> LoadedModel:
    """Load what was asked for; what can't be loaded or run raises `LessonsError`."""
    name = str(options.checkpoint or options.model or SMALL)
    path = options.checkpoint or _named_model(name)
    model, tokenizer, template = _load(path)
    check_tokenizer(model.config, tokenizer, str(path))
    check_sampler(options.sampler, model)
    n_parameters = count_parameters(model)
    replace_linear(model, Int8Linear if options.int8 else SmallBatchLinear)
    forward_fn = compiled_forward() if options.compile else last_logits
    return LoadedModel(name, model, tokenizer, template, n_parameters, forward_fn)


def check_sampler(sampler: Sampler, model: Decoder) -> None:
    """Raise `LessonsError` if `sampler` can't choose among the model's tokens: it is tried."""
    sampler.probabilities(torch.zeros(model.config.vocab_size))


def _named_model(name: str) -> Path:
    """Where the model called `name` is on this machine."""
    if name == SMALL:
        return SHIPPED
    if name != SMOLLM2:
        remedy = f"Known: {SMALL}, {SMOLLM2}. A model of your own is given by its folder."
        raise LessonsError(f"no model {name!r}", where="--model", remedy=remedy)
    if (path := find_cached(name)) is None:
        remedy = f"Fetch it once: python -m transformer_lessons download {name}"
        raise LessonsError(f"{name} is not on this machine", where="--model", remedy=remedy)
    return path


def _load(path: Path) -> tuple[Decoder, Tokenizer, Template | None]:
    """A run of this package, or a published model with the chat template that comes with some."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    is_folder = any((path / name).exists() for name in weights)
    if path.suffix != ".gguf" and (not is_folder or (path / "checkpoint.json").exists()):
        return load_checkpoint(path).model, load_tokenizer(path), None
    # Here, because it takes a while and most runs don't need it.
    from transformer_lessons.weights.chat_template import load_chat_template
    from transformer_lessons.weights.pretrained import load_pretrained

    model, tokenizer = load_pretrained(path)
    if tokenizer is None:
        remedy = "Its tokenizer.json belongs beside it."
        raise LessonsError("a model without a tokenizer", where=str(path), remedy=remedy)
    template = load_chat_template(path)
    return model, tokenizer, None if template is None else template.render


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
