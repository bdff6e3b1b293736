"""Text to train on that every reader already has."""

import importlib

from transformer_lessons.errors import LessonsError


def python_documentation() -> str:
    """The Python language reference as this Python carries it, about half a million characters.

    It is what `help("topics")` prints, in alphabetical order. It differs between Python versions.

    >>> "iterator" in python_documentation()
    True
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        remedy = "Install Python with its standard library, or train on a text file of your own."
        raise LessonsError("this Python has no pydoc_data.topics", remedy=remedy) from None
    return "\n\n".join(topics[name].strip() for name in sorted(topics))
