"""What training looks like in a terminal: progress, the loss as a curve, and what the model writes.

Where the output is not a terminal, a plain line every tenth of the way says the same.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import progress
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from transformer_lessons.cli import PlainConsole
from transformer_lessons.support.plotting import STYLE

if TYPE_CHECKING:  # the demo's refusals don't wait for PyTorch
    from transformer_lessons.training.trainer import StepReport

REFRESHES = 40  # how often, in a whole run, the curve and the sample are drawn anew
CURVE_WIDTH, CURVE_HEIGHT = 48, 9
REFRESH, PAUSE = 0.2, 10.0  # seconds between two progress lines: in a terminal, and elsewhere


@contextmanager
def progress_line(console: PlainConsole) -> Iterator[Callable[..., None]]:
    """`with progress_line(console) as show: show("half of it")`; it may be called at any rate."""
    shown = time.perf_counter()

    def show(line: str, keep: bool = False) -> None:
        nonlocal shown
        pause = REFRESH if console.is_terminal else PAUSE
        if keep or (not console.is_terminal and time.perf_counter() - shown >= pause):
            console.print(line)
        elif time.perf_counter() - shown >= pause:
            status.update(line)
        else:
            return
        shown = time.perf_counter()

    with console.status("…") as status:
        yield show


class TrainingDisplay:
    """Shows a run of `steps` steps. Use it as a context manager and as `on_step` of a `Trainer`.

    `sample()` is asked now and then for what the model writes; `levels` are losses to mark;
    `losses` are those of the steps before, if the run goes on with an earlier one.
    """

    def __init__(
        self, console: Console, steps: int, sample: Callable[[], str], levels: dict[str, float],
        pause: float = 0.0, losses: Sequence[float] = (),
    ) -> None:  # fmt: skip
        self.console, self.steps, self.sample = console, steps, sample
        self.levels, self.pause, self.losses = levels, pause, list(losses)
        self.validation, self.seconds, self.n_targets, self.n_skipped = "", 0.0, 0, 0
        self.progress = progress.Progress(
            progress.TextColumn("step"), progress.MofNCompleteColumn(),
            progress.BarColumn(bar_width=24), progress.TextColumn("{task.fields[facts]}"),
            progress.TimeRemainingColumn(compact=True), console=console,
        )  # fmt: skip
        self.progress.add_task("training", total=steps, facts="")
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "TrainingDisplay":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def __call__(self, report: "StepReport", more: Mapping[str, Any] | None = None) -> None:
        self.losses.append(report.loss)
        self.seconds += report.seconds
        self.n_targets += report.n_targets
        self.n_skipped += report.skipped
        if more:
            self.validation = f", held out {report.validation:.4f}{' (best)' * report.is_best}"
            self.validation += f", perplexity {more['perplexity']:,.1f}"
            self.validation += f", {more['bits_per_byte']:.3f} bits per byte"
        every = max(self.steps // (REFRESHES if self.console.is_terminal else 10), 1)
        is_rare = report.step % every != 0 and report.validation is None
        if report.step not in (1, self.steps) and is_rare:
            return
        written = more["sample"] if more else self.sample()
        speed = f"{self.n_targets / self.seconds:,.0f} tokens/s"
        if self.n_skipped:
            speed += f", steps left out: {self.n_skipped} (fp16)"
        if self.console.is_terminal:
            self.progress.update(progress.TaskID(0), completed=report.step, facts=f"{speed}, left")
            self.live.update(self.picture(written), refresh=True)
            time.sleep(self.pause)
        else:
            line = f"step {report.step:>5}/{self.steps}  loss {report.loss:.4f}"
            print(f"{line}{self.validation}  {speed}  {written}", flush=True)

    def picture(self, sample: str) -> Group:
        """The whole display: progress, loss curve, and what the model writes."""
        curve = Text(loss_curve(self.losses, self.steps, self.levels))
        written = Text(sample, style="bold", no_wrap=True, overflow="ellipsis")
        panels = {f"loss, in nats{self.validation}": curve, "it writes": written}
        boxes = [Panel(text, title=title, title_align="left") for title, text in panels.items()]
        return Group(self.progress, *boxes)


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


def save_curve(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the losses of a run's log, in training and on held-out text, as an SVG picture."""
    from matplotlib import style  # here, because it takes a while
    from matplotlib.figure import Figure

    judged = [line for line in log if line["validation"] is not None]
    with style.context([STYLE, {"svg.hashsalt": "loss"}]):  # the same picture for the same log
        figure = Figure()
        axes = figure.subplots()
        axes.plot([line["step"] for line in log], [line["loss"] for line in log], label="training")
        if judged:
            points = ([line[name] for line in judged] for name in ("step", "validation"))
            axes.plot(*points, marker="o", label="held out")
        axes.set(xlabel="step", ylabel="loss, in nats per token", ylim=(0, None))
        axes.legend()
        figure.savefig(path, metadata={"Date": None})


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
