"""A Sphinx extension: docstrings for the reference, texts that the search shows, fewer icons.

Links to the glossary and to the repository are made in modules of their own.

Sphinx's search fetches each page that it found to show a few words of it, and a page that was
opened from the disk may not fetch. So the texts are put into a script that the search page loads.
"""

import json
import re
from pathlib import Path
from typing import Any

import glossary_links
import repository
from docutils import nodes

TEXTS = "search_texts.js"
ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')
Section = tuple[str, str, str]  # its id, its title, its text without the sections inside


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", leave_out_rules)
    app.connect("doctree-read", keep_texts)
    app.connect("doctree-read", name_exercises)
    app.connect("env-purge-doc", forget_texts)
    app.connect("html-page-context", load_texts)
    app.connect("build-finished", write_texts)
    app.connect("build-finished", drop_icons)
    glossary_links.setup(app)
    repository.setup(app)
    return {"parallel_read_safe": False, "env_version": 1}


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


def texts_of(doctree: nodes.document) -> list[Section]:
    """The sections of a page, from the top, with what a reader sees in each."""
    unseen = (nodes.section, nodes.raw, nodes.comment, nodes.title)
    found = []
    for section in doctree.findall(nodes.section):
        parts = [child.astext() for child in section if not isinstance(child, unseen)]
        title = section.next_node(nodes.title)
        text = " ".join(" ".join(parts).split())
        found.append((section["ids"][0], title.astext() if title else "", text))
    return found


def keep_texts(app: Any, doctree: nodes.document) -> None:
    """Keep a page's texts with what Sphinx keeps of it from build to build."""
    app.env.tl_texts = getattr(app.env, "tl_texts", {}) | {app.env.docname: texts_of(doctree)}


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


def forget_texts(_app: Any, env: Any, name: str) -> None:
    """Forget a page that has gone or is read again."""
    getattr(env, "tl_texts", {}).pop(name, None)


def load_texts(app: Any, name: str, _template: str, _context: Any, _doctree: Any) -> None:
    """Let the search page, and no other, load the texts."""
    if name == "search":
        for script in (TEXTS, "search_sections.js"):
            app.add_js_file(script)


def write_texts(app: Any, error: Exception | None) -> None:
    """Write the script."""
    if error is None and app.builder.format == "html":
        texts = json.dumps(app.env.tl_texts, ensure_ascii=False, sort_keys=True)
        script = f"window.TransformerLessonsTexts = {texts};\n"
        (Path(app.outdir) / "_static" / TEXTS).write_text(script, encoding="utf-8")


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
