"""A book of three pages is printed; nothing folded or wide is lost, and links stay inside."""

import re

import pytest
from make_pdf import main
from pypdf import PdfReader

from .explorer_page import BOOK_STYLE

LINE = "x = [" + ", ".join(str(number) for number in range(100, 200)) + "]  # the end of the line"
A = """<title>First — Book</title>{style}<article class="bd-article"><h1 id="a">First</h1>
<p><a href="b.html">whole</a> <a href="b.html#deep">part</a> <a href="c.html">gone</a></p>
<pre>{line}</pre><details><summary>Solution</summary><p>forty-two</p></details>
<details><summary><p>The imports</p></summary><pre>import everything</pre></details>
<div class="admonition dropdown toggle-hidden">
<p class="admonition-title">Deeper</p><p>below</p></div>
</article>"""
B = """<title>Second — Book</title>{style}<article class="bd-article"><h1>Second</h1>
<a href="#deep">here</a><p style="break-before: page" id="deep">Deep</p></article>"""
D = """<title>Third — Book</title>{style}<article class="bd-article"><h1>Third</h1>
<p style="height: 1180px">A little room is left.</p><pre>{short}</pre></article>"""
SHORT = "\n".join(f"line {number}" for number in range(1, 11))
TOC = """root: a
parts:
  - {caption: The part, chapters: [{file: b}]}
  - {caption: More, chapters: [{file: book/reference/names}, {file: d}]}
"""


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    fading = "@keyframes f { from { opacity: 0 } } details > p { animation: f 60s }"  # the theme's
    style = f"<style>{fading} {BOOK_STYLE.read_text('utf-8')}</style>"
    for name, text in {"a": A, "b": B, "d": D}.items():
        body = text.format(style=style, line=LINE, short=SHORT)
        page = f'<!doctype html><html lang="en">{body}</html>'
        (folder / f"{name}.html").write_text(page, "utf-8")
    (folder / "_toc.yml").write_text(TOC, "utf-8")
    main(folder / "book.pdf", folder / "_toc.yml", folder)
    return PdfReader(folder / "book.pdf")


def test_title_contents_and_numbers(pdf):
    texts = [" ".join(page.extract_text().split()) for page in pdf.pages]
    assert len(texts) == 7  # title, contents, First, two of Second, two of Third
    assert "Transformer Lessons" in texts[0]
    assert re.search(
        r"First ?3 The part Second ?4 More Third ?6$", texts[1].removesuffix("2").strip()
    )
    assert ["Second" in text for text in texts[2:]] == [False, True, True, False, False]  # heads
    for number, text in enumerate(texts, 1):
        foot = rf"^((Second|Third) )?{number}(?!\d)|(?<!\d){number}$"
        assert re.search(foot, text), "the foot of the page"
    assert [item["/Title"] for item in pdf.outline if isinstance(item, dict)] == [
        "First", "The part", "More",
    ]  # fmt: skip


def test_nothing_is_lost_on_paper(pdf):
    text = pdf.pages[2].extract_text()
    assert "forty-two" in text
    assert "below" in text
    lines = [line for line in text.splitlines() if re.search(r"1\d\d, 1\d\d", line)]
    assert max(map(len, lines)) < 140  # a line of the page has less than that
    assert "".join("".join(lines).split()).startswith("".join(LINE.split())[:480])


def test_what_is_looked_up_or_run_is_left_out(pdf):
    text = "".join(page.extract_text() for page in pdf.pages)
    assert "import everything" not in text
    assert "Left out here" in text


def test_a_short_block_of_code_is_on_one_page(pdf):
    counts = [page.extract_text().count("line ") for page in pdf.pages]
    assert counts[5:] == [0, 10]
    assert "A little room" in pdf.pages[5].extract_text()


def test_links_lead_to_pages_of_the_pdf(pdf):
    numbers = {page.indirect_reference.idnum: i for i, page in enumerate(pdf.pages)}
    links = [link.get_object() for link in pdf.pages[2]["/Annots"]]
    assert [numbers[link["/Dest"][0].idnum] for link in links] == [3, 4]
    inside = [link.get_object()["/Dest"][0].idnum for link in pdf.pages[1]["/Annots"]]
    assert [numbers[target] for target in inside] == [2, 3, 5]
    everything = [link.get_object() for page in pdf.pages for link in page.get("/Annots") or ()]
    assert "file:" not in repr(everything)
