"""The search finds sections, names and exercises, and shows where; also from the disk."""

from pathlib import Path

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from search_texts import seen, texts_of
from sphinx import addnodes

from .conftest import new_page

SEARCH = (Path(__file__).resolve().parents[2] / "_build" / "html" / "search.html").as_uri()


@pytest.mark.parametrize(
    ("words", "target", "excerpt"),
    [
        ("roofline", "notebooks/18_kv_cache.html#", "roofline"),
        ("continuation byte", "notebooks/02_bytes.html#", "continuation"),
        ("memory", "notebooks/18_kv_cache.html#how-much-memory", "memory"),  # its stem is "memori"
        ("temperature", "book/glossary.html#term-temperature", "divided before softmax"),
        ("Exercise 1.6", "notebooks/01_first_model.html#exercise-1-6", "minutes"),
        ("to_interleaved_layout", "book/reference/model.html#transformer_lessons.model", "layout"),
        ("my_incomplete_tail", "notebooks/02_bytes.html#exercises", "my_incomplete_tail"),
    ],
)
def test_a_search_leads_to_the_section_and_shows_it(browser, words, target, excerpt):  # SPEC G9
    with new_page(browser) as (page, troubles):
        page.goto(f"{SEARCH}?q={words}")
        found = page.locator("#search-results li").filter(has=page.locator(f"a[href*='{target}']"))
        found.first.wait_for()
        shown = found.first.inner_text()
        assert excerpt.lower() in shown.lower()
        assert len(shown) > 30
        found.first.get_by_role("link").click()
        page.locator("[id]:target").wait_for(state="attached")  # a section that is there
        assert troubles == []


@pytest.mark.parametrize("words", ["rope", "temperature", "the KV cache"])
def test_every_result_is_another_place_with_its_own_words(browser, words):
    with new_page(browser) as (page, _):
        page.goto(f"{SEARCH}?q={words}")
        results = page.locator("#search-results li")
        results.first.wait_for()
        links = [link.get_attribute("href") for link in results.get_by_role("link").all()]
        excerpts = [line.inner_text() for line in results.locator(".context").all()]
        assert 5 < len(links) == len(set(links)) == len(excerpts) == len(set(excerpts))
        marked = [mark.inner_text().lower() for mark in results.locator("mark").all()]
        assert {word for found in marked for word in words.lower().split() if word in found}
        assert page.locator("#search-results").get_by_role("status").inner_text().endswith(":")


def test_the_best_results_are_what_is_called_so(browser):
    wanted = {
        "temperature": "17 · Sampling › Temperature",
        "RoPE": "Glossary › RoPE",
        "Exercise 1.6": "1 · A complete model with 2,656 parameters › Exercise 1.6 · Temperature",
        "apply_rope": "Reference: model › apply_rope",
    }
    with new_page(browser) as (page, _):
        for words, first in wanted.items():
            page.goto(f"{SEARCH}?q={words}")
            assert page.locator("#search-results li a").first.inner_text() == first


def test_places_have_the_text_that_is_theirs_alone():
    page = publish_doctree("""
Title
=====
Before.

Part
----
Words with <b>. ::

    from a.b import (
        c,
    )
    import d
    use("a.b", "c")
    c(d)  # code

.. admonition:: Exercise 1.1

   Solve it.

.. admonition:: Quiz

   A question.

term
  A meaning.
""")
    exercise, _quiz = page.findall(nodes.admonition)
    exercise["ids"].append("exercise-1-1")
    next(page.findall(nodes.term))["ids"].append("term-term")
    next(page.findall(nodes.paragraph)).append(nodes.raw("", nodes.Text("<i>"), format="html"))
    page = nodes.document("", "", "", nodes.section("", *page.children, ids=["title"]))
    assert texts_of(page) == [
        ("title", "Title", "Before.", ""),
        ("part", "Part", "Words with <b>. Quiz A question.", "c(d) # code"),
        ("exercise-1-1", "Exercise 1.1", "Solve it.", ""),
        ("term-term", "term", "A meaning.", ""),
    ]


def test_a_key_of_the_bibliography_is_not_read():
    key = addnodes.pending_xref("", nodes.literal("", "vaswani2017"), refdomain="cite")
    term = addnodes.pending_xref("", nodes.inline("", "query"), refdomain="std")
    parts = nodes.Text("Attention "), key, nodes.Text(". A "), term, nodes.Text(" asks.")
    assert seen(nodes.paragraph("", "", *parts)) == "Attention. A query asks."


def test_a_page_without_text_and_no_result_at_all_are_no_trouble(browser):
    with new_page(browser) as (page, troubles):
        for words in ("references", "xyzzyplugh", "", "<script>"):
            page.goto(f"{SEARCH}?q={words}")
            page.wait_for_timeout(1500)
        assert troubles == []
