"""Terms of the glossary, linked where a lesson first uses them; `glossary.js` shows what they mean.

Links are made when the book is built, so that lessons are written without them. A `{term}` that an
author has written stays where it is, and its term gets no second link.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from search_texts import Place

GLOSSARY, LESSONS, SCRIPT = "book/glossary", "notebooks/", "glossary_terms.js"
MOST = 25  # terms that a lesson links: of more, those that the fewest lessons use
# Words that lessons use in an everyday sense, or in several.
EVERYDAY = frozenset(
    {"advantage", "atomic", "baseline", "block", "byte", "collective", "decode", "decoder"}
    | {
        "document",
        "draft",
        "fused",
        "gate",
        "head",
        "heap",
        "hook",
        "kernel",
        "key",
        "leash",
        "mask",
        "merge",
    }
    | {
        "normalization",
        "padding",
        "patience",
        "policy",
        "preference",
        "preset",
        "query",
        "rank",
        "resume",
    }
    | {"reward", "schedule", "sequence", "shard", "split", "stream", "surrogate", "value"}
)
ACRONYM = re.compile(r"\(([A-Z]{3,})\)")
FULL_NAME = re.compile(r"([A-Z])([\w-]*(?: [\w-]+){1,3}): ")  # of an abbreviation
UNLINKED = (
    *(nodes.literal, nodes.literal_block, nodes.math, nodes.math_block),
    *(nodes.reference, nodes.footnote_reference, nodes.title, nodes.raw),
)
Terms = dict[str, tuple[str, str]]  # a term: its id in the glossary's page, and its definition


def setup(app: Any) -> None:
    """Called by `book_extension`."""
    app.connect("env-get-outdated", lessons_follow_the_glossary)
    app.connect("doctree-resolved", link_terms)
    app.connect("html-page-context", load_terms)
    app.connect("build-finished", write_terms)


def lessons_follow_the_glossary(
    _app: Any, env: Any, added: set, changed: set, _removed: set
) -> list[str]:
    """When the glossary has changed, the lessons are built anew."""
    is_new = GLOSSARY in added | changed
    return [name for name in env.found_docs if name.startswith(LESSONS)] if is_new else []


def terms_of(glossary: nodes.document) -> Terms:
    """The terms of the glossary's page."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        term, definition = item.next_node(nodes.term), item.next_node(nodes.definition)
        found[term.astext()] = term["ids"][0], " ".join(definition.astext().split())
    return found


@lru_cache
def pattern_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """What finds the words, the longest first, as whole words or in the plural.

    >>> pattern_of(("Adam", "loss", "loss mask")).findall("A Loss mask, losses, AdamW, loss-free")
    ['Loss mask', 'loss']
    """
    longest_first = sorted(words, key=len, reverse=True)
    spellings = [either_case(word) for word in longest_first]
    return re.compile(rf"(?<![\w-])({'|'.join(spellings)})(?:s|es)?(?![\w-])")


def either_case(word: str) -> str:
    """A pattern for `word` inside a sentence, and at its beginning."""
    first, rest = re.escape(word[:1]), re.escape(word[1:]).replace(r"\ ", r"\s+")
    return f"[{first}{first.upper()}]{rest}" if first.islower() else first + rest


def linkable(terms: Terms) -> dict[str, str]:
    """The words that become links, and the term of each.

    >>> linkable({"LoRA": ("term-LoRA", "Low-rank adaptation: to fine-tune …")})
    {'LoRA': 'LoRA', 'low-rank adaptation': 'LoRA'}
    """
    names = {term: term for term in terms if term not in EVERYDAY and "(" not in term}
    for term, (_, definition) in terms.items():
        if term in names and (acronym := ACRONYM.search(definition)):
            names.setdefault(acronym[1], term)
        full = FULL_NAME.match(definition)
        if term in names and full and full[1] == term[0]:
            names.setdefault(full[1].lower() + full[2], term)
    return names


def term_of(words: str, names: dict[str, str]) -> str:
    """The term that `words`, as `pattern_of` finds them, stand for."""
    words = " ".join(words.split())
    return names.get(words) or names[words[0].lower() + words[1:]]


def prose(doctree: nodes.document) -> Iterator[nodes.Text]:
    """The texts of a lesson that are neither headings nor code, links or mathematics."""
    for text in list(doctree.findall(nodes.Text)):
        above, node = [], text.parent
        while node is not None:
            above.append(node)
            node = node.parent
        is_cell = any("cell" in node.get("classes", ()) for node in above if "classes" in node)
        if not is_cell and not any(isinstance(node, UNLINKED) for node in above):
            yield text


def written_links(doctree: nodes.document) -> set[str]:
    """The ids of the terms that the author has linked."""
    links = [node.get("refuri", "") for node in doctree.findall(nodes.reference)]
    return {link.split("#")[1] for link in links if "glossary.html#term-" in link}


def n_lessons(texts: dict[str, Iterable[Place]], names: dict[str, str]) -> Counter:
    """How many lessons use each term in their prose, by the texts that the search keeps."""
    pattern, counts = pattern_of(tuple(names)), Counter[str]()
    for page, sections in texts.items():
        if page.startswith(LESSONS):
            text = " ".join(prose for _, _, prose, _ in sections)
            counts.update({term_of(words, names) for words in pattern.findall(text)})
    return counts


def link_terms(app: Any, doctree: nodes.document, name: str) -> None:
    """Link a lesson's terms, each where it is first used."""
    if not name.startswith(LESSONS) or GLOSSARY not in app.env.found_docs:
        return
    terms = terms_of(app.env.get_doctree(GLOSSARY))
    names, linked = linkable(terms), written_links(doctree)
    names = {word: term for word, term in names.items() if terms[term][0] not in linked}
    pattern = pattern_of(tuple(names))
    texts = list(prose(doctree))
    used = {term_of(words, names) for text in texts for words in pattern.findall(text.astext())}
    counts = n_lessons(app.env.tl_texts, names)
    rarest = sorted(used, key=lambda term: (counts[term], term))
    chosen = set(rarest[: max(0, MOST - len(linked))])
    page = app.builder.get_relative_uri(name, GLOSSARY)
    for text in texts:
        parts, end, whole = [], 0, text.astext()
        for match in pattern.finditer(whole):
            term = term_of(match[1], names)
            if term in chosen:
                chosen.remove(term)
                link = nodes.reference("", match[0], refuri=f"{page}#{terms[term][0]}")
                link["internal"] = True
                parts += [nodes.Text(whole[end : match.start()]), link]
                end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(whole[end:])])


def load_terms(app: Any, _name: str, _template: str, _context: Any, doctree: Any) -> None:
    """Let a page with links to terms load what shows their meaning."""
    if doctree is not None and written_links(doctree):
        app.add_css_file("glossary.css")
        app.add_js_file(SCRIPT)
        app.add_js_file("glossary.js")


def write_terms(app: Any, error: Exception | None) -> None:
    """Write the definitions as a script: a page opened from the disk may not fetch them."""
    if error is None and app.builder.format == "html" and GLOSSARY in app.env.found_docs:
        terms = terms_of(app.env.get_doctree(GLOSSARY)).items()
        meanings = {anchor: [term, definition] for term, (anchor, definition) in terms}
        script = f"window.TransformerLessonsTerms = {json.dumps(meanings, ensure_ascii=False)};\n"
        (Path(app.outdir) / "_static" / SCRIPT).write_text(script, encoding="utf-8")
