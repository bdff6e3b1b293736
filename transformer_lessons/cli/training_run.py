"""What `train` does when its options are known: data, model, run folder, display, summary."""

import math
import shlex

import torch
from rich.console import Console
from rich.table import Table

from transformer_lessons.cli import PlainConsole, choose_device
from transformer_lessons.cli.data_source import DataSource, open_source
from transformer_lessons.cli.display import TrainingDisplay, visible
from transformer_lessons.cli.interrupts import stop_on_signal
from transformer_lessons.cli.run_folder import (
    begin_run,
    locked_folder,
    read_log,
    record_step,
    resume_run,
    save_run,
)
from transformer_lessons.cli.train import Train
from transformer_lessons.data.batches import consecutive_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import known_tokens, stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.checkpoint import checkpoints
from transformer_lessons.training.evaluate import Evaluation, evaluate, token_lengths
from transformer_lessons.training.trainer import StepReport, Trainer


def train(options: Train) -> int:
    """Train and save; returns the exit code, 130 after Ctrl-C, 143 when told to end.

    Only PyTorch's generator is seeded: initial parameters and dropout draw from it. The order of
    the data has generators of its own, with the same seed; Python's and NumPy's are not used.
    """
    source = open_source(options.data, options.model, options.training, options.workers)
    device = choose_device(options.device)
    if options.resume and not checkpoints(options.out):
        what = "there is no checkpoint to go on from"
        raise LessonsError(what, where=str(options.out), remedy="Leave --resume out.")
    torch.manual_seed(options.training.seed)
    console, model = PlainConsole(), Decoder(options.model).to(device)
    trainer = make_trainer(model, options, source)
    with locked_folder(options.out):
        if options.resume:
            resume_run(options.out, trainer, source.fingerprint)
        else:
            about = {"model": options.model.to_dict(), "training": options.training.to_dict()}
            about["data"] = {"source": options.data.to_dict(), "name": source.name}
            about["data"]["fingerprint"] = source.fingerprint
            begin_run(options.out, about, source.tokenizer)
        n_parameters = count_parameters(model)
        console.print(f"{n_parameters:,} parameters on {device.type}, reading {source.name}")
        if trainer.n_steps:
            console.print(f"Going on after step {trainer.n_steps:,}")
        signals = fit(trainer, source, options, console)
        path = save_run(options.out, trainer)
    where = shlex.quote(str(options.out))
    if signals:
        console.print(f"Stopped after {trainer.n_steps} steps. Saved: {path}", soft_wrap=True)
        command = f"python -m transformer_lessons train --resume --out {where}"
        console.print(f"Go on: {command}", soft_wrap=True)
        return 128 + signals[0]
    console.print(summary(trainer, source, options))
    console.print(f"Saved: {path}", soft_wrap=True)
    prompt = shlex.quote(visible(source.tokenizer.decode_bytes(source.prompt)))
    command = f"python -m transformer_lessons generate {where} --prompt {prompt}"
    console.print(f"Let it write: {command}", soft_wrap=True)
    return 0


def make_trainer(model: Decoder, options: Train, source: DataSource) -> Trainer:
    """The trainer, which is evaluated on all of the held-out text if there is one."""
    held_out = source.held_out
    if held_out is None:
        if options.training.eval_every:
            raise LessonsError("eval_every needs held-out text", where="--training.eval-every")
        return Trainer(model, options.training, source.batches, data_state=source.state)
    lengths = token_lengths(source.tokenizer)

    def evaluate_held_out() -> Evaluation:
        windows = consecutive_windows(held_out, model.config.context_length, 32)
        return evaluate(model, windows, lengths)

    given = model, options.training, source.batches
    return Trainer(*given, evaluate=evaluate_held_out, data_state=source.state)


def fit(trainer: Trainer, source: DataSource, options: Train, console: Console) -> list[int]:
    """Train on display, recording every step; returns the signals that ended it early."""
    vocab_size = options.model.vocab_size
    levels = {f"ln {vocab_size}": math.log(vocab_size)}
    if source.unigram_loss is not None:
        levels[f"how often each {unit(source)}"] = source.unigram_loss

    known = known_tokens(source.tokenizer, vocab_size)

    def sample() -> str:
        written = stream(trainer.model, source.prompt, 48, Sampler(0.3), allowed=known)
        decode = source.tokenizer.decode_bytes
        try:
            texts = [visible(decode(ids)) for ids in (source.prompt, list(written))]
        except LessonsError as error:  # training goes on as long as it can
            return f"no sample: {error.what}"
        return " -> ".join(texts)

    before = [line["loss"] for line in read_log(options.out)]
    display = TrainingDisplay(console, options.training.steps, sample, levels, losses=before)

    def on_step(report: StepReport) -> None:
        record_step(options.out, trainer, report)
        display(report)

    trainer.on_step = on_step
    try:
        with stop_on_signal(trainer) as signals, display:
            trainer.fit()
    except BrokenPipeError:  # nobody reads what we print: keep what was learned, and stop
        save_run(options.out, trainer)
        raise
    return signals


def summary(trainer: Trainer, source: DataSource, options: Train) -> Table:
    """What the run came to, as a table."""
    table, log = Table("after training", "", box=None), read_log(options.out)
    last = log[-max(len(log) // 20, 1) :]
    train_loss = sum(line["loss"] for line in last) / len(last)
    table.add_row("training loss", f"{train_loss:.4f} nats per {unit(source)}")
    if trainer.evaluate is not None:
        result = trainer.evaluate()
        bits = f"{result.bits_per_byte:.3f} bits per byte"
        table.add_row("held-out loss", f"{result.loss:.4f} nats, {bits}")
        if source.unigram_loss is not None:
            words = f"… knowing only how often each {unit(source)}"
            table.add_row(words, f"{source.unigram_loss:.4f} nats per {unit(source)}")
        table.add_row("held-out perplexity", f"{result.perplexity:.2f}")
    if trainer.best_step:
        table.add_row("best", f"{trainer.best:.4f} nats, after step {trainer.best_step:,}")
    if trainer.n_steps < trainer.config.steps:
        table.add_row("stopped early", f"no new best in {trainer.bad_evals} evaluations")
    seconds, n_targets = (sum(line[name] for line in log) for name in ("seconds", "n_targets"))
    table.add_row("time", f"{seconds:.1f} s, {n_targets / seconds:,.0f} tokens/s")
    return table


def unit(source: DataSource) -> str:
    """What a token is, in words."""
    return "byte" if source.tokenizer.n_vocab == 256 else "token"
