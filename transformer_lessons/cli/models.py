"""Which model a command runs: by name, or from a file or folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Render
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.assets import find_cached
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.shipped import SHIPPED

SMALL, SMOLLM2 = "python-small", "smollm2-135m"


@dataclass(frozen=True)
class ModelOptions:
    """The model, as an argument: what commands inherit."""

    checkpoint: Annotated[Path | None, tyro.conf.Positional] = None
    """A run folder or one of its checkpoints, a Hugging Face folder, or a GGUF file."""
    model: str | None = None
    """By name: python-small, which ships with the package and is the default, or smollm2-135m."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be run, and what goes with it."""

    name: str
    model: Decoder
    tokenizer: Tokenizer
    render: Render | None = None  # its chat template, if it was trained to converse


def open_model(options: ModelOptions) -> LoadedModel:
    """Load what was asked for; what can't be loaded raises `LessonsError`."""
    if options.checkpoint is not None and options.model is not None:
        raise LessonsError("give either a checkpoint or --model")
    path = options.checkpoint or named_model(options.model or SMALL)
    name = str(options.checkpoint or options.model or SMALL)
    if is_pretrained(path):
        return open_pretrained(name, path)
    folder = path.parent if (path / "checkpoint.json").exists() else path  # of the run
    model, tokenizer = load_checkpoint(path).model, load_tokenizer(folder / "tokenizer.json")
    check_tokenizer(model.config, tokenizer, str(path))
    return LoadedModel(name, model, tokenizer)


def named_model(name: str) -> Path:
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


def is_pretrained(path: Path) -> bool:
    """Is this a GGUF file or a Hugging Face folder, and not a run of this package?"""
    weights = ("model.safetensors", "model.safetensors.index.json")
    is_folder = any((path / name).exists() for name in weights)
    return path.suffix == ".gguf" or (is_folder and not (path / "checkpoint.json").exists())


def open_pretrained(name: str, path: Path) -> LoadedModel:
    """Load a published model, and the chat template that comes with some."""
    # Here, because it takes a while and most runs don't need it.
    from transformer_lessons.weights.chat_template import load_chat_template
    from transformer_lessons.weights.pretrained import load_pretrained

    model, tokenizer = load_pretrained(path)
    if tokenizer is None:
        remedy = "Its tokenizer.json belongs beside it."
        raise LessonsError("a model without a tokenizer", where=str(path), remedy=remedy)
    check_tokenizer(model.config, tokenizer, str(path))
    template = load_chat_template(path)
    return LoadedModel(name, model, tokenizer, None if template is None else template.render)
