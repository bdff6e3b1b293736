"""Tables, and their places in the page: each stands between two markers, and is replaced alone."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "book" / "benchmarks.md"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers.

    >>> print(table(["who", "seconds"], [["ours", "1.5"]]))
    | who | seconds |
    |:---|---:|
    | ours | 1.5 |
    """
    rule = "|:---|" + "---:|" * (len(header) - 1)
    lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
    return "\n".join([lines[0], rule, *lines[1:]])


def replace_between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the markers called `name`; `ValueError` unless there is one.

    >>> print(replace_between("<!-- begin a -->\\nold\\n<!-- end a -->", "a", "new"))
    <!-- begin a -->
    <BLANKLINE>
    new
    <BLANKLINE>
    <!-- end a -->
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", text, flags=re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"{len(found)} places marked {begin} … {end}; there must be one")
    return text.replace(found[0], f"{begin}\n\n{content.strip()}\n\n{end}")


def write_section(name: str, content: str, page: Path = PAGE) -> None:
    """Replace the section `name` of the page, and nothing else."""
    page.write_text(replace_between(page.read_text("utf-8"), name, content), encoding="utf-8")
