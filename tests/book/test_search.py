"""The search finds sections, names and exercises, and shows where; also from the disk."""

from pathlib import Path

import pytest

from .conftest import new_page

SEARCH = (Path(__file__).resolve().parents[2] / "_build" / "html" / "search.html").as_uri()


@pytest.mark.parametrize(
    ("words", "target", "excerpt"),
    [
        ("roofline", "notebooks/18_kv_cache.html#", "roofline"),
        ("continuation byte", "notebooks/02_bytes.html#", "continuation"),
        ("to_interleaved_layout", "book/reference/model.html#", ""),
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


def test_a_page_without_text_and_no_result_at_all_are_no_trouble(browser):
    with new_page(browser) as (page, troubles):
        for words in ("references", "xyzzyplugh", "", "<script>"):
            page.goto(f"{SEARCH}?q={words}")
            page.wait_for_timeout(1500)
        assert troubles == []
