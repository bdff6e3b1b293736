"""What is folded opens for a link to it, for a search, and in print."""

from pathlib import Path

import pytest

from .conftest import new_page

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
LESSON = HTML / "notebooks" / "03_bpe.html"
DEEPER = "section[id^=going-deeper]"
OPEN = """(section) => [...section.querySelectorAll("details, .admonition.toggle")]
  .map((fold) => fold.open ?? !fold.classList.contains("toggle-hidden"))"""


def opened(page, selector):
    page.wait_for_function("document.readyState === 'complete'")
    return page.locator(selector).first.evaluate(OPEN)


@pytest.fixture
def lesson(browser):
    with new_page(browser, width=1280) as (page, troubles):
        page.goto(LESSON.as_uri())
        yield page
        assert troubles == []


def test_a_link_to_a_section_that_goes_deeper_opens_it_and_nothing_else(lesson):  # SPEC G11
    assert opened(lesson, "article")
    assert not any(opened(lesson, "article"))
    section = lesson.locator(DEEPER).first.get_attribute("id")
    lesson.evaluate("id => { location.hash = id }", section)
    lesson.wait_for_function("document.querySelector('.admonition.toggle:not(.toggle-hidden)')")
    assert all(opened(lesson, DEEPER))
    assert sum(opened(lesson, "article")) == len(opened(lesson, DEEPER))
    lesson.goto(f"{LESSON.as_uri()}#exercises")
    lesson.reload()
    assert not any(opened(lesson, "article")), "a solution is not to be shown"


def test_a_link_to_what_is_inside_a_fold_opens_it(lesson):
    lesson.evaluate(
        """document.querySelector(".admonition.toggle.quiz p:not(.admonition-title)").id = "inside"
        document.querySelector("details.hide div").id = "below" """
    )
    for place in ("inside", "below"):
        before = sum(opened(lesson, "article"))
        lesson.evaluate("place => { location.hash = place }", place)
        lesson.wait_for_function(
            "place => document.getElementById(place).checkVisibility()", arg=place
        )
        assert sum(opened(lesson, "article")) == before + 1
    lesson.evaluate("location.hash = '%'")  # which is no place


def test_a_search_for_what_is_folded_leads_to_it_unfolded(browser):
    with new_page(browser, width=1280) as (page, _):
        page.goto((HTML / "search.html").as_uri() + "?q=Tokens that are never used")
        link = page.locator("#search-results a[href*='03_bpe.html#going-deeper']").first
        link.click()
        page.wait_for_url("**/03_bpe.html#going-deeper*")
        section = page.url.split("#")[1]
        assert all(opened(page, f"[id='{section}']"))


def test_all_is_open_in_print(lesson):
    lesson.evaluate("dispatchEvent(new Event('beforeprint'))")
    lesson.emulate_media(media="print")
    hidden = lesson.locator("article .admonition.toggle > :not(.admonition-title)").evaluate_all(
        "all => all.filter((e) => !e.checkVisibility({visibilityProperty: true})).length"
    )
    assert hidden == 0
