"""Contestants take turns, so that whatever slows the machine down slows all of them alike."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import eq
from threading import Event
from typing import Any, Protocol

from benchmarks.memory import megabytes, watch_peak
from benchmarks.worker import Run

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Contestant:
    """Who does what: `module.function(**arguments)` gives the work (see worker.py).

    `python` is another environment's interpreter, for peers whose requirements clash with ours;
    `environment` holds variables that only this contestant's process gets.
    """

    name: str
    module: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The runs of one contestant, in order, and the most memory it took beyond what it began with.

    The memory is of one more run, which is not timed; 0 where it can't be measured.
    """

    runs: list[Run]
    peak: float = 0.0


class Player(Protocol):
    """What can take its turn."""

    def run(self) -> Run: ...


class Process:
    """A contestant's process; `run` has it do its work once."""

    def __init__(self, contestant: Contestant) -> None:
        environment = os.environ | dict.fromkeys(THREADS, str(contestant.threads))
        environment["TOKENIZERS_PARALLELISM"] = str(contestant.threads > 1).lower()
        environment |= contestant.environment
        what = [contestant.module, contestant.function, json.dumps(contestant.arguments)]
        self.name = contestant.name
        self.process = subprocess.Popen(
            [contestant.python, "-m", "benchmarks.worker", *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.answer()  # it is ready

    def answer(self) -> str:
        """The next line of the process; its own message of an error is on the terminal."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}")
        return line

    def run(self) -> Run:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return Run(**json.loads(self.answer()))

    def run_and_watch(self) -> float:
        """The most memory during one run, in megabytes, beyond what the process held before."""
        before, done = megabytes(self.process.pid), Event()
        with ThreadPoolExecutor(1) as pool:
            peak = pool.submit(watch_peak, self.process.pid, done)
            try:
                self.run()
            finally:
                done.set()
        return max(peak.result() - before, 0.0)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def take_turns(players: Sequence[Player], n_rounds: int) -> list[list[Run]]:
    """The runs of each player. In round r player r begins, so that none is always first."""
    runs: list[list[Run]] = [[] for _ in players]
    for r in range(n_rounds):
        for k in range(len(players)):
            place = (r + k) % len(players)
            runs[place].append(players[place].run())
    return runs


def check_same(
    names: Sequence[str],
    runs: Sequence[Sequence[Run]],
    same: Callable[[Any, Any], bool] = eq,
) -> None:
    """Raise `ValueError` unless every run of every contestant came to the same result.

    `same(expected, found)` says what passes for the same: the very same, unless told otherwise.
    """
    expected = runs[0][0].result
    for name, some in zip(names, runs, strict=True):
        for run in some:
            if not same(expected, run.result):
                what = f"{name} came to {run.result}, {names[0]} to {expected}"
                raise ValueError(f"not the same work: {what}")


def run_contest(
    contestants: Sequence[Contestant], n_rounds: int, same: Callable[[Any, Any], bool] = eq
) -> dict[str, Results]:
    """All contestants, one process each: a run for memory, then `n_rounds` rounds against time."""
    players: list[Process] = []
    try:
        for contestant in contestants:
            print(f"  preparing {contestant.name}", file=sys.stderr, flush=True)
            players.append(Process(contestant))
        peaks = [player.run_and_watch() for player in players]
        runs = take_turns(players, n_rounds)
    finally:
        for player in players:
            player.close()
    names = [contestant.name for contestant in contestants]
    check_same(names, runs, same)
    return {name: Results(*pair) for name, *pair in zip(names, runs, peaks, strict=True)}
