"""`train`: its options, with defaults from a preset, a config file, or the run to go on with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons.cli.data_source import DataOptions
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.support.files import read_json
from transformer_lessons.training.config import TrainConfig, train_preset


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
    """Train and save; returns the exit code, 130 after Ctrl-C, 143 when told to end."""
    options = parse(arguments)
    from transformer_lessons.cli.training_run import train  # here, because it loads PyTorch

    return train(options)


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
    parts = {"model": default.model.to_dict(), "training": default.training.to_dict(), "data": {}}
    if not isinstance(values, dict) or not set(values) <= set(parts):
        raise LessonsError('a config has the keys "model", "training" and "data"', where=file)
    for key, value in values.items():
        if not isinstance(value, dict):
            raise LessonsError(f'"{key}" is not a JSON object', where=file)
    model, training, data = (parts[key] | values.get(key, {}) for key in parts)
    return replace(
        default,
        model=ModelConfig.from_dict(model, where=file),
        training=TrainConfig.from_dict(training, where=file),
        data=DataOptions.from_dict(data.get("source", {}), where=file),
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
