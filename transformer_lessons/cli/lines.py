"""Lines from the user: typed in a terminal, or read from a file or a pipe."""

import errno
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from transformer_lessons.cli.writing import harmless


def line_reader(in_terminal: bool) -> Callable[[str], str]:
    """A function that reads a line after a prompt; at the end of the input it raises EOFError."""
    if sys.stdin is not None:
        # Bytes that are not UTF-8 come through, so that they can be refused by name.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    if not in_terminal:
        return read_line
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    with suppress(ImportError):  # Windows has none, and edits lines by itself
        import readline  # from now on `input` edits, and the arrow keys bring back earlier lines

        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")  # pasted lines stay together
    return type_line


def type_line(prompt: str) -> str:
    """A line typed in a terminal; Ctrl-D, or the terminal's end, raises EOFError."""
    try:
        return input(prompt)
    except EOFError:
        print()
        raise
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise EOFError from None  # the terminal was closed


def read_line(prompt: str) -> str:
    """The next line of a file or a pipe, shown as if it had been typed."""
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    line = line.removesuffix("\n")
    print(f"{prompt}{harmless(line)}", flush=True)
    return line
