"""The pages remember, in the reader's own browser, what was read and where the reading stopped."""

from pathlib import Path

import pytest

from .conftest import new_page

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
HOME, BYTES = (
    (HTML / "book" / "index.html").as_uri(),
    (HTML / "notebooks" / "02_bytes.html").as_uri(),
)
TICKED = ".bd-links a:has(.tl-read)"


def test_a_lesson_read_to_its_summary_is_ticked_and_one_just_opened_is_not(browser):
    with new_page(browser, width=1280) as (page, troubles):
        page.goto(BYTES)
        page.locator("#a-character-is-a-number").scroll_into_view_if_needed()
        page.wait_for_function("localStorage['transformer-lessons-progress']")
        assert page.locator(TICKED).count() == 0
        page.locator("#summary").scroll_into_view_if_needed()
        page.wait_for_selector(TICKED)
        page.goto(HOME)
        assert [link.split(" ·")[0] for link in page.locator(TICKED).all_inner_texts()] == ["2"]
        assert troubles == []


def test_the_first_page_leads_back_to_the_section_and_forgets_when_asked(browser):
    with new_page(browser) as (page, _):
        page.goto(HOME)
        assert page.locator(".tl-continue").count() == 0
        page.goto(BYTES)
        page.locator("#a-byte-is-eight-bits").scroll_into_view_if_needed()
        page.wait_for_function("localStorage['transformer-lessons-progress']")
        page.wait_for_timeout(200)
        page.goto(HOME)
        line = page.locator(".tl-continue")
        assert "2 · Bytes, characters, and pairs of texts, “" in line.inner_text()
        line.get_by_role("link").click()
        assert page.url.startswith(f"{BYTES}#")
        page.goto(HOME)
        line.get_by_role("button").click()
        page.goto(HOME)
        assert page.locator(".tl-continue").count() == 0


@pytest.mark.parametrize("junk", ["{", "7", "null", '{"read": 1, "last": {"page": "//x"}}'])
def test_what_others_wrote_into_the_storage_breaks_nothing(browser, junk):
    with new_page(browser) as (page, troubles):
        page.goto(HOME)
        page.evaluate("junk => localStorage.setItem('transformer-lessons-progress', junk)", junk)
        page.goto(HOME)
        assert page.locator(".tl-continue").count() == 0
        assert troubles == []
