"""Text to train on that every reader already has."""

import importlib
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document

NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


def python_documentation() -> str:
    """The Python language reference as this Python carries it, about half a million characters.

    It is what `help("topics")` prints, in alphabetical order. It differs between Python versions.
    """
    return "\n\n".join(document.text for document in python_topics())


def python_topics() -> Iterator[Document]:
    """The topics of `python_documentation`, one document each, in alphabetical order."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        remedy = "Install Python with its standard library, or train on a text file of your own."
        raise LessonsError("this Python has no pydoc_data.topics", remedy=remedy) from None
    for name in sorted(topics):
        yield Document(topics[name].strip(), f"python topic {name}")


def python_sources() -> Iterator[Document]:
    """The modules of the standard library, one document each, in order of their paths.

    Tests are left out, and so is what was installed besides. Some ten million characters.
    """
    library = Path(sysconfig.get_path("stdlib"))
    for folder, inner, files in os.walk(library):
        inner[:] = sorted(set(inner) - NOT_THE_LIBRARY)  # os.walk goes into these next
        for path in sorted(Path(folder, name) for name in files if name.endswith(".py")):
            name = path.relative_to(library).as_posix()
            # Python's own reader knows the encoding that a source declares.
            with suppress(SyntaxError, UnicodeDecodeError), tokenize.open(path) as file:
                yield Document(file.read(), f"python source {name}")
