"""The first page agrees with the lessons that it lists, and the map with their needs."""

import re
from pathlib import Path

import pytest
from lesson_map import PARTS, direct, draw, lessons, needed
from notebook_files import notebook_paths, read_notebook

from .conftest import new_page

ROOT = Path(__file__).resolve().parents[2]
HOME = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
ITEM = re.compile(
    r"^- \[(\d+) · [^\]]*\]\(\.\./notebooks/([\w]+)\.ipynb\) · (\d+) min$", re.MULTILINE
)


def minutes(text: str) -> int:
    """How long the reading takes that the head of a lesson announces."""
    found = re.findall(r"\*\*Time:\*\* about (?:an (hour)|(\d+) minutes)", text)
    assert len(found) == 1, "a lesson's head says how long it takes"
    return 60 if found[0][0] else int(found[0][1])


def test_every_lesson_is_listed_with_its_minutes():  # SPEC G12
    expected = {}
    for path in notebook_paths(ROOT):
        head = "\n".join(cell.source for cell in read_notebook(path).cells[:2])
        expected[path.stem] = minutes(head)
    assert {name: int(time) for _, name, time in ITEM.findall(HOME)} == expected
    assert [int(number) for number, _, _ in ITEM.findall(HOME)] == sorted(lessons())


def test_the_map_is_drawn_from_what_the_lessons_need():
    svg = (ROOT / "book" / "_static" / "figures" / "lesson_map.svg").read_text(encoding="utf-8")
    assert svg == draw(), "run tools/publish.py"
    found = lessons()
    assert re.findall(r'href="\.\./notebooks/(\w+)\.html"', svg) == [v[0] for v in found.values()]
    assert found[8][2] == {7}
    assert found[10][2] == {1, 5, 6, 7, 8, 9}
    assert svg.count("<path d=") == 1 + len(
        direct({n: v[2] & set(found) for n, v in found.items()})
    )
    assert set(PARTS.values()) <= set(found), "a part begins with a lesson that exists"


def test_needs_are_understood_as_they_are_written():
    assert needed("Python, and the ten minutes of the primer.") == set()
    assert needed("lesson 1 (one pair) and lesson 5; 3 cups of tea.") == {1, 5}
    assert needed("lessons 6 to 8 and 10, and decoding from lesson 17.") == {6, 7, 8, 10, 17}
    assert needed("Lessons 1, 12 and 13: two averages.") == {1, 12, 13}


def test_an_arrow_that_others_already_imply_is_not_drawn():
    assert direct({1: set(), 2: {1}, 3: {1}, 4: {1, 2, 3}, 5: {4, 1}}) == [
        (1, 2), (1, 3), (2, 4), (3, 4), (4, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["ArrowRight", "ArrowLeft"])
def test_arrow_keys_do_not_leave_a_lesson(browser, key):  # SPEC G11
    with new_page(browser) as (page, _):
        page.goto((ROOT / "_build" / "html" / "notebooks" / "02_bytes.html").as_uri())
        before = page.url
        page.keyboard.press(key)
        page.wait_for_timeout(300)
        assert page.url == before


def test_on_a_laptop_the_text_is_wide_and_the_contents_are_a_button_away(browser):  # SPEC G11
    with new_page(browser, width=1280) as (page, _):
        page.goto((ROOT / "_build" / "html" / "notebooks" / "02_bytes.html").as_uri())
        # 100 columns of code and the cell's frame; before, two sidebars left 688 pixels
        assert page.locator(".bd-article").bounding_box()["width"] > 850
        page.locator("button.secondary-toggle").click()
        page.locator("dialog[open]").get_by_role(
            "link", name="Two words that look the same"
        ).click()
        assert page.url.endswith("#two-words-that-look-the-same")
