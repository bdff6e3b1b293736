"""`evaluate`: how good trained models are on the same held-out text, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.progress import track
from rich.table import Table

import transformer_lessons as tl
from transformer_lessons.cli import PlainConsole, choose_device
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.documents import Dropped, read_documents
from transformer_lessons.support.python_code import drop_unfinished, parse_rate

if TYPE_CHECKING:  # PyTorch is loaded where it is needed: a refused option comes at once
    from transformer_lessons.training.evaluate import Evaluation


@dataclass(frozen=True)
class Evaluate:
    """Compare trained models on one text: loss, perplexity, and bits per byte.

    Only bits per byte compares models whose tokenizers differ.
    """

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, or checkpoints of them."""
    text: Path | None = None
    """The text to judge by: .txt, or .jsonl with {"text": …} lines."""
    corpus: bool = False
    """Judge by the last tenth of Python's documentation, which `train --corpus` holds out."""
    best: bool = False
    """Take the best checkpoint of each run folder, not the latest."""
    samples: int = 0
    """Let each model write so many samples, and say which share of them is valid Python."""
    sample_tokens: int = 128
    """How long a sample is."""
    temperature: float = 0.8
    """Of the samples."""
    seed: int = 0
    """Of the samples."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""


def run(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    options = tyro.cli(Evaluate, args=arguments, prog="python -m transformer_lessons evaluate")
    if not options.checkpoints:
        raise LessonsError("give at least one run folder")
    if options.samples < 0 or options.sample_tokens < 1:
        raise LessonsError("--samples is 0 or more, and --sample-tokens at least 1")
    documents = read_texts(options)
    console = PlainConsole()
    table = Table("model", "parameters", "loss", "perplexity", "bits per byte", box=None)
    if options.samples:
        table.add_column("valid Python")
    for path in track(options.checkpoints, "evaluating", console=console, transient=True):
        table.add_row(*evaluate_checkpoint(path, documents, options))
    console.print(table)
    n_bytes = sum(len(document.encode()) for document in documents)
    console.print(f"on {n_bytes:,} bytes; loss in nats per token")
    return 0


def read_texts(options: Evaluate) -> list[str]:
    """The documents to judge by."""
    if (options.text is None) == (not options.corpus):
        raise LessonsError("give either --text FILE or --corpus")
    if options.text is not None:
        return [document.text for document in read_documents([options.text], refuse)]
    text = python_documentation().encode()
    return [text[len(text) - len(text) // 10 :].decode(errors="ignore")]


def refuse(dropped: Dropped) -> None:
    """What can't be read must not be left out of a comparison."""
    raise LessonsError(dropped.reason, where=dropped.source)


def evaluate_checkpoint(path: Path, documents: Sequence[str], options: Evaluate) -> list[str]:
    """One row of the table."""
    from transformer_lessons.cli.run_folder import best_checkpoint, check_tokenizer
    from transformer_lessons.tokenizers.tokenizer import load_tokenizer

    path = best_checkpoint(path) if options.best else path
    folder = path.parent if (path / "checkpoint.json").exists() else path  # of the run
    model = tl.load_checkpoint(path).model.to(choose_device(options.device))
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    check_tokenizer(model.config, tokenizer, str(path))
    result = evaluate_on(model, tokenizer, documents)
    row = [str(path), f"{tl.count_parameters(model):,}", f"{result.loss:.4f}"]
    row += [f"{result.perplexity:.2f}", f"{result.bits_per_byte:.4f}"]
    if options.samples:
        row.append(f"{parse_rate(write_samples(model, tokenizer, options)):.0%}")
    return row


def evaluate_on(model: "tl.Decoder", tokenizer: Any, documents: Sequence[str]) -> "Evaluation":
    """The evaluation over all documents, one after another, with an end of text after each."""
    import torch

    from transformer_lessons.data.batches import consecutive_windows
    from transformer_lessons.training.evaluate import token_lengths

    end = tokenizer.special_tokens.get("<|endoftext|>")
    ends = [] if end is None else [end]
    ids = [i for text in documents for i in [*tokenizer.encode_ordinary(text), *ends]]
    windows = consecutive_windows(torch.tensor([*ends, *ids]), model.config.context_length, 16)
    return tl.evaluate(model, windows, token_lengths(tokenizer))


def write_samples(model: "tl.Decoder", tokenizer: Any, options: Evaluate) -> list[str]:
    """What the model writes after an end of text, or a line end, without what is unfinished."""
    end = tokenizer.special_tokens.get("<|endoftext|>")
    prompt = tokenizer.encode_ordinary("\n") if end is None else [end]
    sampler, prompts = tl.Sampler(options.temperature), [prompt] * options.samples
    texts = []
    for row in tl.generate(model, prompts, options.sample_tokens, sampler, options.seed):
        text = tokenizer.decode(row[: row.index(end)] if end in row else row)
        texts.append(text if end in row else drop_unfinished(text))
    return texts
