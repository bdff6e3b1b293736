"""In which order tests run, which of them share a worker of xdist, and what did not run at all."""

import re
from collections import Counter

import pytest

# What takes longest starts first, or at the end one worker would be busy while the others wait.
DEAREST = ("tests/cli/test_main", "notebooks/", "tests/book/test_widget", "tests/cli/", "tests/t")
A_PAGE = re.compile(r"^tests/book/test_pages\.py::.*\[.*?((?:book|notebooks)/\w+)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dearest first; the tests of one file stay together and in their order."""
    items.sort(key=lambda item: place_of(item.nodeid))


def place_of(nodeid: str) -> int:
    """The place of a test's file in the order.

    >>> place_of("notebooks/06_rope.ipynb::Cell 0"), place_of("tests/model/test_cache.py::test_a")
    (1, 5)
    """
    starts = [nodeid.startswith(start) for start in DEAREST]
    return starts.index(True) if any(starts) else len(DEAREST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Whole files go to a worker, for a notebook's cells share a kernel; and single pages."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrPage(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    config.option.loadscopereorder = False  # it would start what has the most tests
    return ByFileOrPage(config, log)


def together(nodeid: str) -> str:
    """The name of all tests that run on the same worker as this one: its file, or its page.

    >>> together("notebooks/06_rope.ipynb::Cell 0")
    'notebooks/06_rope.ipynb'
    >>> together("tests/book/test_pages.py::test_a_page_fits[chromium-book/index]")
    'book/index'
    """
    page = A_PAGE.match(nodeid)
    return page[1] if page else nodeid.partition("::")[0]


def pytest_terminal_summary(terminalreporter) -> None:
    """Why tests were skipped, and how many: a reason names the command that brings what lacks."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, n_tests in reasons.items():
        terminalreporter.write_line(f"{n_tests} did not run: {reason}", yellow=True)
