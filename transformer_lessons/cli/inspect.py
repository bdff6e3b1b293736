"""`inspect`: what a checkpoint is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

import transformer_lessons as tl
from transformer_lessons.cli import PlainConsole


@dataclass(frozen=True)
class Inspect:
    """Show a checkpoint's config and its tensors."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run folder, or one of its checkpoints."""


def run(arguments: Sequence[str]) -> int:
    """Print the tables; returns the exit code."""
    options = tyro.cli(Inspect, args=arguments, prog="python -m transformer_lessons inspect")
    checkpoint, console = tl.load_checkpoint(options.checkpoint), PlainConsole()
    for name, value in checkpoint.model.config.to_dict().items():
        console.print(f"{name:<24}{value}")
    table = Table("tensor", "shape", "numbers", box=None)
    for name, tensor in checkpoint.model.state_dict().items():
        table.add_row(name, " × ".join(map(str, tensor.shape)), f"{tensor.numel():,}")
    console.print(table)
    n_parameters = tl.count_parameters(checkpoint.model)
    console.print(f"{n_parameters:,} parameters, after {checkpoint.step:,} steps")
    return 0
