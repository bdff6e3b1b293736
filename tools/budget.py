"""The budget that a lesson states, and whether it keeps to it.

The first cell of every notebook is text, and one of its lines is the budget, in exactly this form:

    **Budget:** about 20 s · under 1 GB of memory · no download

or, where something must be fetched, with `98 MB download` at its end. Memory and downloads are in
MB or GB (10**6 and 10**9 bytes). The time is that of executing the whole notebook.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from execute import Cost
from nbformat import NotebookNode
from problems import Problem

MAX_SECONDS = 60  # for any lesson
EXAMPLE = "**Budget:** about 20 s · under 1 GB of memory · no download"
SIZE = r"(\d+(?:\.\d+)?) (MB|GB)"
LINE = re.compile(
    rf"^\*\*Budget:\*\* about (\d+) s · under {SIZE} of memory · (no|{SIZE}) download$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Budget:
    """What a lesson says it takes."""

    seconds: int
    memory_bytes: float
    download_bytes: float


def read_budget(notebook: NotebookNode) -> Budget | None:
    """The budget in the notebook's first cell; None when there is none in the form above."""
    first = notebook.cells[0] if notebook.cells else None
    match = LINE.search(first.source) if first and first.cell_type == "markdown" else None
    if not match:
        return None
    seconds, memory, memory_unit, download, amount, unit = match.groups()
    fetched = 0.0 if download == "no" else size_in_bytes(amount, unit)
    return Budget(int(seconds), size_in_bytes(memory, memory_unit), fetched)


def size_in_bytes(amount: str, unit: str) -> float:
    """The number of bytes in words.

    >>> size_in_bytes("1.5", "GB")
    1500000000.0
    """
    return float(amount) * {"MB": 1e6, "GB": 1e9}[unit]


def check_budget(notebook: NotebookNode) -> Iterator[Problem]:
    """The first cell states a budget, and no more time than a lesson may take."""
    budget = read_budget(notebook)
    if budget is None:
        yield Problem("no budget line", "cell 1", f"Write it in this form: {EXAMPLE}")
    elif budget.seconds > MAX_SECONDS:
        what = f"the budget is {budget.seconds} s, and a lesson may take {MAX_SECONDS} s"
        yield Problem(what, "cell 1", "Do less, or with a smaller model.")


def check_cost(budget: Budget, cost: Cost) -> Iterator[Problem]:
    """The measured cost keeps to the budget.

    The stated time says "about", and is held to twice itself, in processor time: the clock also
    counts what else the machine does.
    """
    if cost.cpu_seconds > 2 * budget.seconds:
        what = f"it took {cost.cpu_seconds:.0f} s of processor time, and says {budget.seconds} s"
        yield Problem(what, "time", "Correct the budget line, or do less.")
    if cost.peak_bytes > budget.memory_bytes:
        held, stated = cost.peak_bytes / 1e6, budget.memory_bytes / 1e6
        what = f"it held {held:.0f} MB of memory, and says under {stated:.0f} MB"
        yield Problem(what, "memory", "Correct the budget line, or hold less at once.")
