"""Ctrl-C, and the shutdown of a machine: finish the step, save, and stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from transformer_lessons.training.trainer import Trainer


@contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[list[int]]:
    """Let SIGINT (Ctrl-C) and SIGTERM set `trainer.stop`, so that `fit` ends after its step.

    In the middle of a step half of the parameters may be new and half of them old, so it must not
    end there. A second signal ends it all the same, without saving. The list that the context
    gives holds the signals that came. Only a program's main thread can do this.
    """
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        trainer.stop = True
        if len(came) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
