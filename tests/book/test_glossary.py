"""Terms are linked where a lesson first uses them, and a card says what they mean."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import glossary_links
import pytest
from docutils import nodes
from glossary_links import EVERYDAY, link_terms, linkable, pattern_of

from .accessibility import violations
from .conftest import new_page

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r'<a class="reference internal" href="[^"]*glossary\.html#(term-[^"]+)"')
A_TERM = 'article p a[href*="glossary.html#term-"]'


# --- what is linked, in a lesson of a few words ------------------------------------------------


def glossary_page(**definitions):
    items = [
        nodes.definition_list_item(
            "",
            nodes.term("", "", nodes.Text(term.replace("_", " ")), ids=[f"term-{term}"]),
            nodes.definition("", nodes.paragraph("", meaning)),
        )
        for term, meaning in definitions.items()
    ]
    page = nodes.document(None, None)
    page += nodes.definition_list("", *items)
    return page


GLOSSARY = glossary_page(
    loss="What training makes smaller.", loss_mask="Which targets count.", key="Everyday, too.",
    byte_pair_encoding="Tokens from pairs (BPE).", Adam="An optimizer.",
    RoPE="Rotary position embedding: angles.", embedding="A table.", rank="Of a process: a number.",
)  # fmt: skip


def linked(*parts, texts=None):
    """The texts that become links, and the ids that they lead to."""
    page = nodes.document(None, None)
    page += nodes.section("", nodes.title("", "The loss"), nodes.paragraph("", "", *parts))
    env = SimpleNamespace(
        found_docs={"book/glossary", "notebooks/01_a"},
        get_doctree=lambda _: GLOSSARY,
        tl_texts=texts or {},
    )
    builder = SimpleNamespace(get_relative_uri=lambda _a, _b: "../book/glossary.html")
    link_terms(SimpleNamespace(env=env, builder=builder), page, "notebooks/01_a")
    assert page.astext().split("\n\n")[1] == "".join(part.astext() for part in parts)
    links = page.findall(nodes.reference)
    return [
        (link.astext(), link["refuri"].split("#term-")[1]) for link in links if "refuri" in link
    ]


def text(words):
    return nodes.Text(words)


def test_the_first_use_in_prose_and_no_other():
    assert linked(text("A loss, the loss; Adam.")) == [("loss", "loss"), ("Adam", "Adam")]
    assert linked(text("Loss masks and losses")) == [
        ("Loss masks", "loss_mask"),
        ("losses", "loss"),
    ]
    assert linked(text("adam, lossless, loss-free, Adams_")) == []
    rotary = linked(text("RoPE, the rotary position embedding, is no embedding. Of a process: it."))
    assert rotary == [("RoPE", "RoPE"), ("embedding", "embedding")]
    assert linked(text("Rotary position embedding")) == [("Rotary position embedding", "RoPE")]
    assert linked(text("BPE is byte\npair encoding.")) == [("BPE", "byte_pair_encoding")]


def test_not_in_code_mathematics_or_links_and_not_in_an_everyday_sense():
    code, formula = nodes.literal("", "loss"), nodes.math("", "loss")
    link = nodes.reference("", "loss", refuri="https://example.org/#term-elsewhere")
    cell = nodes.container("", nodes.paragraph("", "loss"), classes=["cell"])
    assert linked(code, formula, text(" a key ")) == []
    assert linked(link) == [("loss", "elsewhere")]  # as it was
    assert linked(cell, nodes.strong("", "", text("losses"))) == [("losses", "loss")]


def test_a_term_that_the_author_has_linked_gets_no_second_link():
    written = nodes.reference("", "loss", refuri="../book/glossary.html#term-loss")
    assert linked(text("loss "), written, text(" Adam")) == [("loss", "loss"), ("Adam", "Adam")]


def test_of_too_many_the_rarest_are_linked(monkeypatch):
    monkeypatch.setattr(glossary_links, "MOST", 1)
    page = [("", "", "loss", "")]
    texts = {"notebooks/01_a": [("", "", "loss, Adam", "")], "notebooks/02_b": page, "book/c": page}
    assert linked(text("loss, Adam"), texts=texts) == [("Adam", "Adam")]


def test_everyday_words_are_terms_of_the_glossary():
    terms = re.findall(r"^(\S.*)\n  \S", (ROOT / "book" / "glossary.md").read_text("utf-8"), re.M)
    assert set(terms) >= EVERYDAY
    names = linkable(dict.fromkeys(terms, ("", "")))
    assert not set(names) & EVERYDAY
    assert len(pattern_of(tuple(names)).findall(" / ".join(names))) == len(names)


# --- the pages as they are built ---------------------------------------------------------------


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_links_some_terms_and_not_too_many(name):  # SPEC G11
    html = (HTML / "notebooks" / f"{name}.html").read_text("utf-8")
    found = LINK.findall(html)
    assert 5 <= len(set(found)) <= 30  # an author may write more of them than MOST
    for inside in ("h1", "h2", "h3", "pre", "code"):
        for part in re.findall(rf"<{inside}[ >].*?</{inside}>", html, re.DOTALL):
            assert not LINK.search(part)


def test_the_script_of_meanings_has_every_term():
    script = (HTML / "_static" / "glossary_terms.js").read_text("utf-8")
    meanings = json.loads(script.partition(" = ")[2].rstrip(";\n"))
    page = (HTML / "book" / "glossary.html").read_text("utf-8")
    assert set(meanings) == set(re.findall(r'<dt id="(term-[^"]+)"', page))
    assert meanings["term-logit"][1].startswith("A score of any size and sign")


@pytest.fixture(scope="module")
def lesson(browser):
    with new_page(browser, width=1280) as (page, troubles):
        page.goto((HTML / "notebooks" / "05_embeddings_and_positions.html").as_uri())
        yield page
        assert troubles == []


def test_the_pointer_and_the_keyboard_show_a_meaning_and_escape_hides_it(lesson):  # SPEC G11
    link, card = lesson.locator(A_TERM).first, lesson.locator(".tl-meaning")
    assert not card.is_visible()
    link.hover()
    card.wait_for()
    assert link.get_attribute("aria-describedby") == card.get_attribute("id")
    card.hover()
    lesson.wait_for_timeout(400)
    assert card.is_visible(), "the pointer may move onto it"
    lesson.mouse.move(1, 1)
    card.wait_for(state="hidden")
    link.focus()
    card.wait_for()
    assert card.inner_text().split("\n", 1)[1].strip()
    lesson.keyboard.press("Escape")
    assert not card.is_visible()
    assert link.get_attribute("aria-describedby") is None


def test_an_open_card_is_accessible_and_fits_a_phone(lesson):  # SPEC G11
    lesson.set_viewport_size({"width": 390, "height": 700})
    card = lesson.locator(".tl-meaning")
    lesson.evaluate("document.activeElement.blur()")
    for link in lesson.locator(A_TERM).all()[:4]:
        link.focus()
        card.wait_for()
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    lesson.evaluate("document.querySelectorAll('article .cell').forEach(cell => cell.remove())")
    for scheme in ("light", "dark"):
        lesson.emulate_media(color_scheme=scheme)
        lesson.wait_for_selector(f"html[data-theme={scheme}]")
        assert violations(lesson, tags=("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")) == []


def test_the_first_tap_shows_the_meaning_and_the_second_leads_to_the_glossary(browser):
    context = browser.new_context(viewport={"width": 390, "height": 700}, has_touch=True)
    page = context.new_page()
    page.goto((HTML / "notebooks" / "05_embeddings_and_positions.html").as_uri())
    link, card = page.locator(A_TERM).first, page.locator(".tl-meaning")
    link.tap()
    card.wait_for()
    assert "Tap the word again" in card.inner_text()
    assert page.url.endswith("positions.html")
    link.tap()
    page.wait_for_url("**/glossary.html#term-*")
    context.close()
