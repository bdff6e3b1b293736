"""The plot of the training step's tables: ours beside the best peer, drawn from the page itself.

python -m benchmarks.training_plot      after benchmarks.training_run
"""

import re
from pathlib import Path

from benchmarks.page import PAGE

FIGURE = PAGE.parent / "_static" / "figures" / "training_speed.png"
TABLES = [
    (size, way, p) for size in "SM" for way in ("compiled", "eager") for p in ("bf16", "fp32")
]
KINDS = ("GPT-2", "Llama")
MEMORY_KEPT = "memory kept"  # what is added to the name of a program that keeps its memory


def rates(page: str, section: str) -> dict[str, float]:
    """Tokens a second of each program in a table of the page.

    >>> rows = "| program | ms a step | tokens/s |\\n|:---|---:|---:|\\n| ours | 2 | 1,024 |"
    >>> rates(f"<!-- begin a -->\\n{rows}\\n<!-- end a -->", "a")
    {'ours': 1024.0}
    """
    found = re.search(f"<!-- begin {section} -->(.*?)<!-- end {section} -->", page, re.DOTALL)
    rows = re.findall(r"^\| (.+?) \| [\d,.]+ \| ([\d,]+) \|", found[1], re.MULTILINE)
    return {name: float(number.replace(",", "")) for name, number in rows}


def times_as_fast(found: dict[str, float], kind: str, how: str = "") -> float | None:
    """Our rate divided by the best peer's, both with memory kept or both as they come.

    `how` is "" or `MEMORY_KEPT`. None: not measured.

    >>> found = {"Llama, ours": 3.0, "Llama, LitGPT": 2.0, "GPT-2, ours": 9.0}
    >>> times_as_fast(found, "Llama"), times_as_fast(found, "Llama", MEMORY_KEPT)
    (1.5, None)
    """
    same = {name: rate for name, rate in found.items() if name.endswith(MEMORY_KEPT) == bool(how)}
    peers = [rate for name, rate in same.items() if name.startswith(kind) and "ours" not in name]
    mine = ", ".join(filter(None, (kind, "ours", how)))
    return same[mine] / max(peers) if peers else None


def draw(page: str, figure: Path) -> None:
    """A row for each table, two dots for each architecture, and a line where both are as fast."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from transformer_lessons.support.plotting import MUTED, use_book_style

    names = [f"{size}, {way}, {precision}" for size, way, precision in TABLES]
    tables = [rates(page, "training-" + "-".join(parts)) for parts in TABLES]
    with mpl.rc_context():
        use_book_style()
        drawing = Figure(figsize=(7.2, 3.6))
        axes = drawing.add_subplot()
        for number, (kind, marker) in enumerate(zip(KINDS, "os", strict=True)):
            heights = [row - 0.12 + 0.24 * number for row in range(len(tables))]
            for how, style in (("", {"markerfacecolor": "none"}), (MEMORY_KEPT, {})):
                found = [times_as_fast(table, kind, how) for table in tables]
                label = f"{kind}, {how or 'as it comes'}"
                axes.plot(found, heights, marker, color=f"C{number}", label=label, **style)
        axes.set_yticks(range(len(names)), names)
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(xlabel="ours: times as fast as the best peer in the same setting", xlim=(0, 2.1))
        axes.invert_yaxis()
        axes.legend(loc="lower left", fontsize=9)
        drawing.savefig(figure)


if __name__ == "__main__":
    draw(PAGE.read_text(encoding="utf-8"), FIGURE)
