"""Print the built book: one PDF with a title page, contents and page numbers.

    python tools/make_pdf.py [the PDF]

It needs Chromium, as the tests of the pages do. `book.css` says how a page looks on paper. Every
page of the book is printed by itself, with numbers that go on from those before it. Then links
between the pages become links inside the PDF.

What is looked up or run rather than read is left out: the reference of the package, a lesson's
imports, and the code that draws its pictures.
"""

import html
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urlparse

import yaml
from notebook_files import ROOT
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NumberObject

sys.path.insert(0, str(ROOT))
from playwright.sync_api import Page, sync_playwright

from tests.book.conftest import FLAGS, chromium_path

HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "transformer_lessons.pdf"
PAPER = """@page {{ size: A4; margin: 18mm 22mm 20mm;
  @top-right {{ content: {title}; font: 9px sans-serif; color: #555 }}
  @bottom-center {{ content: counter(page); font: 9px sans-serif; color: #555 }} }}
@page :first {{ @top-right {{ content: none }} }}
html {{ counter-set: page {before}; }}"""
LEFT_OUT = "book/reference/"
# Folds open by themselves on paper; what a script has folded, it has to unfold. Chromium would
# leave one line of a short block at the foot of a page, whatever `orphans` says.
UNFOLD = """() => {
  const left_out = /^(The imports|How this (picture|table) is made)$/;
  document.querySelectorAll("details").forEach((fold) => {
    if (left_out.test(fold.querySelector("summary > p")?.textContent)) fold.remove();
    fold.open = true;
  });
  const folded = document.querySelectorAll(".toggle-hidden");
  folded.forEach((box) => box.classList.remove("toggle-hidden"));
  const code = [...document.querySelectorAll("pre")];
  const boxes = [...document.querySelectorAll(".admonition:not(details)")];
  const short = [...code.filter((block) => block.textContent.split("\\n").length < 16),
    ...boxes.filter((box) => box.offsetHeight < 360)];
  short.forEach((block) => block.style.setProperty("break-inside", "avoid", "important"));
}"""
FRONT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Transformer Lessons</title>
<style>body {{ font: 16px/1.5 "DejaVu Sans", sans-serif; color: #1f2937 }}
.title {{ height: 240mm; display: flex; flex-direction: column; justify-content: center;
  break-after: page }} .title h1 {{ font-size: 54px; margin: 0 }}
h3 {{ margin: 0.8em 0 0.2em; break-after: avoid }} a {{ color: inherit; text-decoration: none }}
p.entry {{ display: flex; gap: 0.5em; margin: 0; font: 13px/1.4 "DejaVu Sans", sans-serif }}
p.entry i {{ flex: 1; border-bottom: 1px dotted #9ca3af; margin-bottom: 0.4em }}</style>
<div class="title"><h1>Transformer Lessons</h1>
<p>How language models work: a book that runs, and the package it is made of</p>
<p><small>Left out here: the reference of the package, the imports of the lessons, and the code that
draws their pictures. They are in the book on the screen, and in its notebooks.</small></p></div>
<h2>Contents</h2>{entries}</html>"""


class Chapter(NamedTuple):
    """A page of the book: its file, its title, and the part that begins with it, if one does."""

    file: Path
    title: str
    part: str = ""


def chapters_of(toc: dict[str, Any], folder: Path) -> list[Chapter]:
    """The pages in the order of the table of contents."""
    found = [("", toc["root"])]
    for part in toc["parts"]:
        names = [chapter["file"] for chapter in part["chapters"]]
        names = [name for name in names if not name.startswith(LEFT_OUT)]
        found += [(part["caption"] if name == names[0] else "", name) for name in names]
    chapters = []
    for part, name in found:
        file = folder / f"{name}.html"
        title = file.read_text("utf-8").partition("<title>")[2].partition("</title>")[0]
        chapters.append(Chapter(file, html.unescape(title).partition(" — ")[0].strip(), part))
    return chapters


def print_page(page: Page, path: Path, before: int, title: str = "") -> PdfReader:
    """Print what the browser shows; `before` pages have gone before. The head has the title."""
    page.evaluate("window.MathJax?.startup?.promise.then(() => {})")
    page.evaluate(UNFOLD)
    head = json.dumps(title, ensure_ascii=False)  # a string of CSS is written so, too
    page.add_style_tag(content=PAPER.format(before=before, title=head))
    page.pdf(path=path, prefer_css_page_size=True, print_background=True, scale=0.75)
    return PdfReader(path)


def front_page(chapters: list[Chapter], starts: list[int]) -> str:
    """The title page and the contents, as HTML."""
    lines = []
    for chapter, start in zip(chapters, starts, strict=True):
        if chapter.part:
            lines.append(f"<h3>{html.escape(chapter.part)}</h3>")
        title = html.escape(chapter.title)
        link = f'<a href="{chapter.file.as_uri()}">{title}</a>'
        lines.append(f'<p class="entry">{link}<i></i>{start}</p>')
    return FRONT.format(entries="\n".join(lines))


def print_chapters(browser: Any, chapters: list[Chapter], folder: Path) -> list[PdfReader]:
    """The front pages and each chapter."""
    page = browser.new_page(color_scheme="light")
    page.set_default_timeout(300_000)  # a busy machine takes long

    def front(starts: list[int]) -> PdfReader:
        (folder / "front.html").write_text(front_page(chapters, starts), "utf-8")
        page.goto((folder / "front.html").as_uri())
        return print_page(page, folder / "front.pdf", 0)

    before = len(front([999] * len(chapters)).pages)  # as many pages as with the right numbers
    starts, printed = [], []
    for i, chapter in enumerate(chapters):
        starts.append(before + 1)
        page.goto(chapter.file.as_uri())
        printed.append(print_page(page, folder / f"{i}.pdf", before, chapter.title))
        before += len(printed[-1].pages)
    return [front(starts), *printed]


def link_inside(writer: PdfWriter, places: dict[tuple[str, str], Any]) -> None:
    """Let links between pages lead to where the PDF has them; those to other files go."""
    for page in writer.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots") or ():
            link = reference.get_object()
            uri = str(link.get("/A", {}).get("/URI", ""))
            if uri.startswith("file:"):
                path, fragment = urldefrag(uri)
                file = unquote(urlparse(path).path)
                place = places.get((file, unquote(fragment))) or places.get((file, ""))
                if place is None:
                    continue
                del link["/A"]
                link[NameObject("/Dest")] = place
            kept.append(reference)
        if "/Annots" in page:
            page[NameObject("/Annots")] = kept


def join(chapters: list[Chapter], parts: list[PdfReader]) -> PdfWriter:
    """One PDF, with an outline."""
    writer, places = PdfWriter(), {}
    for part in parts:
        writer.append(part, import_outline=False)
    first, above = len(parts[0].pages), None
    for chapter, part in zip(chapters, parts[1:], strict=True):
        if chapter.part:
            above = writer.add_outline_item(title=chapter.part, page_number=first)
        writer.add_outline_item(title=chapter.title, page_number=first, parent=above)
        spots = {"": (0, 842.0)}
        for name, spot in part.named_destinations.items():
            number = part.get_destination_page_number(spot)
            if number is not None:
                spots[name.removeprefix("/")] = (number, float(spot.top or 842))
        for fragment, (number, top) in spots.items():
            page = writer.pages[first + number].indirect_reference
            target = [page, NameObject("/XYZ"), NumberObject(0), FloatObject(top), NumberObject(0)]
            places[str(chapter.file), fragment] = ArrayObject(target)
        first += len(part.pages)
    link_inside(writer, places)
    writer.add_metadata({"/Title": "Transformer Lessons"})
    return writer


def main(pdf: Path = PDF, toc: Path = ROOT / "_toc.yml", folder: Path = HTML) -> int:
    """Print the book."""
    chapters = chapters_of(yaml.safe_load(toc.read_text("utf-8")), folder)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as made:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        writer = join(chapters, print_chapters(browser, chapters, Path(made)))
        browser.close()
        writer.write(pdf)
    print(f"The PDF: {pdf}, {len(writer.pages)} pages, {pdf.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
