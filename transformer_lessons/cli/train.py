"""`train`: data, model, run folder and display come together, with defaults from a preset."""

import math
import shlex
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
import tyro

from transformer_lessons import cli
from transformer_lessons.cli import run_folder
from transformer_lessons.cli.data_source import DataOptions, DataSource, open_source
from transformer_lessons.cli.display import TrainingDisplay, progress_line, save_curve, visible
from transformer_lessons.cli.evaluate import evaluate_ids
from transformer_lessons.cli.interrupts import stop_on_signal
from transformer_lessons.cli.summary import summary, write_sample
from transformer_lessons.config import ModelConfig, Positive, config_from_dict
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import known_tokens
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.support.files import read_json, write_json
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.config import TrainConfig, train_preset
from transformer_lessons.training.distributed import (
    Ranks,
    check_same,
    find_ranks,
    gather,
    is_first,
    joined,
    one_voice,
)
from transformer_lessons.training.evaluate import token_lengths
from transformer_lessons.training.rank_trainer import RankTrainer, evaluate_together
from transformer_lessons.training.trainer import StepReport, Trainer

AGAIN = "python -m transformer_lessons"


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept, and whether it goes on."""

    out: Path = Path("runs/latest")
    """The run folder; it must not hold a checkpoint yet, but for --resume."""
    resume: bool = False
    """Go on with the run in --out, with all its choices, as if it had never stopped."""


@dataclass(frozen=True)
class First(RunFolder):
    """Options of `train` that give others their defaults."""

    preset: str = "fluctlight"
    """The model to start from, and choices that suit it: fluctlight, bytes-1m, python-small, llama,
    gpt, gpt2, smollm2-135m or llama3.2-1b."""
    config: Path | None = None
    """A JSON file with "model" and "training"; what it leaves out is as in the preset."""


@dataclass(frozen=True)
class Train(First):
    """Train a model on pairs of texts, or on documents of any kind."""

    data: Annotated[DataOptions, tyro.conf.arg(name="")] = field(default_factory=DataOptions)
    workers: int = 0
    """Processes that encode, and that read ahead; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    shard: bool = False
    """With torchrun: each process holds a share of the model (FSDP2), not all of it (DDP)."""
    timeout: Positive = 600.0
    """With torchrun: seconds after which a process that doesn't answer ends the run."""
    model: ModelConfig = field(default_factory=lambda: preset("fluctlight"))
    """Sizes and choices of the model; the defaults come from the preset."""
    training: TrainConfig = field(default_factory=lambda: train_preset("fluctlight"))
    """Choices of the run; the defaults come from the preset."""


def parse(arguments: Sequence[str]) -> Train:
    """The options; defaults come from --preset, --config or the run to resume, read first."""
    first: First = cli.parse(First, arguments, "train", early=True)
    name = first.preset
    default = Train(preset=name, model=preset(name), training=train_preset(name))
    file = first.out / "config.json" if first.resume else first.config
    if file is not None:
        default = with_config(default, str(file))
    return cli.parse(Train, arguments, "train", default)


def with_config(default: Train, file: str) -> Train:
    """`default`, with the values of a JSON file in place of its own."""
    values = read_json(file)
    parts = {"model": default.model.to_dict(), "training": default.training.to_dict(), "data": {}}
    if not isinstance(values, dict) or not set(values) <= set(parts):
        raise LessonsError('a config has the keys "model", "training" and "data"', where=file)
    for key, value in values.items():
        if not isinstance(value, dict):
            raise LessonsError(f'"{key}" is not a JSON object', where=file)
        parts[key] |= value
    model = ModelConfig.from_dict(parts["model"], where=file)
    training = TrainConfig.from_dict(parts["training"], where=file)
    data = config_from_dict(DataOptions, parts["data"].get("source", {}), file)
    return replace(default, model=model, training=training, data=data)


def run(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit code, 130 after Ctrl-C, 143 when told to end.

    Only PyTorch's generator is seeded: initial parameters and dropout draw from it. The order of
    the data has generators of its own, with the same seed; Python's and NumPy's are not used.
    """
    ranks = find_ranks()
    with one_voice(ranks):
        options = parse(arguments)
        with joined(ranks, options.timeout):
            return train(options, ranks)


def train(options: Train, ranks: Ranks) -> int:
    """`run` with its options read, in one process or as one of several; the first one prints."""
    console, device = cli.PlainConsole(), cli.choose_device(options.device)
    console.quiet = not is_first()
    if options.shard and ranks.store is None:
        remedy = "Start it with: torchrun --nproc-per-node 2 -m transformer_lessons train …"
        raise LessonsError("--shard needs several processes", remedy=remedy)
    if device.type == "cuda":
        if ranks.local_rank >= torch.cuda.device_count():
            remedy = "Start fewer processes, or use --device cpu."
            raise LessonsError(f"no GPU for local rank {ranks.local_rank}", remedy=remedy)
        torch.cuda.set_device(device := torch.device("cuda", ranks.local_rank))
    source = open_in_turn(options, ranks, console)
    run_folder.check_resume(options.out, options.resume)
    torch.manual_seed(options.training.seed)
    model = Decoder(options.model).to(device)
    trainer = make_trainer(model, options, source, ranks)
    known = known_tokens(source.tokenizer, model.config.vocab_size)

    def sample() -> str:
        whole = load_checkpoint(options.out).model.to(device) if options.shard else model
        return write_sample(whole, source, known)

    data = {"source": asdict(options.data)}
    if code := carry_out(trainer, source, options, data, sample, console):
        return code
    where = shlex.quote(str(options.out))
    prompt = shlex.quote(visible(source.tokenizer.decode_bytes(source.prompt)))
    console.print(f"Let it write: {AGAIN} generate {where} --prompt {prompt}", soft_wrap=True)
    return 0


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
    model, together = trainer.model, dist.is_available() and dist.is_initialized()
    with run_folder.locked_folder(options.out) if is_first() else nullcontext():
        if options.resume:
            run_folder.resume_run(options.out, trainer, source.fingerprint)
        elif is_first():
            data = data | {"name": source.name, "fingerprint": source.fingerprint}
            about = {"model": model.config.to_dict(), "training": trainer.config.to_dict()}
            run_folder.begin_run(options.out, about | {"data": data}, source.tokenizer)
        where = trainer.device.type + (f", {dist.get_world_size()} processes" if together else "")
        numbers = f"{count_parameters(model):,} parameters on {where}"
        console.print(f"{numbers}, reading {source.name}")
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


def open_in_turn(options: Train, ranks: Ranks, console: cli.PlainConsole) -> DataSource:
    """The data: opened by rank 0 first, so that what it encodes is there for the others."""
    if not is_first():
        ranks.store.wait(["opened"])
    with progress_line(console) as show:
        choices = options.model, options.training, options.workers
        source = open_source(options.data, *choices, show)
    if ranks.store is not None:
        ranks.store.set("opened", "")
        same = {"the model": options.model, "the training": options.training}
        check_same(ranks, {"the data": source.fingerprint} | {n: str(v) for n, v in same.items()})
    return source


def make_trainer(model: Decoder, options: Train, source: DataSource, ranks: Ranks) -> Trainer:
    """The trainer, which is evaluated on the held-out text if there is one."""
    make: Any = Trainer if ranks.store is None else partial(RankTrainer, shard=options.shard)
    make = partial(make, model, options.training, source.batches, data_state=source.state)
    if (held_out := source.held_out) is None:
        if options.training.eval_every:
            raise LessonsError("eval_every needs held-out text", where="--training.eval-every")
        return make()
    length = options.training.sequence_length or options.model.context_length
    judge = None if ranks.store is None else evaluate_together
    lengths = token_lengths(source.tokenizer)
    return make(evaluate=partial(evaluate_ids, model, held_out, length, lengths, judge))


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
