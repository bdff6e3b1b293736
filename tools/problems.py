"""One problem that a check found, told so that it can be repaired."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do about it.

    >>> print(Problem("no alt text", where="01.ipynb, cell 7", remedy="Describe the figure."))
    01.ipynb, cell 7: no alt text. Describe the figure.
    """

    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


def report(problems: Iterable[Problem]) -> int:
    """Print every problem, and return the exit code: 0 when there was none, else 1."""
    found = list(problems)
    for problem in found:
        print(problem)
    return 1 if found else 0
