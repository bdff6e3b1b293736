"""A run of training on display, in its folder: what `train` and `finetune` have in common."""

import math
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformer_lessons import cli
from transformer_lessons.cli import run_folder
from transformer_lessons.cli.data_source import DataSource
from transformer_lessons.cli.display import TrainingDisplay, save_curve
from transformer_lessons.cli.interrupts import stop_on_signal
from transformer_lessons.model import count_parameters
from transformer_lessons.support.files import write_json
from transformer_lessons.training.distributed import gather, is_first
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.memory import keep_memory
from transformer_lessons.training.trainer import StepReport, Trainer

AGAIN = "python -m transformer_lessons"


def carry_out(
    trainer: Trainer, source: DataSource, options: Any, sample: Callable[[], str],
    console: cli.PlainConsole, n_ranks: int = 1,
) -> int:  # fmt: skip
    """Train in the run folder, from the start or from where it stopped; returns the exit code.

    `options` are a `RunFolder`, with a `source` that is written into the folder's config.json.
    """
    keep_memory()
    with run_folder.locked_folder(options.out) if is_first() else nullcontext():
        if options.resume:
            run_folder.resume_run(options.out, trainer, source.fingerprint)
        elif is_first():
            data = {"name": source.name, "fingerprint": source.fingerprint}
            about = {"model": trainer.model.config.to_dict(), "training": trainer.config.to_dict()}
            about["data"] = {"source": asdict(options.source)} | data
            run_folder.begin_run(options.out, about, source.tokenizer)
        where = trainer.device.type + (f", {n_ranks} processes" if n_ranks > 1 else "")
        numbers = f"{count_parameters(trainer.model):,} parameters on {where}"
        console.print(f"{numbers}, reading {source.name}")
        if trainer.n_steps:
            console.print(f"Going on after step {trainer.n_steps:,}")
        signals = fit(trainer, source, options.out, sample, console)
        path = run_folder.save_run(options.out, trainer)
        if n_ranks > 1 and any(gather(bool(signals))):
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
    trainer: Trainer, source: DataSource, folder: Path, sample: Callable[[], str],
    console: cli.PlainConsole,
) -> list[int]:  # fmt: skip
    """Train on display, recording every step; returns the signals that ended it early."""
    vocab_size, is_shared = trainer.model.config.vocab_size, run_folder.is_shared(trainer.model)
    levels = {f"ln {vocab_size}": math.log(vocab_size)}
    if source.unigram_loss is not None:
        levels["how often each token"] = source.unigram_loss
    before = [line["loss"] for line in run_folder.read_log(folder)] if is_first() else []
    if is_shared or not is_first():
        sample = str  # nothing: all ranks would have to write it together
    display = TrainingDisplay(console, trainer.config.steps, sample, levels, losses=before)

    def on_step(report: StepReport) -> None:
        more = dict[str, Any]()
        if (loss := report.validation) is not None:
            more = {"perplexity": math.exp(min(loss, 709)), "sample": sample()}
            more["bits_per_byte"] = loss / math.log(2) * source.tokens_per_byte
        run_folder.record_step(folder, trainer, report, more)
        if is_first():
            display(report, more)

    trainer.on_step = on_step
    try:
        with stop_on_signal(trainer) as signals, display if is_first() else nullcontext():
            trainer.fit()
    except BrokenPipeError:  # nobody reads what we print: keep what was learned, and stop
        if not is_shared:  # that would take the other processes
            run_folder.save_run(folder, trainer)
        raise
    return signals


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
        known = "… knowing only how often each token occurs"
        rows[known] = f"{source.unigram_loss:.4f} nats per token"
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
