"""Whether what a model wrote is Python, by Python's own parser; nothing is run."""

import ast
import codeop
import warnings
from collections.abc import Sequence

from transformer_lessons.errors import LessonsError


def drop_unfinished(source: str) -> str:
    """The longest beginning of `source`, in whole lines, that doesn't ask for more to follow.

    The end of a sample may cut anything in two. A mistake before the cut stays in what is left.

    >>> drop_unfinished("x = 1\\nif x:\\n    y = (2")
    'x = 1\\n'
    >>> drop_unfinished("try:\\n    x = 1\\nexcept Value")
    ''
    """
    end = source.rfind("\n") + 1  # the last line may end anywhere
    while is_unfinished(source[:end]):
        end = source.rfind("\n", 0, end - 1) + 1
    return source[:end]


def is_unfinished(source: str) -> bool:
    """Whether whole lines of Python have no mistake, but must go on: after "else:", or in a list.

    >>> is_unfinished("x = [1,\\n"), is_unfinished("x = [1]\\n"), is_unfinished("x = 1]\\n")
    (True, False, False)
    """
    if source.endswith("\\\n"):  # the one sign of more to come that codeop doesn't see
        return True
    try:
        with warnings.catch_warnings(action="ignore"):
            return codeop.compile_command(source, symbol="exec") is None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return False  # a mistake: nothing that follows can mend it


def parse_rate(sources: Sequence[str]) -> float:
    """The share of `sources` that Python's own parser accepts.

    >>> parse_rate(["x = 1", "x = ="])
    0.5
    """
    if not sources:
        raise LessonsError("no samples to judge", remedy="Give at least one.")
    return sum(map(is_python, sources)) / len(sources)


def is_python(source: str) -> bool:
    """Whether Python's parser accepts `source`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # "\\d" is a doubtful string, but Python
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
