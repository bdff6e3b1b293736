"""Continuing texts: who is measured against whom. Writes its tables into book/benchmarks.md.

python -m benchmarks.decoding_run           all tables, medians of 5 rounds
python -m benchmarks.decoding_run --tiny    the same on a very small model, printed, not written
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import measure_sections
from benchmarks.contest import Contestant, Results, run_contest
from benchmarks.decoding import same_texts
from benchmarks.machine import describe_machine
from benchmarks.page import PAGE, table
from benchmarks.summary import middle_and_range, ratios
from benchmarks.training_run import LITGPT, PACKAGES, WITHOUT_LITGPT

FIGURE = PAGE.parent / "_static" / "figures" / "decoding.png"
MODULE = "benchmarks.decoding"
HEADER = ["program", "ms a step", "tokens/s", "CPU ms", "time ÷ best peer's", "CPU ÷ best peer's"]
# Of each size: tokens in the context, in a prompt, and made.
DECODED = {"S": (128, 16, 112), "M": (128, 16, 112), "tiny": (32, 4, 8)}
READ = {"S": (128, 112, 1), "M": (512, 448, 1), "tiny": (32, 24, 1)}
LONG = {"S": (576, 16, 512), "tiny": (32, 4, 24)}

WAYS = {  # ours
    "without a cache": {"cached": False},
    "with a cache": {},
    "with a cache, compiled": {"compiled": True},
}
FIGURE_IN_PAGE = """\
```{figure} _static/figures/decoding.png
:alt: Milliseconds for one more token against the length of the sequence. Without a cache the \
curve rises steeply; with one it is almost flat, and lowest if the model is compiled.
:width: 100%

What one more token costs: S, one sequence, one thread.
```

"""


def task(size: str, n_texts: int, lengths: tuple[int, int, int]) -> dict[str, Any]:
    """The arguments that all contestants have in common."""
    names = ("context_length", "n_prompt", "n_new")
    return {"size": size, "n_texts": n_texts, **dict(zip(names, lengths, strict=True))}


def rivals(work: Mapping[str, Any], compiled: bool) -> list[Contestant]:
    """Who continues the texts, each with one thread; what isn't ours is a peer."""
    how = "compiled" if compiled else "eager"
    caches = ("static",) if compiled else ("dynamic", "static")
    work = {**work, "compiled": compiled}
    found = [
        Contestant(f"transformers, {cache}, {how}", MODULE, "huggingface", work | {"cache": cache})
        for cache in caches
    ]
    if LITGPT.is_file():
        python = {"python": str(LITGPT)}
        found.append(Contestant(f"LitGPT, {how}", MODULE, "litgpt", work, **python))
    return [*found, Contestant(f"ours, {how}", MODULE, "ours", work)]


def rows_of(results: Mapping[str, Results], n_texts: int, n_new: int) -> list[list[str]]:
    """A row for each contestant. The best peer is the one whose median is least."""

    def middle(name: str) -> float:
        return median(run.wall for run in results[name].runs)

    best = results[min((name for name in results if "ours" not in name), key=middle)].runs
    return [
        [
            name,
            f"{1000 * middle(name) / n_new:,.2f}",
            f"{n_texts * n_new / middle(name):,.0f}",
            f"{1000 * median(run.cpu for run in result.runs) / n_new:,.2f}",
            middle_and_range(ratios("wall", result.runs, best)),
            f"{median(ratios('cpu', result.runs, best)):.2f}",
        ]
        for name, result in results.items()
    ]


def contest_table(
    size: str, n_texts: int, lengths: tuple[int, int, int], n_rounds: int, ways: Sequence[bool]
) -> str:
    """All contestants in one table; `ways` says whether eager (False), compiled (True), or both."""
    work = task(size, n_texts, lengths)
    contestants = [one for compiled in ways for one in rivals(work, compiled)]
    results = run_contest(contestants, n_rounds, same_texts)
    rows = rows_of(results, n_texts, lengths[2])
    return table(HEADER, rows) + ("" if LITGPT.is_file() else f"\n\n{WITHOUT_LITGPT}")


def cache_table(size: str, n_rounds: int) -> str:
    """Ours alone: without a cache, with one, and compiled."""
    work = task(size, 1, LONG[size])
    contestants = [Contestant(name, MODULE, "ours", work | how) for name, how in WAYS.items()]
    results = run_contest(contestants, n_rounds, same_texts)
    first, n_new = results["without a cache"].runs, work["n_new"]
    rows = []
    for name, result in results.items():
        seconds = median(run.wall for run in result.runs)
        times_as_fast = middle_and_range(ratios("wall", first, result.runs))
        rows.append([name, f"{1000 * seconds / n_new:,.2f}", times_as_fast])
    return table(["ours", "ms a token", "times as fast"], rows)


def length_table(size: str, n_new: int, n_apart: int, n_rounds: int, figure: Path | None) -> str:
    """What one more token costs after so many; a plot of it goes into `figure`, if there is one."""
    work = {"size": size, "n_new": n_new, "n_apart": n_apart}
    contestants = [
        Contestant(name, MODULE, "ours_by_length", work | how) for name, how in WAYS.items()
    ]
    results = run_contest(contestants, n_rounds, same=lambda expected, found: True)
    curves = {name: middle_curve([run.result for run in r.runs]) for name, r in results.items()}
    lengths = range(n_apart, n_new + 1, n_apart)
    rows = [
        [str(n), *(f"{ms:,.2f}" for ms in some)]
        for n, *some in zip(lengths, *curves.values(), strict=True)
    ]
    found = table(["up to this many tokens", *(f"ms, {name}" for name in curves)], rows)
    if figure is not None:
        draw_curves(lengths, curves, figure)
        found = FIGURE_IN_PAGE + found
    return found


def middle_curve(runs: Sequence[Sequence[float]]) -> list[float]:
    """At each place the median of all runs, in milliseconds.

    >>> middle_curve([[0.001, 0.004], [0.003, 0.004], [0.002, 0.005]])
    [2.0, 4.0]
    """
    return [1000 * median(figures) for figures in zip(*runs, strict=True)]


def draw_curves(
    lengths: Sequence[int], curves: Mapping[str, Sequence[float]], figure: Path
) -> None:
    """Milliseconds of a token against the length of the text, both axes from 0."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from transformer_lessons.support.plotting import use_book_style

    with mpl.rc_context():
        use_book_style()
        drawing = Figure()
        axes = drawing.add_subplot()
        for (name, curve), style in zip(curves.items(), ("-", "--", ":"), strict=True):
            axes.plot(lengths, curve, style, label=name)
        axes.set(xlabel="tokens in the text", ylabel="ms for one more", xlim=0, ylim=0)
        axes.legend(loc="upper left")
        drawing.savefig(figure)


def sections(tiny: bool) -> dict[str, Callable[[], str]]:
    """Each section's name in the page, and what measures its new content."""
    n_rounds = 1 if tiny else 5
    found = {"decoding-machine": lambda: describe_machine(PACKAGES, n_threads=1)}
    for name in ("S", "M"):
        size = "tiny" if tiny else name
        for n_texts in (1, 8):
            arguments = (size, n_texts, DECODED[size], n_rounds, (False, True))
            found[f"decoding-{name}-{n_texts}"] = partial(contest_table, *arguments)
        arguments = (size, 1, READ[size], n_rounds, (False,))
        found[f"decoding-{name}-prefill"] = partial(contest_table, *arguments)
    size, n_new, n_apart = ("tiny", 24, 8) if tiny else ("S", 512, 32)
    figure = None if tiny else FIGURE
    found["decoding-cache"] = partial(cache_table, size, n_rounds)
    found["decoding-length"] = partial(length_table, size, n_new, n_apart, n_rounds, figure)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for, and write each into the page as soon as it is there."""
    measure_sections("Measure the continuing of texts.", sections, arguments)


if __name__ == "__main__":
    main()
