"""`train`: a model, some text, and a run folder with everything that happened."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from transformer_lessons.cli import PlainConsole, choose_device
from transformer_lessons.cli.data_source import DataOptions, DataSource, open_source
from transformer_lessons.cli.display import TrainingDisplay, visible
from transformer_lessons.cli.interrupts import stop_on_signal
from transformer_lessons.cli.run_folder import (
    begin_run,
    locked_folder,
    record_step,
    resume_run,
    save_run,
)
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import consecutive_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.support.files import read_json
from transformer_lessons.training.checkpoint import checkpoints
from transformer_lessons.training.config import TrainConfig, train_preset
from transformer_lessons.training.evaluate import Evaluation, evaluate, token_lengths
from transformer_lessons.training.trainer import StepReport, Trainer


@dataclass(frozen=True)
class Train:
    """Train a model on pairs, on a text file, on Python's own documentation, or on token files."""

    preset: str = "fluctlight"
    """The model to start from, and choices that suit it: fluctlight, bytes-1m or python-small."""
    config: Path | None = None
    """A JSON file with "model" and "training"; what it leaves out is as in the preset."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = field(default_factory=DataOptions)
    workers: int = 0
    """Processes that read ahead, with --tokens; 0: none."""
    out: Path = Path("runs/latest")
    """The run folder; it must not hold a checkpoint yet, but for --resume."""
    resume: bool = False
    """Go on with the run in --out, with all its choices, as if it had never stopped."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    model: ModelConfig = field(default_factory=lambda: preset("fluctlight"))
    """Sizes and choices of the model; the defaults come from the preset."""
    training: TrainConfig = field(default_factory=lambda: train_preset("fluctlight"))
    """Choices of the run; the defaults come from the preset."""


def run(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit code, 130 after Ctrl-C, 143 when told to end.

    Only PyTorch's generator is seeded: initial parameters and dropout draw from it. The order of
    the data has generators of its own, with the same seed; Python's and NumPy's are not used.
    """
    options = parse(arguments)
    data = open_source(options.data, options.model, options.training, options.workers)
    device = choose_device(options.device)
    if options.resume and not checkpoints(options.out):
        what = "there is no checkpoint to go on from"
        raise LessonsError(what, where=str(options.out), remedy="Leave --resume out.")
    torch.manual_seed(options.training.seed)
    console, model = PlainConsole(), Decoder(options.model).to(device)
    trainer = make_trainer(model, options.training, data)
    with locked_folder(options.out):
        start_run(options, data, trainer)
        n_parameters, begun = count_parameters(model), trainer.n_steps
        console.print(f"{n_parameters:,} parameters on {device.type}, reading {data.name}")
        if begun:
            console.print(f"Going on after step {begun:,}")
        signals = train(trainer, data, options, console)
        path = save_run(options.out, trainer)
    if signals:
        console.print(f"Stopped after {trainer.n_steps} steps. Saved: {path}", soft_wrap=True)
        where = shlex.quote(str(options.out))
        console.print(
            f"Go on: python -m transformer_lessons train --resume --out {where}", soft_wrap=True
        )
        return 128 + signals[0]
    console.print(summary(trainer, data, read_log(options.out)))
    console.print(f"Saved: {path}", soft_wrap=True)
    prompt = shlex.quote(visible(data.tokenizer.decode_bytes(data.prompt)))
    command = f"python -m transformer_lessons generate {shlex.quote(str(options.out))}"
    console.print(f"Let it write: {command} --prompt {prompt}", soft_wrap=True)
    return 0


def parse(arguments: Sequence[str]) -> Train:
    """The options; defaults come from --preset, --config or the run to resume, read first."""
    name = option_value(arguments, "--preset") or "fluctlight"
    default = Train(preset=name, model=preset(name), training=train_preset(name))
    file = option_value(arguments, "--config")
    if "--resume" in arguments:
        folder = option_value(arguments, "--out") or str(default.out)
        file = str(Path(folder) / "config.json")
    if file:
        default = with_config(default, file)
    prog = "python -m transformer_lessons train"
    # Without this, a field that may hold a nested config (rope_scaling) becomes a subcommand.
    config = (tyro.conf.AvoidSubcommands,)
    return tyro.cli(Train, args=arguments, default=default, prog=prog, config=config)


def with_config(default: Train, file: str) -> Train:
    """`default`, with the values of a JSON file in place of its own."""
    values = read_json(file)
    if not isinstance(values, dict) or not set(values) <= {"model", "training", "data"}:
        raise LessonsError('a config has the keys "model" and "training"', where=file)
    for key in ("model", "training"):
        if not isinstance(values.get(key, {}), dict):
            raise LessonsError(f'"{key}" is not a JSON object', where=file)
    model = {**default.model.to_dict(), **values.get("model", {})}
    training = {**default.training.to_dict(), **values.get("training", {})}
    source = values.get("data", {})
    source = source.get("source", {}) if isinstance(source, dict) else {}
    return Train(
        preset=default.preset,
        data=DataOptions.from_dict(source, where=file),
        model=ModelConfig.from_dict(model, where=file),
        training=TrainConfig.from_dict(training, where=file),
    )


def option_value(arguments: Sequence[str], option: str) -> str | None:
    """What follows `option`, as in `--preset NAME` or `--preset=NAME`; the last one counts.

    >>> option_value(["--steps", "3", "--preset=fluctlight"], "--preset")
    'fluctlight'
    """
    value = None
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
        elif argument == option and place + 1 < len(arguments):
            value = arguments[place + 1]
    return value


def make_trainer(model: Decoder, training: TrainConfig, data: DataSource) -> Trainer:
    """The trainer, which looks at the held-out text if there is one."""
    validate = None
    if data.held_out is not None:
        validate = held_out_evaluation(model, data)
    elif training.eval_every:
        raise LessonsError("eval_every needs held-out text", where="--training.eval-every")
    return Trainer(model, training, data.batches, validate=validate, position=data.state)


def held_out_evaluation(model: Decoder, data: DataSource):
    """A function that evaluates `model` on all of the held-out text."""
    lengths = token_lengths(data.tokenizer)

    def validate() -> Evaluation:
        windows = consecutive_windows(data.held_out, model.config.context_length, 32)
        return evaluate(model, windows, lengths)

    return validate


def start_run(options: Train, data: DataSource, trainer: Trainer) -> None:
    """Begin a run folder, or go on in it; data that has changed in between is refused."""
    if options.resume:
        saved = read_json(options.out / "config.json").get("data")
        if not isinstance(saved, dict) or saved.get("sha256") != data.fingerprint:
            what = f"the data is not what the run began with: {data.name}"
            raise LessonsError(what, where=str(options.out))
        resume_run(options.out, trainer)
        return
    about: dict[str, Any] = {"model": options.model.to_dict()}
    about["training"] = options.training.to_dict()
    about["data"] = {
        "source": options.data.to_dict(),
        "name": data.name,
        "sha256": data.fingerprint,
    }
    begin_run(options.out, about)
    if options.data.tokenizer is not None:
        data.tokenizer.save(options.out / "tokenizer.json")


def train(trainer: Trainer, data: DataSource, options: Train, console: Console) -> list[int]:
    """Train on display, recording every step; returns the signals that ended it early."""
    model = trainer.model
    levels = {f"ln {model.config.vocab_size}": math.log(model.config.vocab_size)}
    if data.unigram_loss is not None:
        levels["how often each byte"] = data.unigram_loss

    def sample() -> str:
        written = list(stream(model, data.prompt, 48, Sampler(0.3)))
        begun, written = map(data.tokenizer.decode_bytes, (data.prompt, written))
        return f"{visible(begun)} -> {visible(written)}"

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


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def summary(trainer: Trainer, data: DataSource, log: Sequence[dict[str, Any]]) -> Table:
    """What the run came to, as a table."""
    table = Table("after training", "", box=None)
    last = log[-max(len(log) // 20, 1) :]
    train_loss = sum(line["loss"] for line in last) / len(last)
    unit = "byte" if data.tokenizer.n_vocab == 256 else "token"
    table.add_row("training loss", f"{train_loss:.4f} nats per {unit}")
    if trainer.validate is not None:
        result = trainer.validate()
        held_out = f"{result.loss:.4f} nats, {result.bits_per_byte:.3f} bits per byte"
        table.add_row("held-out loss", held_out)
        if data.unigram_loss is not None:
            words = "… knowing only how often each byte"
            table.add_row(words, f"{data.unigram_loss:.4f} nats per byte")
        table.add_row("held-out perplexity", f"{result.perplexity:.2f}")
    if trainer.best_step:
        table.add_row("best", f"{trainer.best:.4f} nats, after step {trainer.best_step:,}")
    if trainer.n_steps < trainer.config.steps:
        table.add_row("stopped early", f"no new best in {trainer.bad_evals} looks")
    seconds = sum(line["seconds"] for line in log)
    n_targets = sum(line["n_targets"] for line in log)
    table.add_row("time", f"{seconds:.1f} s, {n_targets / seconds:,.0f} tokens/s")
    return table
