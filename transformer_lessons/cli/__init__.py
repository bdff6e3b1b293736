"""One module a command; each has `run(arguments) -> exit code`. Here is what they share.

PyTorch takes seconds to load, so commands load it when they know that what they were asked is in
order: help and refusals come at once.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.table import Table

from transformer_lessons.errors import LessonsError

if TYPE_CHECKING:
    import torch


def parse(
    kinds: Any, arguments: Sequence[str], command: str, default: Any = None, early: bool = False
) -> Any:
    """The options of a command: an object of the dataclass `kinds`, or of one of a dict of them.

    tyro frames what it refuses; where a `LessonsError` is behind it, that is raised as it is. With
    `early`, what `kinds` doesn't have is passed over: for options that give others their defaults.
    """
    framed, arguments, prog = (
        StringIO(),
        list(arguments),
        f"python -m transformer_lessons {command}",
    )
    # AvoidSubcommands: a field that may hold a nested config (rope_scaling) would become one.
    plain: Any = partial(tyro.cli, args=arguments, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    try:
        with redirect_stderr(framed):
            if isinstance(kinds, dict):
                return tyro.extras.subcommand_cli_from_dict(kinds, args=arguments, prog=prog)
            if early:
                return plain(kinds, return_unknown_args=True, add_help=False)[0]
            return plain(kinds, default=default)
    except SystemExit as stopped:
        error = stopped.__context__
        while error is not None and not isinstance(error, LessonsError):
            error = error.__context__
        if error is not None:
            raise error from None
        print(framed.getvalue(), end="", file=sys.stderr)
        raise


class PlainConsole(Console):
    """A console that prints text as it is: "[b]" and ":cat:" in a file name are no commands."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Let `cli.main` decide; rich would exit at once, and training would save nothing."""
        raise  # rich calls this while it handles the BrokenPipeError

    def print_rows(self, title: str, rows: Mapping[str, object]) -> None:
        """Print names and values under a title."""
        table = Table(title, "", box=None)
        for name, value in rows.items():
            table.add_row(name, str(value))
        self.print(table)


def check_seed(seed: int) -> None:
    """Raise `LessonsError` for a seed that PyTorch's random numbers can't start from."""
    if not 0 <= seed < 2**63:
        what = f"seed = {seed} is not from 0 to 2**63 - 1"
        raise LessonsError(what, where="--seed", remedy="For example 0.")


def choose_device(name: str) -> "torch.device":
    """The device called `name`, or the best one for "auto"."""
    import torch

    from transformer_lessons.device import best_device

    if name == "auto":
        return best_device()
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(name):
        remedy = f"Here: auto, {', '.join(kind for kind, there in available.items() if there)}."
        raise LessonsError(f"no device {name!r}", where="--device", remedy=remedy)
    return torch.device(name)
