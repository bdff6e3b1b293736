"""`evaluate`: how good trained models are on the same held-out text, side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.cli.documents import read_source, split_documents
from transformer_lessons.cli.models import load
from transformer_lessons.cli.options.models import Evaluate
from transformer_lessons.cli.run_folder import best_checkpoint
from transformer_lessons.data.batches import consecutive_windows
from transformer_lessons.model import Decoder
from transformer_lessons.training.evaluate import Evaluation, evaluate, token_lengths

LONGEST = 1024  # tokens at a time, for models that see more
LOGITS = 2**26  # numbers of a batch of logits: 256 MB


def run(options: Evaluate) -> int:
    """Print the table; returns the exit code."""
    console = cli.PlainConsole()
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
    model: Decoder, tokenizer: Any, documents: Sequence[str], length: int | None = None
) -> Evaluation:
    """The evaluation over all documents, one after another, with an end of text after each.

    It looks at `length` tokens at a time: those that the model was trained on, at most `LONGEST`.
    """
    end = tokenizer.special_tokens.get("<|endoftext|>")
    ends = [] if end is None else [end]
    ids = [i for text in documents for i in [*tokenizer.encode_ordinary(text), *ends]]
    length = min(length or model.config.context_length, LONGEST)
    return evaluate_ids(model, torch.tensor([*ends, *ids]), length, token_lengths(tokenizer))


def evaluate_ids(
    model: Decoder, ids: Tensor, length: int, lengths: Tensor, judge: Any = None
) -> Evaluation:
    """The evaluation on `ids`, `length` of them at a time; `lengths` has each token's bytes.

    `judge` takes the place of `evaluate`.
    """
    n_tokens = min(4096, LOGITS // model.config.vocab_size)
    batches = consecutive_windows(ids, length, max(1, n_tokens // length))
    return (judge or evaluate)(model, batches, lengths)
