"""What training looks like in a terminal: progress, the loss as a curve, and what the model writes.

Where the output is not a terminal, a plain line every tenth of the way says the same.
"""

import math
import time
from collections.abc import Callable, Sequence

import psutil
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from transformer_lessons.training.trainer import StepReport

REFRESHES = 40  # how often, in a whole run, the curve and the sample are drawn anew
CURVE_WIDTH, CURVE_HEIGHT = 48, 9


class TrainingDisplay:
    """Shows a run of `steps` steps. Use it as a context manager and as `on_step` of a `Trainer`.

    `sample()` is asked now and then for what the model writes; `levels` are losses to mark;
    `losses` are those of the steps before, if the run goes on with an earlier one.
    """

    def __init__(
        self,
        console: Console,
        steps: int,
        sample: Callable[[], str],
        levels: dict[str, float],
        pause: float = 0.0,
        losses: Sequence[float] = (),
    ) -> None:
        self.console, self.steps, self.sample = console, steps, sample
        self.levels, self.pause = levels, pause
        self.losses = list(losses)
        self.validation = ""  # the last look at the held-out text, in words
        self.seconds, self.n_targets = 0.0, 0
        self.progress = progress_line(console, steps)
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "TrainingDisplay":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, report: StepReport) -> None:
        self.losses.append(report.loss)
        self.seconds += report.seconds
        self.n_targets += report.n_targets
        if report.validation is not None:
            self.validation = f", held out {report.validation:.4f}{' (best)' * report.is_best}"
        every = max(self.steps // (REFRESHES if self.console.is_terminal else 10), 1)
        is_rare = report.step % every != 0 and report.validation is None
        if report.step not in (1, self.steps) and is_rare:
            return
        rate = self.n_targets / self.seconds
        if self.console.is_terminal:
            facts = f"{rate:,.0f} tokens/s, {memory_in_use()}{self.validation}, left"
            self.progress.update(TaskID(0), completed=report.step, facts=facts)
            curve = loss_curve(self.losses, self.steps, self.levels)
            self.live.update(picture(self.progress, curve, self.sample()), refresh=True)
            time.sleep(self.pause)
        else:
            line = f"step {report.step:>5}/{self.steps}  loss {report.loss:.4f}"
            print(f"{line}{self.validation}  {rate:,.0f} tokens/s  {self.sample()}", flush=True)


def progress_line(console: Console, steps: int) -> Progress:
    """Steps done, a bar, facts such as tokens per second, and the time left."""
    progress = Progress(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    progress.add_task("training", total=steps, facts="")
    return progress


def memory_in_use() -> str:
    """What this process holds, and what it holds on the GPU, if there is one."""
    used = f"{psutil.Process().memory_info().rss / 1e6:,.0f} MB"
    if torch.cuda.is_available():
        used += f" (GPU {torch.cuda.memory_allocated() / 1e6:,.0f} MB)"
    return used


def picture(progress: Progress, curve: str, sample: str) -> Group:
    """The whole display: progress, loss curve, and what the model writes."""
    written = Text(sample, style="bold", no_wrap=True, overflow="ellipsis")
    return Group(
        progress,
        Panel(Text(curve), title="loss, in nats", title_align="left"),
        Panel(written, title="it writes", title_align="left"),
    )


def loss_curve(losses: Sequence[float], steps: int, levels: dict[str, float]) -> str:
    """The losses so far as lines of text; `levels` are marked at the right with their names.

    >>> print(loss_curve([3.0, 2.0, 1.0, 0.0], steps=4, levels={"nothing": 3.0})[:8])
    ●●●●●●●●
    """
    top = max([*losses, *levels.values()])
    height = CURVE_HEIGHT - 1
    rows = [[" "] * CURVE_WIDTH for _ in range(CURVE_HEIGHT)]
    names = [""] * CURVE_HEIGHT
    for name, level in levels.items():
        row = height - round(height * level / top)
        rows[row] = ["·"] * CURVE_WIDTH
        names[row] = f" {name}"
    for column in range(min(CURVE_WIDTH, math.ceil(len(losses) / steps * CURVE_WIDTH))):
        loss = losses[min(column * steps // CURVE_WIDTH, len(losses) - 1)]
        rows[height - round(height * max(loss, 0.0) / top)][column] = "●"
    return "\n".join("".join(row) + name for row, name in zip(rows, names, strict=True))


def visible(data: bytes) -> str:
    """Bytes as one line of text: what is not printable becomes a dot.

    >>> visible(b"ab\\x00\\n")
    'ab··'
    """
    text = data.decode("utf-8", errors="replace").replace("\ufffd", "·")
    return "".join(character if character.isprintable() else "·" for character in text)


def sanitize(text: str) -> str:
    """Text without the control characters that a terminal would obey (bytes may say anything).

    >>> sanitize("a\\x1b[2J\\n")
    'a·[2J\\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


def bar(share: float, width: int = 20) -> str:
    """A share from 0 to 1 as a bar of characters.

    >>> bar(0.5, width=4)
    '██░░'
    """
    full = round(share * width)
    return "█" * full + "░" * (width - full)
