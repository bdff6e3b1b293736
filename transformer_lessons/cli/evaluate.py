"""`evaluate`: how good trained models are on the same held-out text, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

import transformer_lessons as tl
from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.errors import LessonsError

if TYPE_CHECKING:  # PyTorch is loaded where it is needed: a refused option comes at once
    from torch import Tensor

    from transformer_lessons.training.evaluate import Evaluation

LONGEST = 1024  # tokens at a time, for models that see more
LOGITS = 2**26  # numbers of a batch of logits: 256 MB


@dataclass(frozen=True)
class Evaluate:
    """Compare trained models on one text: loss, perplexity, and bits per byte.

    Only bits per byte compares models whose tokenizers differ.
    """

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, checkpoints of them, Hugging Face folders, GGUF files, or the names
    python-small and smollm2-135m."""
    text: str | None = None
    """The text to judge by: a file or folder of documents."""
    corpus: bool = False
    """Judge by the part of Python's documentation that `train --corpus` holds out."""
    best: bool = False
    """Take the best checkpoint of each run folder, not the latest."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def run(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    options, console = cli.parse(Evaluate, arguments, "evaluate"), cli.PlainConsole()
    if not options.checkpoints:
        raise LessonsError("give at least one run folder")
    if (options.text is None) == (not options.corpus):
        raise LessonsError("give either --text FILE or --corpus")
    from transformer_lessons.cli.documents import read_source, split_documents
    from transformer_lessons.cli.models import load
    from transformer_lessons.cli.run_folder import best_checkpoint

    table = Table("model", "parameters", "loss", "perplexity", "bits per byte", box=None)
    with progress_line(console) as show:
        source = read_source(options.text, show)
        splits = split_documents(source) if options.corpus else ()
        documents = [text for split, text in splits if split == "validation"]
        documents += [document.text for document in source]
        for path in options.checkpoints:
            show(f"evaluating {path}")
            loaded = load(best_checkpoint(path) if options.best else path)
            model = loaded.model.to(cli.choose_device(options.device))
            result = evaluate_on(model, loaded.tokenizer, documents, loaded.trained_length)
            row = loaded.name, f"{loaded.n_parameters:,}", f"{result.loss:.4f}"
            table.add_row(*row, f"{result.perplexity:.2f}", f"{result.bits_per_byte:.4f}")
    console.print(table)
    n_bytes = sum(len(document.encode()) for document in documents)
    console.print(f"on {n_bytes:,} bytes; loss in nats per token")
    return 0


def evaluate_on(
    model: "tl.Decoder", tokenizer: Any, documents: Sequence[str], length: int | None = None
) -> "Evaluation":
    """The evaluation over all documents, one after another, with an end of text after each.

    It looks at `length` tokens at a time: those that the model was trained on, at most `LONGEST`.
    """
    import torch

    from transformer_lessons.training.evaluate import token_lengths

    end = tokenizer.special_tokens.get("<|endoftext|>")
    ends = [] if end is None else [end]
    ids = [i for text in documents for i in [*tokenizer.encode_ordinary(text), *ends]]
    length = min(length or model.config.context_length, LONGEST)
    return evaluate_ids(model, torch.tensor([*ends, *ids]), length, token_lengths(tokenizer))


def evaluate_ids(
    model: "tl.Decoder", ids: "Tensor", length: int, lengths: "Tensor", judge: Any = None
) -> "Evaluation":
    """The evaluation on `ids`, `length` of them at a time; `lengths` has each token's bytes.

    `judge` takes the place of `tl.evaluate`.
    """
    from transformer_lessons.data.batches import consecutive_windows

    n_tokens = min(4096, LOGITS // model.config.vocab_size)
    batches = consecutive_windows(ids, length, max(1, n_tokens // length))
    return (judge or tl.evaluate)(model, batches, lengths)
