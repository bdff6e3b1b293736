"""The drawn map of the lessons on the first page: an arrow from what is needed to what needs it.

The arrows are read from the line "**Needs:**" at the head of each lesson. `publish.py` writes it.
"""

import re
from html import escape
from pathlib import Path
from textwrap import wrap

from notebook_files import ROOT, notebook_paths, read_notebook

PARTS = {"Start": 1, "Text": 2, "The model": 5, "Training": 11, "Generation": 17}
PARTS |= {"Real models": 20, "Inside": 24}  # a part's name, and its first lesson
BOX, STEP, ROW = (138, 46), (156, 96), 18  # width and height; from box to box; the height of a name


def lessons(root: Path = ROOT) -> dict[int, tuple[str, str, set[int]]]:
    """For each lesson: its file without suffix, its short title, and the lessons that it needs."""
    found = {}
    for path in notebook_paths(root):
        head = "\n".join(cell.source for cell in read_notebook(path).cells[:2])
        number, title = re.findall(r"^# (\d+) · ([^:\n]*)", head)[0]
        found[int(number)] = path.stem, title, needed(re.findall(r"\*\*Needs:\*\* (.*)", head)[0])
    return found


def needed(text: str) -> set[int]:
    """The lessons that a line "Needs" names.

    >>> sorted(needed("[lesson 1](01.ipynb), and lessons 5 to 7 and 9. The model of lesson 13."))
    [1, 5, 6, 7, 9, 13]
    """
    numbers: set[int] = set()
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links, to their words
    for phrase in re.findall(
        r"lessons? (\d+(?:(?:, and |, | and | to )\d+)*)", text, re.IGNORECASE
    ):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", phrase):
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def direct(needs: dict[int, set[int]]) -> list[tuple[int, int]]:
    """The arrows (needed, lesson) that no longer way through other lessons already shows.

    >>> direct({1: set(), 2: {1}, 3: {1, 2}})
    [(1, 2), (2, 3)]
    """
    everything: dict[int, set[int]] = {}
    for lesson in sorted(needs):
        nearer = (everything.get(need, set()) for need in needs[lesson])
        everything[lesson] = needs[lesson].union(*nearer)
    return [
        (need, lesson)
        for lesson in sorted(needs)
        for need in sorted(needs[lesson])
        if not any(need in everything.get(other, set()) for other in needs[lesson])
    ]


def draw(root: Path = ROOT) -> str:
    """The map as SVG that stands in the page itself, and so has its colours and links."""
    found, names = lessons(root), []
    places: dict[int, tuple[int, int]] = {}
    starts = [*PARTS.values(), 1000]
    for row, (name, start) in enumerate(PARTS.items()):
        inside = [number for number in found if start <= number < starts[row + 1]]
        y = row * STEP[1]
        names.append(f'<text class="tl-map-part" x="2" y="{y + 12}">{name}</text>')
        places |= {number: (2 + i * STEP[0], y + ROW) for i, number in enumerate(inside)}
    needs = {number: need & set(found) for number, (_, _, need) in found.items()}
    arrows = [f'<path d="{curve(places[a], places[b])}"/>' for a, b in direct(needs)]
    boxes = [box(number, places[number], found[number]) for number in found]
    width = max(x for x, _ in places.values()) + BOX[0] + 2
    height = max(y for _, y in places.values()) + BOX[1] + 2
    what = "A map of the lessons. Arrows lead from what is needed to what needs it."
    size = f'viewBox="0 0 {width} {height}" style="min-width: {width * 3 // 4}px"'
    head = (
        f'<div class="tl-map-scroll"><svg class="tl-map" {size} role="group" aria-label="{what}">'
    )
    tip = '<marker id="tl-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
    tip += ' orient="auto"><path d="M0 0 8 4 0 8z"/></marker>'
    return "\n".join([head, f"<defs>{tip}</defs>", *arrows, *names, *boxes, "</svg></div>"]) + "\n"


def curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    """A path from one box to another: to the right in the same row, else down or up."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1 and x1 - x0 == STEP[0]:
        return f"M{x0 + BOX[0]} {y0 + BOX[1] // 2}H{x1}"
    if y0 == y1:  # over the boxes in between
        x0, x1, top = x0 + BOX[0] - 20, x1 + 20, y0 - 16
        return f"M{x0} {y0}C{x0} {top} {x1} {top} {x1} {y0}"
    x0, x1, bend = x0 + BOX[0] // 2, x1 + 2 * BOX[0] // 3, 40  # beside the name of the part
    if y0 > y1:
        x0, y1, bend = x0 + BOX[0] // 4, y1 + BOX[1], -40
    else:
        y0 += BOX[1]
    return f"M{x0} {y0}C{x0} {y0 + bend} {x1} {y1 - bend} {x1} {y1}"


def box(number: int, place: tuple[int, int], lesson: tuple[str, str, set[int]]) -> str:
    """A lesson's box, a link to it; its title takes two lines at most."""
    (x, y), (file, title, _) = place, lesson
    lines = wrap(f"{number} · {title}", 18, max_lines=2, placeholder=" …")
    y0 = y + BOX[1] // 2 + (5 if len(lines) == 1 else -3)
    text = "".join(
        f'<tspan x="{x + 9}" y="{y0 + 16 * i}">{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    rect = f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="5"/>'
    name = escape(f"Lesson {number}: {title}", quote=True)
    return f'<a href="../notebooks/{file}.html" aria-label="{name}">{rect}<text>{text}</text></a>'
