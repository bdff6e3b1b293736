"""A line that says how far a command is: refreshed in a terminal, else printed now and then."""

import time
from typing import Any

from transformer_lessons.cli import PlainConsole

REFRESH, PAUSE = 0.2, 10.0  # seconds between two lines: in a terminal, and elsewhere


class ProgressLine:
    """`with ProgressLine(console) as show: show("half of it")`; it may be called at any rate."""

    def __init__(self, console: PlainConsole) -> None:
        self.console, self.status = console, console.status("…")
        self.start = self.shown = time.perf_counter()

    def __enter__(self) -> "ProgressLine":
        self.status.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.status.__exit__(*error)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.start

    def __call__(self, line: str) -> None:
        """Show `line`, unless another one has been shown just now."""
        now, in_terminal = time.perf_counter(), self.console.is_terminal
        if now - self.shown >= (REFRESH if in_terminal else PAUSE):
            self.shown = now
            if in_terminal:
                self.status.update(line)
            else:
                self.console.print(line)
