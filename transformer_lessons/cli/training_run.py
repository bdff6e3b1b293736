"""A run of training on display, in its folder: what `train` and `finetune` have in common."""

import math
import shlex
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from transformer_lessons import cli
from transformer_lessons.cli import run_folder
from transformer_lessons.cli.data_source import DataSource
from transformer_lessons.cli.display import TrainingDisplay, save_curve
from transformer_lessons.cli.interrupts import stop_on_signal
from transformer_lessons.cli.summary import summary
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.support.files import write_json
from transformer_lessons.training.distributed import gather, is_first
from transformer_lessons.training.evaluate import token_lengths
from transformer_lessons.training.memory import keep_memory
from transformer_lessons.training.trainer import StepReport, Trainer

AGAIN = "python -m transformer_lessons"


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept, and whether it goes on."""

    out: Path = Path("runs/latest")
    """The run folder; it must not hold a checkpoint yet, but for --resume."""
    resume: bool = False
    """Go on with the run in --out, with all its choices, as if it had never stopped."""


def carry_out(
    trainer: Trainer,
    source: DataSource,
    options: RunFolder,
    data: dict[str, Any],
    sample: Callable[[], str],
    console: cli.PlainConsole,
) -> int:
    """Train in the run folder, from the start or from where it stopped; returns the exit code.

    `data` is what the folder's config.json says of the data, besides its name and fingerprint.
    """
    keep_memory()
    model, together = trainer.model, dist.is_available() and dist.is_initialized()
    with run_folder.locked_folder(options.out) if is_first() else nullcontext():
        if options.resume:
            run_folder.resume_run(options.out, trainer, source.fingerprint)
        elif is_first():
            data = data | {"name": source.name, "fingerprint": source.fingerprint}
            about = {"model": model.config.to_dict(), "training": trainer.config.to_dict()}
            run_folder.begin_run(options.out, about | {"data": data}, source.tokenizer)
        where = trainer.device.type + (f", {dist.get_world_size()} processes" if together else "")
        console.print(f"{count_parameters(model):,} parameters on {where}, reading {source.name}")
        if trainer.n_steps:
            console.print(f"Going on after step {trainer.n_steps:,}")
        signals = fit(trainer, source, options.out, sample, console)
        path = run_folder.save_run(options.out, trainer)
        if together and any(gather(bool(signals))):
            signals = signals or [signal.SIGTERM]  # another rank was told to stop
        result = trainer.evaluate() if trainer.evaluate and not signals else None
        if is_first():
            save_curve(options.out / "loss.svg", run_folder.read_log(options.out))
    if signals:
        command, folder = type(options).__name__.lower(), shlex.quote(str(options.out))
        console.print(f"Stopped after {trainer.n_steps} steps. Saved: {path}", soft_wrap=True)
        console.print(f"Go on: {AGAIN} {command} --resume --out {folder}", soft_wrap=True)
        return 128 + signals[0]
    if is_first():
        rows = summary(trainer, source, options.out, result) | {"it writes": sample()}
        write_json(options.out / "summary.json", rows, indent=2)
        console.print_rows("after training", rows)
        console.print(f"Saved: {path}, and the curve of the loss: loss.svg", soft_wrap=True)
    return 0


def fit(
    trainer: Trainer,
    source: DataSource,
    folder: Path,
    sample: Callable[[], str],
    console: cli.PlainConsole,
) -> list[int]:
    """Train on display, recording every step; returns the signals that ended it early."""
    vocab_size, is_sharded = trainer.model.config.vocab_size, getattr(trainer, "is_sharded", False)
    levels = {f"ln {vocab_size}": math.log(vocab_size)}
    if source.unigram_loss is not None:
        levels["how often each token"] = source.unigram_loss
    before = [line["loss"] for line in run_folder.read_log(folder)] if is_first() else []
    if is_sharded or not is_first():
        sample = str  # nothing: all ranks would have to write it together
    display = TrainingDisplay(console, trainer.config.steps, sample, levels, losses=before)

    def on_step(report: StepReport) -> None:
        more = dict[str, Any]()
        if (loss := report.validation) is not None:
            more = {"perplexity": math.exp(min(loss, 709)), "sample": sample()}
            more["bits_per_byte"] = loss / math.log(2) * tokens_per_byte
        run_folder.record_step(folder, trainer, report, more)
        if is_first():
            display(report, more)

    trainer.on_step, tokens_per_byte = on_step, 0.0
    if source.held_out is not None:
        targets = source.held_out[1:]
        tokens_per_byte = len(targets) / int(token_lengths(source.tokenizer)[targets].sum())
    try:
        with stop_on_signal(trainer) as signals, display if is_first() else nullcontext():
            trainer.fit()
    except BrokenPipeError:  # nobody reads what we print: keep what was learned, and stop
        if not is_sharded:  # that would take the other processes
            run_folder.save_run(folder, trainer)
        raise
    return signals
