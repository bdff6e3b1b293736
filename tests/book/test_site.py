"""What makes the pages a site: sizes, tags, weights, the page for what does not exist."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from page_finish import (
    description,
    from_anywhere,
    pages_with_titles,
    sitemap,
    social_tags,
    with_bound_math,
    with_sizes,
)
from page_links import broken, outside
from page_weight import TIMES, files_of, sent, weights
from PIL import Image

from .conftest import new_page
from .explorer_page import BOOK_STYLE

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted([*HTML.glob("book/**/*.html"), *HTML.glob("notebooks/*.html")])
ADDRESS = "https://example.org/lessons/"


@pytest.fixture(scope="module", autouse=True)
def built():
    if not PAGES:
        pytest.fail("there are no pages; run `make book`")


def test_punctuation_stays_with_its_formula():
    formula = '<span class="math notranslate nohighlight">\\(x &lt; 1\\)</span>'
    made = with_bound_math(f"<p>if ({formula}), or {formula} then</p>")
    assert made == f'<p>if <span class="tl-bound">({formula}),</span> or {formula} then</p>'


def test_all_pages_are_written_again_for_a_new_title_and_only_then():
    env = SimpleNamespace(titles={"b": nodes.title("", "B"), "a": nodes.title("", "A")})
    assert pages_with_titles(None, env) == ["a", "b"]
    assert pages_with_titles(None, env) == []
    env.titles["b"] = nodes.title("", "Another")
    assert pages_with_titles(None, env) == ["a", "b"]
    del env.titles["a"]
    assert pages_with_titles(None, env) == ["b"]


def test_a_picture_has_its_size_and_a_frame_to_scroll_in(tmp_path):
    Image.new("RGB", (640, 200)).save(tmp_path / "a.png")
    (tmp_path / "b.svg").write_text('<svg width="72pt" viewBox="0 0 72 36"></svg>')
    files = {"a.png": tmp_path / "a.png", "b.svg": tmp_path / "b.svg"}
    made = with_sizes('<img alt="x" src="../_images/a.png" />', files)
    assert '<img width="640" height="200" alt="x"' in made
    assert made.startswith('<span class="tl-figure')
    assert "--tl-width: 640px" in made
    assert 'width="96" height="48"' in with_sizes('<img src="_images/b.svg"/>', files)
    (tmp_path / "b.svg").write_text('<svg viewBox="0 0 72 36"></svg>')
    assert 'width="72" height="36"' in with_sizes('<img src="_images/b.svg"/>', files)
    card = with_sizes('<img class="sd-card-img-top" src="../_images/a.png" />', files)
    assert 'height="200"' in card
    assert "tl-figure" not in card
    for other in (made.replace("span", "b"), '<img src="../_images/c.png">', '<img src="a.png">'):
        assert with_sizes(other, files) == other


def test_a_description_is_the_first_paragraph_cut_at_a_sentence():
    def page(text):
        section = nodes.section("", nodes.title("", "T"), nodes.paragraph("", text))
        return nodes.document(None, None, "", section)

    assert description(page("Short.")) == "Short."
    long = "A sentence that is long enough to stand by itself. " + "And more words follow. " * 20
    assert description(page(long)).endswith("follow.")
    assert 40 < len(description(page(long))) <= 201
    words = description(page("word " * 100))
    assert words.endswith("word …")
    assert len(words) <= 203
    assert description(nodes.document(None, None)) == ""


def test_only_a_book_with_an_address_names_one():
    tags = dict(social_tags("T", "Text", ADDRESS, "book/index"))
    assert tags["og:url"] == "https://example.org/lessons/book/index.html"
    assert tags["og:image"] == "https://example.org/lessons/_static/figures/card.png"
    assert {"og:url", "og:image"}.isdisjoint(dict(social_tags("T", "Text", "", "book/index")))
    assert f"<loc>{ADDRESS}book/a.html</loc>" in sitemap(ADDRESS, ["book/b", "book/a"])


def test_the_page_for_what_does_not_exist_works_at_any_depth():
    text = '<a href="book/x.html">x</a><a href="#main">m</a><img src="_static/a.svg">'
    text += '<form action="search.html"></form><a href="https://example.org">o</a>'
    assert from_anywhere(text, "/lessons/") == (
        '<a href="/lessons/book/x.html">x</a><a href="#main">m</a>'
        '<img src="/lessons/_static/a.svg">'
        '<form action="/lessons/search.html"></form><a href="https://example.org">o</a>'
    )
    built = (HTML / "404.html").read_text("utf-8")
    assert "This page does not exist" in built
    assert 'name="q"' in built


def test_each_page_describes_itself():
    found = {}
    for page in PAGES:
        tag = re.search(r'<meta name="description" content="([^"]*)"', page.read_text("utf-8"))
        found[page.stem] = tag[1] if tag else ""
    without = {name for name, text in found.items() if len(text) < 40}
    assert without <= {"references", "glossary"}  # lists
    assert len(set(found.values())) >= len(found) - len(without)


def test_pictures_of_the_pages_have_sizes_and_mathematics_is_loaded_where_it_is():
    for page in PAGES:
        text = page.read_text("utf-8")
        for tag in re.findall(r"<img [^>]*_images/[^>]*>", text):
            assert re.search(r' width="\d+" height="\d+"', tag), (page.name, tag)
        assert ("tex-mml-chtml" in text) == ('class="math' in text), page.name
        assert "searchindex.js" not in text, page.name


def test_a_lesson_is_light_and_so_is_what_all_share():
    own, shared = weights(PAGES)
    assert len(own) >= 40
    assert max(own.values()) < 400e3  # as "How to read this book" says
    assert (
        shared < 500e3
    )  # likewise; fonts of MathJax come when a formula needs them: 10 to 30 kB each


def test_a_weight_counts_what_a_page_loads(tmp_path):
    for name in ("_static/a.js", "_static/widgets/b.js", "_images/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(10_000))
    page = tmp_path / "p.html"
    page.write_text(
        '<script src="_static/a.js?v=1"></script><script defer src="_static/widgets/b.js"></script>'
        '<img src="_images/c.png"><a href="q.html">q</a><script src="gone.js"></script>'
    )
    own, shared = files_of(page)
    assert {path.name for path in own} == {"p.html", "b.js", "c.png"}
    assert {path.name for path in shared} == {"a.js"}
    assert sent(tmp_path / "_static/a.js") < 100  # zeros
    assert weights([page])[1] == sent(tmp_path / "_static/a.js")


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "b.html").write_text('<h2 id="there">b</h2>')
    links = ("b.html#there", "b.html#not-there", "c.html", "#own", "https://example.org/x#y")
    page = tmp_path / "a.html"
    page.write_text("".join(f'<a href="{link}">x</a>' for link in links) + '<img src="d.png">')
    assert broken(page) == ["b.html#not-there", "c.html", "#own", "d.png"]
    assert outside(tmp_path) == {"https://example.org/x": ["a.html"]}


FIGURE = (
    """<!doctype html><html data-theme="{theme}"><meta name="viewport" content="width=device-width">
<style>{style} body {{ margin: 0; background: var(--pst-color-background) }}
html {{ --pst-color-background: {ground} }}</style><article class="bd-article">"""
    '<span class="tl-figure" style="--tl-width: 800px">'
    '<img width="800" height="300" src="{picture}"></span></article></html>'
)


@pytest.mark.parametrize(("theme", "ground"), [("light", 255), ("dark", 18)])
def test_a_figure_is_no_slab_and_its_labels_stand_out(browser, tmp_path, theme, ground):
    """A white picture with a grey label (the ticks' colour): on a phone, at 10 pixels for 15."""
    image = Image.new("RGB", (800, 300), "white")
    image.paste((0x6B, 0x72, 0x80), (100, 100, 200, 200))
    image.save(tmp_path / "a.png")
    text = FIGURE.format(
        theme=theme, ground=f"rgb({ground} {ground} {ground})", picture="a.png",
        style=BOOK_STYLE.read_text("utf-8"),
    )  # fmt: skip
    (tmp_path / "p.html").write_text(text, "utf-8")
    with new_page(browser, width=390) as (page, _):
        page.goto((tmp_path / "p.html").as_uri())
        assert page.locator("img").bounding_box()["width"] == pytest.approx(544)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.screenshot(path=tmp_path / "s.png")
    shown = Image.open(tmp_path / "s.png").convert("RGB")
    paper, label = shown.getpixel((20, 20)), shown.getpixel((100, 100))
    assert max(abs(part - ground) for part in paper) <= 3
    light, dark = sorted((luminance(paper), luminance(label)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in
              (part / 255 for part in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_page_is_light_or_dark_before_it_shows_and_so_nothing_moves(browser, theme):
    first = """new MutationObserver((_, observer) => {
      if (!document.body) return;
      window.first = document.documentElement.dataset.theme;
      observer.disconnect();
    }).observe(document, {childList: true, subtree: true})"""
    with new_page(browser, width=1280) as (page, _):
        page.emulate_media(color_scheme=theme)
        page.add_init_script(first)
        page.goto((HTML / "book" / "how_to_read.html").as_uri())
        assert page.evaluate("window.first") == theme
        assert page.evaluate(TIMES)[2] < 0.05
