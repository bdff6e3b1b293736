"""One module a command; each has `run(arguments) -> exit code`. Here is what they share.

PyTorch takes seconds to load, so commands load it when they know that what they were asked is in
order: help and refusals come at once.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.table import Column, Table

from transformer_lessons.config import Allowed
from transformer_lessons.errors import LessonsError

if TYPE_CHECKING:
    import torch


def parse(
    kinds: Any, arguments: Sequence[str], command: str, default: Any = None, early: bool = False
) -> Any:
    """The options of a command: an object of the dataclass `kinds`, or of one of a dict of them.

    Values that its annotations forbid raise `LessonsError`. With `early`, what `kinds` doesn't have
    is passed over: for options that give others their defaults.
    """
    framed, arguments = StringIO(), list(arguments)
    prog = f"python -m transformer_lessons {command}"
    # AvoidSubcommands: a field that may hold a nested config (rope_scaling) would become one.
    plain: Any = partial(tyro.cli, args=arguments, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    try:
        with redirect_stderr(framed):
            if early:
                return plain(kinds, return_unknown_args=True, add_help=False)[0]
            if isinstance(kinds, dict):
                options = tyro.extras.subcommand_cli_from_dict(kinds, args=arguments, prog=prog)
            else:
                options = plain(kinds, default=default)
    except SystemExit as stopped:  # tyro has framed what it refuses; ours is raised as it is
        error = stopped.__context__
        while error is not None and not isinstance(error, LessonsError):
            error = error.__context__
        if error is not None:
            raise error from None
        print(framed.getvalue(), end="", file=sys.stderr)
        raise
    check(options)
    return options


def check(options: Any) -> None:
    """Raise `LessonsError` for the first option with a value that its rule (`Allowed`) forbids."""
    for name, declared in get_type_hints(type(options), include_extras=True).items():
        value, parts = getattr(options, name), (declared, *get_args(declared))
        for rule in (rule for part in parts for rule in getattr(part, "__metadata__", ())):
            if isinstance(rule, Allowed) and value is not None and not rule.is_ok(value):
                what, where = f"{name} = {value!r} is not {rule.words}", name.replace("_", "-")
                raise LessonsError(what, where=f"--{where}")


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
