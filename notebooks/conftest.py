"""Around nbval's run of a lesson: each cell works a second time, and the budget was kept to.

Readers run a cell again and again while they play. Here every cell that took less than two seconds
does so at once; `FAULTS=full` (in `make faults`) repeats all of them. A lesson that states no
download runs without a network.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest
from budget import check_cost, read_budget
from execute import KERNEL_ENVIRONMENT, OFFLINE, Cost
from nbval.plugin import IPyNbFile

REPEATS = pytest.StashKey[float]()  # of a notebook: processor seconds of the second runs
SECONDS_FOR_A_REPEAT = float("inf") if os.environ.get("FAULTS") == "full" else 2.0


class BudgetItem(pytest.Item):
    """The last test of a notebook: what its kernel took is within the budget it states."""

    def runtest(self) -> None:
        budget = read_budget(self.parent.nb)
        assert budget is not None, "the notebook states no budget"
        cost = kernel_cost(self.parent)
        assert [str(problem) for problem in check_cost(budget, cost)] == []

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.stem}: budget"


def kernel_cost(notebook: IPyNbFile) -> Cost:
    """What the kernel of a notebook has taken so far, but for the cells that ran again."""
    cpu_seconds = kernel_seconds(notebook) - notebook.stash.get(REPEATS, 0.0)
    peak = peak_bytes(psutil.Process(notebook.kernel.km.provisioner.pid))
    return Cost(seconds=0.0, cpu_seconds=cpu_seconds, peak_bytes=peak)


def kernel_seconds(notebook: IPyNbFile) -> float:
    """The processor time of a kernel that still runs and of its finished child processes."""
    times = psutil.Process(notebook.kernel.km.provisioner.pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process held; where the system doesn't say, what it holds now."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return process.memory_info().rss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add a `BudgetItem` behind the cells of each notebook."""
    last = {item.parent: place for place, item in enumerate(items) if is_of_notebook(item)}
    for notebook, place in sorted(last.items(), key=lambda pair: -pair[1]):
        items.insert(place + 1, BudgetItem.from_parent(notebook, name="budget"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """The kernel of a notebook starts in front of its first cell, in this environment."""
    if not is_of_notebook(item):
        return (yield)
    budget = read_budget(item.parent.nb)
    offline = OFFLINE if budget and not budget.download_bytes else {}
    with mock.patch.dict(os.environ, {**KERNEL_ENVIRONMENT, **offline}):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a cell that passed a second time: it may print something else, but it may not fail."""
    start = time.perf_counter()
    yield
    is_short = time.perf_counter() - start < SECONDS_FOR_A_REPEAT
    if is_of_notebook(item) and not isinstance(item, BudgetItem) and is_short:
        before = kernel_seconds(item.parent)
        item.options["check"] = False
        item.runtest()
        seconds = kernel_seconds(item.parent) - before
        item.parent.stash[REPEATS] = item.parent.stash.get(REPEATS, 0.0) + seconds


def is_of_notebook(item: pytest.Item) -> bool:
    """Whether `item` is one of a notebook's."""
    return isinstance(item.parent, IPyNbFile)
