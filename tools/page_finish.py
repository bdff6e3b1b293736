"""A Sphinx extension: sizes of pictures, tags for who shares a page, no idle scripts.

The address of the published book is `html_baseurl` in `_config.yml`, or the variable BOOK_ADDRESS.
With one, there are absolute links for those who share a page, and a sitemap; without, neither.
"""

import html
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from docutils import nodes
from PIL import Image

CARD = "_static/figures/card.png"
NOT_FOUND = """<section><h1>This page does not exist</h1>
<p>The link that led here may be old: lessons have moved. The list at the side has every page,
and the search finds sections, names of the package, exercises and words.</p>
<form action="search.html"><label>Search the book <input type="search" name="q"></label>
<button class="sd-btn sd-btn-primary">Search</button></form>
<p><a href="book/index.html">The first page</a></p></section>"""


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("config-inited", read_address)
    app.connect("env-updated", pages_with_titles)
    app.connect("html-page-context", finish_page, priority=900)  # after who adds scripts
    app.connect("html-collect-pages", not_found_page)
    app.connect("build-finished", finish_book)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_address(app: Any, config: Any) -> None:
    """Take the address from the environment, where a workflow knows it; end it with a slash."""
    address = os.environ.get("BOOK_ADDRESS") or config.html_baseurl
    config.html_baseurl = f"{address.rstrip('/')}/" if address else ""


def pages_with_titles(_app: Any, env: Any) -> list[str]:
    """All pages where a title has changed, since the list at the side has it on each; else none."""
    titles = {name: title.astext() for name, title in env.titles.items()}
    before, env.tl_titles = getattr(env, "tl_titles", {}), titles
    return sorted(titles) if titles != before else []


def size_of(path: Path) -> tuple[int, int] | None:
    """The pixels of a picture; of an SVG, what its first tag says; None if it says nothing."""
    if path.suffix != ".svg":
        with Image.open(path) as image:
            return image.size
    tag = re.search(r"<svg[^>]*>", path.read_text("utf-8"))
    numbers = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', tag[0] if tag else "")
    if tag is None or numbers is None:
        return None
    # an inch has 72 of matplotlib's points, and 96 of a page's pixels
    unit = 4 / 3 if 'width="' in tag[0] and 'pt"' in tag[0] else 1
    return round(float(numbers[1]) * unit), round(float(numbers[2]) * unit)


def with_sizes(body: str, files: dict[str, Path]) -> str:
    """Say of each picture how large it is, so that nothing moves when it comes.

    `files` has them by name. One of a lesson is put into a frame: on a phone, it scrolls there.
    """

    def sized(found: re.Match[str]) -> str:
        tag, name = found[0], found[1]
        size = size_of(files[name]) if name in files and " height=" not in tag else None
        if size is None:
            return tag
        tag = tag.replace("<img ", f'<img width="{size[0]}" height="{size[1]}" ', 1)
        if "sd-card-img" in tag:
            return tag
        # the theme's name makes it reachable with the keyboard where it scrolls
        frame = f'class="tl-figure pst-scrollable-table-container" style="--tl-width: {size[0]}px"'
        return f"<span {frame}>{tag}</span>"

    return re.sub(r'<img [^>]*src="(?:\.\./)*_images/([^"]+)"[^>]*>', sized, body)


def with_bound_math(body: str) -> str:
    """Keep brackets and punctuation in the line of the formula that they belong to."""
    formula = r'[(\[]?<span class="math [^>]*>[^<]*</span>[.,:;?!)\]]+'
    return re.sub(formula, r'<span class="tl-bound">\g<0></span>', body)


def description(doctree: nodes.document, longest: int = 200) -> str:
    """The first paragraph of a page, cut at the end of a sentence if it can be."""
    paragraphs = (
        p for p in doctree.findall(nodes.paragraph) if isinstance(p.parent, nodes.section)
    )
    text = next((" ".join(p.astext().split()) for p in paragraphs), "")
    if len(text) <= longest:
        return text
    sentences = re.match(rf".{{40,{longest}}}[.!?](?= )", text)
    return sentences[0] if sentences else text[:longest].rsplit(" ", 1)[0] + " …"


def social_tags(title: str, text: str, address: str, name: str) -> list[tuple[str, str]]:
    """What a search engine shows of a page, and what a message that links to it shows."""
    tags = [("description", text), ("og:title", title), ("og:description", text)]
    tags += [("og:type", "article"), ("og:site_name", "Transformer Lessons")]
    if address:
        tags += [("og:url", f"{address}{name}.html"), ("og:image", f"{address}{CARD}")]
        tags += [("twitter:card", "summary_large_image")]
    return tags


def finish_page(app: Any, name: str, _template: str, context: Any, doctree: Any) -> None:
    """Called for each page, before it is written."""
    body = context.get("body", "")
    if 'class="math' not in body:
        context["script_files"] = [
            s for s in context["script_files"] if "mathjax" not in str(getattr(s, "filename", s))
        ]
    images = {target: Path(app.srcdir) / source for source, target in app.builder.images.items()}
    context["body"] = with_sizes(with_bound_math(body), images)
    if doctree is not None:
        title = html.unescape(re.sub(r"<[^>]+>", "", context.get("title", "")))
        address = app.config.html_baseurl
        context["social_tags"] = social_tags(title, description(doctree), address, name)


def not_found_page(_app: Any) -> list[tuple[str, dict[str, str], str]]:
    """404.html, which a web server shows in place of a page that doesn't exist."""
    return [("404", {"title": "This page does not exist", "body": NOT_FOUND}, "page.html")]


def from_anywhere(text: str, root: str) -> str:
    """A page of the top folder, to be shown at any depth: its links start at the book's root."""
    linked = re.sub(r'((?:href|src|action)=")(?![#/]|\w+:)', rf"\g<1>{root}", text)
    return linked.replace('data-content_root="./"', f'data-content_root="{root}"')


def sitemap(address: str, names: Iterable[str]) -> str:
    """The list of the pages, for search engines."""
    pages = "\n".join(f"<url><loc>{address}{name}.html</loc></url>" for name in sorted(names))
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return (
        f'{head}<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{pages}\n</urlset>\n'
    )


def finish_book(app: Any, error: Exception | None) -> None:
    """Called once, after all pages: what is written only for a book that has an address."""
    address, out = app.config.html_baseurl, Path(app.outdir)
    if error is not None or app.builder.format != "html" or not address:
        return
    page = out / "404.html"
    page.write_text(from_anywhere(page.read_text("utf-8"), urlparse(address).path), "utf-8")
    (out / "sitemap.xml").write_text(sitemap(address, app.env.found_docs), "utf-8")
