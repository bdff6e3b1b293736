"""A book of two pages is printed; nothing folded or wide is lost, and links stay inside."""

import re

import pytest
from make_pdf import main
from pypdf import PdfReader

from .explorer_page import BOOK_STYLE

LINE = "x = [" + ", ".join(str(number) for number in range(100, 200)) + "]  # the end of the line"
A = """<title>First — Book</title>{style}<article class="bd-article"><h1 id="a">First</h1>
<p><a href="b.html">whole</a> <a href="b.html#deep">part</a> <a href="c.html">gone</a></p>
<pre>{line}</pre><details><summary>Solution</summary><p>forty-two</p></details>
<div class="admonition dropdown toggle-hidden">
<p class="admonition-title">Deeper</p><p>below</p></div>
</article>"""
B = """<title>Second — Book</title>{style}<article class="bd-article"><h1>Second</h1>
<a href="#deep">here</a><p style="break-before: page" id="deep">Deep</p></article>"""
TOC = "root: a\nparts: [{caption: The part, chapters: [{file: b}]}]\n"


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    fading = "@keyframes f { from { opacity: 0 } } details > p { animation: f 60s }"  # the theme's
    style = f"<style>{fading} {BOOK_STYLE.read_text('utf-8')}</style>"
    for name, text in {"a": A, "b": B}.items():
        page = f'<!doctype html><html lang="en">{text.format(style=style, line=LINE)}</html>'
        (folder / f"{name}.html").write_text(page, "utf-8")
    (folder / "_toc.yml").write_text(TOC, "utf-8")
    main(folder / "book.pdf", folder / "_toc.yml", folder)
    return PdfReader(folder / "book.pdf")


def test_title_contents_and_numbers(pdf):
    texts = [" ".join(page.extract_text().split()) for page in pdf.pages]
    assert len(texts) == 5  # title, contents, First, and two of Second
    assert "Transformer Lessons" in texts[0]
    assert re.search(r"First ?3 The part Second ?4", texts[1])
    for number, text in enumerate(texts, 1):
        assert re.search(rf"^{number}(?!\d)|(?<!\d){number}$", text), "the foot of the page"
    assert [item["/Title"] for item in pdf.outline if isinstance(item, dict)] == [
        "First", "The part",
    ]  # fmt: skip


def test_nothing_is_lost_on_paper(pdf):
    text = pdf.pages[2].extract_text()
    assert "forty-two" in text
    assert "below" in text
    lines = [line for line in text.splitlines() if re.search(r"1\d\d, 1\d\d", line)]
    assert max(map(len, lines)) < 140  # a line of the page has less than that
    assert "".join("".join(lines).split()).startswith("".join(LINE.split())[:480])


def test_links_lead_to_pages_of_the_pdf(pdf):
    numbers = {page.indirect_reference.idnum: i for i, page in enumerate(pdf.pages)}
    links = [link.get_object() for link in pdf.pages[2]["/Annots"]]
    assert [numbers[link["/Dest"][0].idnum] for link in links] == [3, 4]
    inside = [link.get_object()["/Dest"][0].idnum for link in pdf.pages[1]["/Annots"]]
    assert [numbers[target] for target in inside] == [2, 3]
    everything = [link.get_object() for page in pdf.pages for link in page.get("/Annots") or ()]
    assert "file:" not in repr(everything)
