"""Dozens of small models, each trained once for a planned number of FLOPs. Lesson 16.

    python tools/scaling.py runs/scaling     (`make scaling`, half an hour on two quiet cores)

The corpus and the training are the lesson's own: its cells with the tag `task` are run here. A
short sweep finds the learning rate for each width first. Every run that is done is a file in the
folder, and isn't done again. All of them are then written to `training/scaling_runs.json`, where
the lesson reads them.
"""

import platform
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from notebook_files import ROOT, read_notebook, tags

import transformer_lessons
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.support.files import read_json, write_json
from transformer_lessons.training.scaling import fit_power_law, size_ladder, training_flops

NOTEBOOK = ROOT / "notebooks" / "16_a_scaling_law.ipynb"
STORED = Path(transformer_lessons.__file__).parent / "training" / "scaling_runs.json"


class Run(NamedTuple):
    """One model to train: how large, for how many FLOPs, and what is learned from it."""

    use: str  # sweep, fit, seed, rate or held out
    flops: float
    rung: int  # of `size_ladder`
    rate: float = 1.0  # times what the width gets; in the sweep, times 0.01 sqrt(16 / width)
    seed: int = 0

    @property
    def name(self) -> str:
        config = size_ladder(self.rung + 1)[-1]
        return f"{self.use} {self.flops:.0e} {config.d_model} rate {self.rate} seed {self.seed}"


SWEEP_STEPS = 1000
SWEEP = [Run("sweep", 0, rung, r) for rung in (0, 2, 4, 6, 8) for r in (0.25, 0.5, 1, 2, 4)]
PLAN = [
    *(Run("fit", 1e11, rung) for rung in (1, 2, 3, 4, 5)),
    *(Run("fit", 3e11, rung) for rung in (1, 2, 3, 4, 5)),
    *(Run("fit", 1e12, rung) for rung in (2, 3, 4, 5, 6)),
    *(Run("fit", 3e12, rung) for rung in (3, 4, 5, 6, 7)),
    *(Run("seed", 1e12, 4, seed=seed) for seed in (1, 2)),
    *(Run("rate", 1e12, 5, rate) for rate in (0.5, 2)),
    *(Run("held out", 1e13, rung) for rung in (8, 7, 6)),
    *(Run("held out", 3e13, rung) for rung in (9, 8)),
    Run("held out", 1e13, 5),
]


@cache
def task() -> SimpleNamespace:
    """What the cells of the task define."""
    names: dict[str, Any] = {}
    for cell in task_cells():
        exec(cell, names)
    return SimpleNamespace(**names)


def task_cells() -> list[str]:
    return [cell.source for cell in read_notebook(NOTEBOOK).cells if "task" in tags(cell)]


def train(run: Run, rate_of_width: tuple[float, float]) -> dict:
    """Train the model of `run`; its row of the table."""
    torch.set_num_threads(1)
    config, start = size_ladder(run.rung + 1)[-1], time.process_time()
    coefficient, power = rate_of_width
    n_tokens = task().BATCH * task().CONTEXT  # of a step
    n_steps = round(run.flops / training_flops(config, n_tokens)) or SWEEP_STEPS
    rate = run.rate * coefficient * config.d_model**power
    loss = task().train_once(config, n_steps, rate, run.seed)
    row = run._asdict() | {"width": config.d_model, "tokens": n_steps * n_tokens, "rate": rate}
    row |= {"flops": training_flops(config, row["tokens"]), "parameters": parameter_counts(config)}
    return row | {"budget": run.flops, "loss": loss, "seconds": time.process_time() - start}


def do(folder: Path, rate_of_width: tuple[float, float], run: Run) -> str:
    """Train the model of `run` and keep its row; a row that is there stays."""
    if not (path := folder / f"{run.name}.json").exists():
        write_json(path, train(run, rate_of_width))
    return run.name


def everyone(make: Callable[[Run], str], runs: list[Run], n_processes: int) -> None:
    """Make each of `runs`, in processes of their own; 0 processes: in this one."""
    if n_processes == 0:
        for run in runs:
            make(run)
        return
    with get_context("spawn").Pool(n_processes) as pool:
        for name in pool.imap_unordered(make, runs):
            print(name, flush=True)


def rows(folder: Path, runs: list[Run]) -> list[dict]:
    """The rows of those `runs` that are done."""
    paths = [folder / f"{run.name}.json" for run in runs]
    return [read_json(path) for path in paths if path.exists()]


def best_rates(sweep: list[dict]) -> dict[int, float]:
    """The best learning rate of each width: the lowest point of a parabola in its logarithm."""
    best = {}
    for width in sorted({row["width"] for row in sweep}):
        tried = sorted((row["rate"], row["loss"]) for row in sweep if row["width"] == width)
        x, loss = np.log([rate for rate, _ in tried]), np.array([loss for _, loss in tried])
        i = int(np.clip(loss.argmin(), 1, len(x) - 2))
        a, b, _ = np.polyfit(x[i - 1 : i + 2], loss[i - 1 : i + 2], 2)
        lowest = -b / (2 * a) if a > 0 else x[loss.argmin()]
        best[width] = float(np.exp(np.clip(lowest, x[0], x[-1])))
    return best


def collect(folder: Path, rate_of_width: tuple[float, float]) -> None:
    """What the lesson reads: all rows that are done, and what they were made with."""
    corpus, code = task().corpus, "".join(task_cells())
    about: dict[str, Any] = {"made_by": "make scaling", "python": platform.python_version()}
    about |= {"torch": torch.__version__, "corpus": sha256(corpus).hexdigest()}
    about |= {"code": sha256(code.encode()).hexdigest(), "rate_of_width": list(rate_of_width)}
    write_json(STORED, about | {"rows": rows(folder, SWEEP + PLAN)}, indent=1)


def main(folder: Path, n_processes: int = 2) -> None:
    """Every run that isn't in the folder yet, `n_processes` at a time, then the lesson's file."""
    folder.mkdir(parents=True, exist_ok=True)
    everyone(partial(do, folder, (0.01 * 16**0.5, -0.5)), SWEEP, n_processes)
    best = best_rates(rows(folder, SWEEP))
    rule = fit_power_law(list(best), list(best.values()))
    everyone(partial(do, folder, rule), PLAN, n_processes)
    collect(folder, rule)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
