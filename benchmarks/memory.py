"""How much memory a process and its children take, read from /proc (Linux only)."""

import time
from pathlib import Path
from threading import Event

STEP = 0.02  # seconds between two looks


def megabytes(pid: int) -> float:
    """Memory of a process and of its descendants; pages that they share are counted once."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            lines = (process / "smaps_rollup").read_text().splitlines()
            children = [path.read_text() for path in process.glob("task/*/children")]
        except OSError:
            continue  # it has ended in the meantime
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        waiting += [int(child) for text in children for child in text.split()]
    return total / 1000


def watch_peak(pid: int, done: Event) -> float:
    """The largest `megabytes(pid)` until `done` is set."""
    peak = 0.0
    while not done.is_set():
        peak = max(peak, megabytes(pid))
        time.sleep(STEP)
    return peak
