"""One module a command; each has `run(options) -> exit code`. Here is what they share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from transformer_lessons.errors import LessonsError

if TYPE_CHECKING:
    import torch


class PlainConsole(Console):
    """A console that prints text as it is: "[b]" and ":cat:" in a file name are no commands."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Let `cli.main` decide; rich would exit at once, and training would save nothing."""
        raise  # rich calls this while it handles the BrokenPipeError

    def print_rows(self, title: str, rows: Mapping[str, object]) -> None:
        """Print names, which stay whole, and values under a title."""
        table = Table(Column(title, no_wrap=True), "", box=None, show_header=bool(title))
        for name, value in rows.items():
            table.add_row(name, str(value))
        self.print(table)


def choose_device(name: str) -> "torch.device":
    """The device called `name`, or the best one for "auto"."""
    import torch

    from transformer_lessons.device import best_device

    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(name):
        remedy = f"Here: {', '.join(kind for kind, there in available.items() if there)}."
        raise LessonsError(f"no device {name!r}", where="--device", remedy=remedy)
    return best_device() if name == "auto" else torch.device(name)
