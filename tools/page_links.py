"""List what the built book links to outside itself, and the pages that do.

    python tools/page_links.py

Links inside the book are followed by the tests (tests/book/test_pages.py), files, pictures and
sections alike. Those to others can break without us: this list is for who looks at them.
"""

import html
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

from notebook_files import ROOT

HTML = ROOT / "_build" / "html"
LINK = re.compile(r'\b(?:href|src)="([^"]+)"')


def links(page: Path) -> list[str]:
    """What a page links to or loads, in its order."""
    return [html.unescape(link) for link in LINK.findall(page.read_text("utf-8"))]


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file or section of the book."""
    return [link for link in links(page) if not urlparse(link).scheme and not leads(link, page)]


def leads(link: str, page: Path) -> bool:
    """Whether the file is there and, if the link names a section, the section too."""
    path, fragment = urldefrag(unquote(link).partition("?")[0])
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not fragment or target.suffix != ".html":
        return target.exists()
    return f'id="{fragment}"' in target.read_text("utf-8")


def outside(folder: Path) -> dict[str, list[str]]:
    """{address: the pages that name it}, sorted."""
    found: dict[str, list[str]] = {}
    for page in sorted(folder.rglob("*.html")):
        for link in sorted({urldefrag(link)[0] for link in links(page)}):
            if urlparse(link).scheme in ("http", "https"):
                found.setdefault(link, []).append(page.relative_to(folder).as_posix())
    return dict(sorted(found.items()))


def main(folder: Path = HTML) -> int:
    """Print the list."""
    found = outside(folder)
    for link, pages in found.items():
        print(f"{link}  ({', '.join(pages[:3])}{', …' if len(pages) > 3 else ''})")
    print(f"{len(found)} addresses outside the book")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
