"""After nbval has run all cells of a lesson: has the lesson kept to its budget?

So no lesson runs twice for the tests. A lesson that states no download runs without a network.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest
from budget import check_cost, read_budget
from execute import KERNEL_ENVIRONMENT, OFFLINE, Cost
from nbval.plugin import IPyNbFile


class BudgetItem(pytest.Item):
    """The last test of a notebook: what its kernel took is within the budget it states."""

    def runtest(self) -> None:
        budget = read_budget(self.parent.nb)
        assert budget is not None, "the notebook states no budget"
        cost = kernel_cost(psutil.Process(self.parent.kernel.km.provisioner.pid))
        assert [str(problem) for problem in check_cost(budget, cost)] == []

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.stem}: budget"


def kernel_cost(kernel: psutil.Process) -> Cost:
    """What a kernel that still runs has taken so far, with its finished child processes."""
    times = kernel.cpu_times()
    cpu_seconds = times.user + times.system + times.children_user + times.children_system
    return Cost(seconds=0.0, cpu_seconds=cpu_seconds, peak_bytes=peak_bytes(kernel))


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


def is_of_notebook(item: pytest.Item) -> bool:
    """Whether `item` is one of a notebook's."""
    return isinstance(item.parent, IPyNbFile)
