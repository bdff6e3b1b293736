"""What the search finds: every section, entry of the glossary, exercise and name, with its text.

A page that was opened from the disk may not fetch others, so the texts of the whole book are put
into a script that the search page loads; `search_sections.js` searches them there.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

TEXTS = "search_texts.js"
UNSEEN = (nodes.raw, nodes.comment, nodes.substitution_definition, addnodes.index)
# A listing's imports name what other places are about.
IMPORTS = re.compile(r"^(?:from \S+ )?import (?:\([^)]*\)|.*)$|^use\(.*$", re.MULTILINE)
Place = tuple[str, str, str, str]  # its id, its title, its text without places inside, its code


def setup(app: Any) -> None:
    """Called by the extension, after it has given exercises their ids."""
    app.connect("doctree-read", keep_texts)
    app.connect("env-purge-doc", forget_texts)
    app.connect("html-page-context", load_texts)
    app.connect("build-finished", write_texts)


def head_of(node: nodes.Node) -> tuple[str, str] | None:
    """The id and the title of what a result can lead to; None for any other node."""
    if isinstance(node, addnodes.desc):
        head = node.next_node(addnodes.desc_signature)
        title = head.get("fullname", "")
    elif isinstance(node, nodes.definition_list_item):
        head = node.next_node(nodes.term)
        title = seen(head)
    elif isinstance(node, nodes.section | nodes.admonition):
        head, title = node, seen(node.next_node(nodes.title) or nodes.title())
    else:
        return None
    return (head["ids"][0], title) if head["ids"] else None


def seen(node: nodes.Node) -> str:
    """The text of a paragraph, without HTML that is written in it and keys of the bibliography."""
    if isinstance(node, addnodes.desc_signature):
        return str(node.astext())
    text = "".join(part for part in node.findall(nodes.Text) if not is_unseen(part.parent))
    return re.sub(r" (?=[.,;:)](?: |$))", "", text)  # what a key stood between


def is_unseen(node: nodes.Node) -> bool:
    """Whether a text right inside this node is HTML, or a key such as `vaswani2017`."""
    if isinstance(node.parent, addnodes.pending_xref):
        node = node.parent
    return isinstance(node, nodes.raw) or node.get("refdomain") == "cite"


def pieces(node: nodes.Node) -> Iterator[nodes.Node]:
    """The paragraphs and blocks of code below a node, but for those of places inside it."""
    titled = head_of(node) is not None
    for child in node.children:
        if isinstance(child, UNSEEN) or head_of(child) is not None:
            continue
        if titled and isinstance(child, nodes.title | nodes.term):
            continue
        if isinstance(child, nodes.TextElement):
            yield child
        else:
            yield from pieces(child)


def texts_of(doctree: nodes.document) -> list[Place]:
    """The places of a page, in their order, with what a reader sees in each."""
    found = []
    for node in doctree.findall(nodes.Element):
        head = head_of(node)
        if head is None:
            continue
        parts: tuple[list[str], list[str]] = [], []
        for piece in pieces(node):
            if isinstance(piece, nodes.literal_block):
                parts[1].append(IMPORTS.sub("", piece.astext()))
            else:
                parts[0].append(seen(piece))
        prose, code = (" ".join(" ".join(part).split()) for part in parts)
        found.append((*head, prose, code))
    return found


def keep_texts(app: Any, doctree: nodes.document) -> None:
    """Keep a page's texts with what Sphinx keeps of it from build to build."""
    app.env.tl_texts = getattr(app.env, "tl_texts", {}) | {app.env.docname: texts_of(doctree)}


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
