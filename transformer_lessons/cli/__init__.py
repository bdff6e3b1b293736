"""One module a command; each has `run(arguments) -> exit code`. Here is what they share.

PyTorch takes seconds to load, so commands load it when they know that what they were asked is in
order: help and refusals come at once.
"""

from typing import TYPE_CHECKING

from rich.console import Console

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
