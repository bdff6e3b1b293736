"""`train`: a model, some text, and a run folder with everything that happened."""

import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from transformer_lessons.commands import PlainConsole, check_reads_bytes, check_seed, choose_device
from transformer_lessons.config import ModelConfig, read_json
from transformer_lessons.display import TrainingDisplay, visible
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.text.batches import (
    check_long_enough,
    consecutive_windows,
    random_windows,
)
from transformer_lessons.text.corpus import python_documentation
from transformer_lessons.text.pairs import pair_batches, read_pairs
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.training.config import TrainConfig, train_preset
from transformer_lessons.training.evaluate import evaluate, unigram_loss
from transformer_lessons.training.trainer import StepReport, Trainer


@dataclass(frozen=True)
class Train:
    """Train a model on pairs, on a text file, or on Python's own documentation."""

    preset: str = "fluctlight"
    """The model to start from, and choices that suit it: fluctlight or bytes-1m."""
    config: Path | None = None
    """A JSON file with "model" and "training"; what it leaves out is as in the preset."""
    pairs: Path | None = None
    """Train on pairs: a file with base64(input) TAB base64(output) on each line."""
    seed_pairs: Path | None = None
    """More pairs, put before those of --pairs."""
    text: Path | None = None
    """Train on the bytes of a file; its last tenth is held out."""
    corpus: bool = False
    """Train on the documentation that comes with Python; its last tenth is held out."""
    out: Path = Path("runs/latest")
    """The run folder; it must not hold a checkpoint yet."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    model: ModelConfig = field(default_factory=lambda: preset("fluctlight"))
    """Sizes and choices of the model; the defaults come from the preset."""
    training: TrainConfig = field(default_factory=lambda: train_preset("fluctlight"))
    """Choices of the run; the defaults come from the preset."""


@dataclass(frozen=True)
class Data:
    """What to train on, what to judge by, and where samples start from."""

    batches: Iterator[tuple[Tensor, Tensor]]
    prompt: bytes
    name: str
    held_out: Tensor | None = None
    unigram: float | None = None  # loss on held_out of knowing only how often each byte occurs


def run(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit code, 130 after Ctrl-C."""
    options = parse(arguments)
    check_reads_bytes(options.model, "--model.vocab-size")
    check_seed(options.training.seed)
    data = load_data(options)
    device = choose_device(options.device)
    make_run_folder(options, data.name)
    torch.manual_seed(options.training.seed)
    model = Decoder(options.model).to(device)
    console = PlainConsole()
    console.print(f"{count_parameters(model):,} parameters on {device.type}, reading {data.name}")
    reports: list[StepReport] = []
    code = 0
    try:
        train(model, data, options, console, reports.append)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # nobody reads what we print: keep what was learned, and stop
        save_checkpoint(options.out, len(reports), model)
        raise
    path = save_checkpoint(options.out, len(reports), model)
    if code:
        console.print(f"Stopped after {len(reports)} steps. Saved: {path}", soft_wrap=True)
    else:
        console.print(summary(model, data, reports))
        console.print(f"Saved: {path}", soft_wrap=True)
    where, prompt = shlex.quote(str(options.out)), shlex.quote(visible(data.prompt))
    command = f"python -m transformer_lessons generate {where} --prompt {prompt}"
    console.print(f"Let it write: {command}", soft_wrap=True)
    return code


def parse(arguments: Sequence[str]) -> Train:
    """The options; defaults come from --preset or --config, so they are read first."""
    name = option_value(arguments, "--preset") or "fluctlight"
    model, training = preset(name), train_preset(name)
    if file := option_value(arguments, "--config"):
        values = read_json(file)
        if not isinstance(values, dict) or not set(values) <= {"model", "training", "data"}:
            raise LessonsError('a config has the keys "model" and "training"', where=file)
        for key in ("model", "training"):
            if not isinstance(values.get(key, {}), dict):
                raise LessonsError(f'"{key}" is not a JSON object', where=file)
        model = ModelConfig.from_dict({**model.to_dict(), **values.get("model", {})}, where=file)
        chosen = {**training.to_dict(), **values.get("training", {})}
        training = TrainConfig.from_dict(chosen, where=file)
    default = Train(preset=name, model=model, training=training)
    prog = "python -m transformer_lessons train"
    # Without this, a field that may hold a nested config (rope_scaling) becomes a subcommand.
    config = (tyro.conf.AvoidSubcommands,)
    return tyro.cli(Train, args=arguments, default=default, prog=prog, config=config)


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


def load_data(options: Train) -> Data:
    """The data that the options name; exactly one source must be given."""
    sources = [options.pairs is not None, options.text is not None, options.corpus]
    if sum(sources) != 1:
        raise LessonsError("give one of --pairs FILE, --text FILE and --corpus")
    if options.seed_pairs is not None and options.pairs is None:
        raise LessonsError("--seed-pairs goes in front of --pairs FILE, which is not given")
    context_length, batch_size = options.model.context_length, options.training.batch_size
    seed = options.training.seed
    if options.pairs is not None:
        seed_pairs = read_pairs(options.seed_pairs) if options.seed_pairs else []
        pairs = read_pairs(options.pairs, seed_pairs)
        batches = pair_batches(pairs, context_length, batch_size, seed)
        source, answer = pairs[0]
        return Data(batches, source or answer[:1], f"{options.pairs}, pairs: {len(pairs):,}")
    name = "Python's documentation" if options.corpus else str(options.text)
    text = python_documentation().encode() if options.corpus else read_bytes(options.text)
    tokens = torch.tensor(list(text))
    n_train = len(tokens) - len(tokens) // 10
    train_tokens, held_out = tokens[:n_train], tokens[n_train:]
    check_long_enough(train_tokens, context_length + 1)  # now, not when the first batch is made
    batches = random_windows(train_tokens, context_length, batch_size, seed)
    unigram = unigram_loss(train_tokens, held_out, options.model.vocab_size)
    return Data(batches, text[n_train : n_train + 8], name, held_out, unigram)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of at least 100; anything else raises `LessonsError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    if len(data) < 100:
        what = f"{len(data)} bytes are too few to train on"
        raise LessonsError(what, where=str(path), remedy="Give a file of at least 100 bytes.")
    return data


def make_run_folder(options: Train, data_name: str) -> None:
    """Make the run folder with its config.json; one that holds a checkpoint is refused."""
    remedy = "Choose another --out, or remove the folder."
    if list(options.out.glob("step-*")):
        what = "there is a checkpoint here already"
        raise LessonsError(what, where=str(options.out), remedy=remedy)
    about = {"model": options.model.to_dict(), "training": options.training.to_dict()}
    text = json.dumps({**about, "data": data_name}, indent=2) + "\n"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "config.json").write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"can't make a run folder: {error.strerror}"
        raise LessonsError(what, where=str(options.out), remedy="Choose another --out.") from None


def train(
    model: Decoder,
    data: Data,
    options: Train,
    console: Console,
    keep: Callable[[StepReport], None],
) -> None:
    """Train on display; every step goes to `keep` and, as a line of JSON, to the log."""
    levels = {f"ln {model.config.vocab_size}": math.log(model.config.vocab_size)}
    if data.unigram is not None:
        levels["how often each byte"] = data.unigram

    def sample() -> str:
        written = bytes(stream(model, data.prompt, 48, Sampler(0.3)))
        return f"{visible(data.prompt)} -> {visible(written)}"

    steps = options.training.steps
    with (
        open(options.out / "log.jsonl", "w", encoding="utf-8") as log,
        TrainingDisplay(console, steps, sample, levels) as display,
    ):

        def on_step(report: StepReport) -> None:
            keep(report)
            log.write(json.dumps(asdict(report)) + "\n")
            display(report)

        Trainer(model, options.training, data.batches, on_step).fit()


def summary(model: Decoder, data: Data, reports: Sequence[StepReport]) -> Table:
    """What the run came to, as a table."""
    table = Table("after training", "", box=None)
    last = reports[-max(len(reports) // 20, 1) :]
    train_loss = sum(report.loss for report in last) / len(last)
    table.add_row("training loss", f"{train_loss:.4f} nats per byte")
    if data.held_out is not None:
        windows = consecutive_windows(data.held_out, model.config.context_length, 32)
        result = evaluate(model, windows)
        held_out = f"{result.loss:.4f} nats, {result.bits_per_byte:.3f} bits per byte"
        table.add_row("held-out loss", held_out)
        table.add_row("… knowing only how often each byte", f"{data.unigram:.4f} nats per byte")
        table.add_row("held-out perplexity", f"{result.perplexity:.2f}")
    seconds = sum(report.seconds for report in reports)
    n_targets = sum(report.n_targets for report in reports)
    table.add_row("time", f"{seconds:.1f} s, {n_targets / seconds:,.0f} tokens/s")
    return table
