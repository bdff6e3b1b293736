"""One contestant, in a process of its own: it prepares once and does its work whenever told to.

    python -m benchmarks.worker benchmarks.bpe train_ours '{"n_bytes": 10000, "vocab_size": 300}'

The function named gets the arguments and returns a `Work`. Each line that arrives is one run; each
run is answered by one line of JSON. It uses the standard library only, so that a contestant may
have an environment of its own.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any, NamedTuple


class Work(NamedTuple):
    """What is timed, and what is not: `before` each run, and `describe`, which sums its result up.

    Contestants that do the same work have the same description.
    """

    run: Callable[[], Any]
    describe: Callable[[Any], Any]
    before: Callable[[], Any] = lambda: None


class Run(NamedTuple):
    """One run: seconds by the clock, seconds of all processors, and the description."""

    wall: float
    cpu: float
    result: Any = None


def cpu_seconds() -> float:
    """Processor time of this process and of the children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def measure(
    work: Work,
    wall_clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = cpu_seconds,
) -> Run:
    """Do the work once. Rubbish of the last run is collected before the clock starts."""
    work.before()
    gc.collect()
    cpu, wall = cpu_clock(), wall_clock()
    result = work.run()
    wall, cpu = wall_clock() - wall, cpu_clock() - cpu
    return Run(wall, cpu, work.describe(result))


def main() -> None:
    """Answer each line of standard input with one run, as JSON."""
    module, function, arguments = sys.argv[1:]
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # what a library prints must not pass for an answer
        work = getattr(import_module(module), function)(**json.loads(arguments))
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(measure(work)._asdict()), file=answers, flush=True)


if __name__ == "__main__":
    main()
