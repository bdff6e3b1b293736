"""A Sphinx extension: docstrings for the reference, ids for exercises, fewer icons.

Links to the glossary and to the repository, and the search, are made in modules of their own.
"""

import re
from pathlib import Path
from typing import Any

import glossary_links
import repository
import search_texts
from docutils import nodes

ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", leave_out_rules)
    app.connect("doctree-read", name_exercises)
    app.connect("build-finished", drop_icons)
    glossary_links.setup(app)
    repository.setup(app)
    search_texts.setup(app)  # after exercises have ids
    return {"parallel_read_safe": False, "env_version": 2}


def escape_bars(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: Any) -> None:
    """In |A ∩ B|, a bar is a bar; reStructuredText would look for a substitution called A ∩ B."""
    shown = lambda line: line if line.lstrip().startswith(">>>") else line.replace("|", "\\|")  # noqa: E731
    lines[:] = map(shown, lines)


def leave_out_rules(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str, result: str
) -> tuple[str, str]:
    """The rule of a config's field is for programs: `Annotated[int, Allowed(…)]` reads as `int`.

    And a default such as `<function stream>` or `<factory>` keeps Sphinx from reading the rest.
    """
    shown = re.sub(r"Annotated\[([^,]+), .*?<lambda>\)\]", r"\1", signature or "")
    shown = re.sub(r"<function [\w.]*<lambda>>|<factory>", "...", shown)
    return re.sub(r"<function ([\w.]+)>", r"\1", shown), result


def name_exercises(_app: Any, doctree: nodes.document) -> None:
    """Give each exercise's box an id, such as exercise-1-2, for links that lead to it."""
    for box in doctree.findall(nodes.admonition):
        title = re.match(r"Exercise (\d+\.\d+) ·", box.next_node(nodes.title).astext())
        if title:
            box["ids"].append(anchor(title[1]))


def anchor(number: str) -> str:
    """The id of the box of an exercise.

    >>> anchor("1.10")
    'exercise-1-10'
    """
    return f"exercise-{number.replace('.', '-')}"


def drop_icons(app: Any, error: Exception | None) -> None:
    """Take the icons that no page shows out of the theme's 1.5 MB of them."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if error is not None or not script.exists():
        return
    files = [*script.parents[2].rglob("*.html"), *script.parents[1].rglob("*.js")]
    used = {"question", "circle-question"}  # what it shows for an icon that it doesn't have
    for path in files:
        if path != script:
            used |= set(re.findall(r"\bfa-([a-z0-9-]+)", path.read_text("utf-8", errors="ignore")))

    def kept(found: re.Match[str]) -> str:
        names = {found[1], *re.findall(r'"([a-z0-9-]+)"', found[2])}
        return found[0] if names & used else ""

    script.write_text(ICON.sub(kept, script.read_text("utf-8")), encoding="utf-8")
