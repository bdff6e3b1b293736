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


def rates(page: str, section: str) -> dict[str, float]:
    """Tokens a second of each program in a table of the page.

    >>> rows = "| program | ms a step | tokens/s |\\n|:---|---:|---:|\\n| ours | 2 | 1,024 |"
    >>> rates(f"<!-- begin a -->\\n{rows}\\n<!-- end a -->", "a")
    {'ours': 1024.0}
    """
    found = re.search(f"<!-- begin {section} -->(.*?)<!-- end {section} -->", page, re.DOTALL)
    rows = re.findall(r"^\| (.+?) \| [\d,.]+ \| ([\d,]+) \|", found[1], re.MULTILINE)
    return {name: float(number.replace(",", "")) for name, number in rows}


def times_as_fast(found: dict[str, float], kind: str) -> float:
    """Our rate, memory kept as `train` has it, divided by the best peer's as it comes.

    >>> times_as_fast({"Llama, ours": 3.0, "Llama, LitGPT": 2.0, "GPT-2, ours": 9.0}, "Llama")
    1.5
    """
    ours, kept = f"{kind}, ours", "memory kept"
    same = [name for name in found if name.startswith(kind) and "ours" not in name]
    best = max(found[name] for name in same if kept not in name)
    return found.get(f"{ours}, {kept}", found.get(ours, 0.0)) / best


def draw(page: str, figure: Path) -> None:
    """A row for each table, a dot for each architecture, and a line where both are as fast."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from transformer_lessons.support.plotting import MUTED, use_book_style

    names = [f"{size}, {way}, {precision}" for size, way, precision in TABLES]
    tables = [rates(page, "training-" + "-".join(parts)) for parts in TABLES]
    with mpl.rc_context():
        use_book_style()
        drawing = Figure(figsize=(7.2, 3.4))
        axes = drawing.add_subplot()
        for kind, marker, shift in zip(KINDS, "os", (-0.12, 0.12), strict=True):
            heights = [row + shift for row in range(len(tables))]
            axes.plot([times_as_fast(t, kind) for t in tables], heights, marker, label=kind)
        axes.set_yticks(range(len(names)), names)
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(xlabel="ours: times as fast as the best peer", xlim=(0, 2))
        axes.invert_yaxis()
        axes.legend()
        drawing.savefig(figure)


if __name__ == "__main__":
    draw(PAGE.read_text(encoding="utf-8"), FIGURE)
