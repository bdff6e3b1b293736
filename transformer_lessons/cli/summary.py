"""What a training run came to, and what its model writes."""

import sys
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from transformer_lessons.cli import run_folder
from transformer_lessons.cli.data_source import DataSource
from transformer_lessons.cli.display import visible
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.trainer import Trainer


def write_sample(model: Decoder, source: DataSource, known: Tensor) -> str:
    """What the model writes after the beginning of the held-out text, in `known` tokens."""
    try:
        written = list(stream(model, source.prompt, 48, Sampler(0.3), allowed=known))
    except LessonsError as error:  # training goes on as long as it can
        return f"no sample: {error.what}"
    decode = source.tokenizer.decode_bytes
    return f"{visible(decode(source.prompt))} -> {visible(decode(written))}"


def summary(
    trainer: Trainer, source: DataSource, folder: Path, result: Evaluation | None
) -> dict[str, str]:
    """What the run came to, by name."""
    log, rows = run_folder.read_log(folder), {"parameters": f"{count_parameters(trainer.model):,}"}
    last = log[-max(len(log) // 20, 1) :]
    train_loss = sum(line["loss"] for line in last) / len(last)
    rows["training loss"] = f"{train_loss:.4f} nats per token"
    if result is not None:
        rows["held-out loss"] = f"{result.loss:.4f} nats, {result.bits_per_byte:.3f} bits per byte"
        rows["held-out perplexity"] = f"{result.perplexity:.2f}"
    if source.unigram_loss is not None:
        rows["… knowing only how often each token"] = f"{source.unigram_loss:.4f} nats per token"
    if trainer.best_step:
        rows["best"] = f"{trainer.best:.4f} nats, after step {trainer.best_step:,}"
    if trainer.n_steps < trainer.config.steps:
        rows["stopped early"] = f"no new best in {trainer.bad_evals} evaluations"
    seconds, n_targets = (sum(line[name] for line in log) for name in ("seconds", "n_targets"))
    rows["time"] = f"{seconds:.1f} s, {n_targets / seconds:,.0f} tokens/s"
    if n_skipped := sum(line.get("skipped", False) for line in log):
        rows["left out"] = f"{n_skipped:,} steps, whose gradient was not finite (fp16)"
    with suppress(ImportError):  # Windows doesn't have it
        from resource import RUSAGE_SELF, getrusage

        peak = getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        rows["memory"] = f"{peak / 1e6:,.0f} MB at its peak"
    return rows
