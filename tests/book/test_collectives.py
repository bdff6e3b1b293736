"""The ring of the widget adds up, and what it says about memory is right.

SPEC G11.
"""

import pytest

from .explorer_page import check_accessible, check_fits, number, tab, write_page

WIDGET = "collectives"
GRADIENTS = [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3]]
SUMS = [sum(column) for column in zip(*GRADIENTS, strict=True)]


@pytest.fixture
def widget(page, tmp_path):
    page.goto(write_page(tmp_path, WIDGET))
    return page.locator(".tl-widget")


def grid(widget):
    """The numbers in the table, None where a rank holds nothing."""
    rows = [row.locator(".tl-value").all_inner_texts() for row in widget.locator("tbody tr").all()]
    return [[None if text == "–" else number(text) for text in row] for row in rows]


def forward(widget, times):
    for _ in range(times):
        widget.get_by_role("button", name="Next step").click()


def test_ddp_goes_once_round_to_add_and_once_to_copy(widget):
    assert grid(widget) == GRADIENTS
    forward(widget, 3)
    for rank, row in enumerate(grid(widget)):
        assert row[(rank + 1) % 4] == SUMS[(rank + 1) % 4]
    assert "Reduce-scatter, step 3 of 3. Chunks sent by each rank: 3." in widget.inner_text()
    forward(widget, 3)
    assert grid(widget) == [SUMS] * 4
    assert "Chunks sent by each rank: 6." in widget.inner_text()
    assert widget.get_by_text("16 of 16").count() == 4


def test_fsdp_holds_a_quarter_before_and_after(widget):
    widget.get_by_role("radio", name="FSDP").check()
    assert widget.get_by_text("4 of 16").count() == 4
    forward(widget, 3)
    assert grid(widget) == [[12, 27, 31, 48]] * 4
    assert widget.get_by_text("7 of 16").count() == 4
    forward(widget, 5)
    expected = [[SUMS[c] if c == (rank + 1) % 4 else None for c in range(4)] for rank in range(4)]
    assert grid(widget) == expected
    assert widget.get_by_text("4 of 16").count() == 4
    assert widget.get_by_role("button", name="Next step").is_disabled()


def test_by_keyboard(page, widget):
    tab(page, "DDP")
    page.keyboard.press("ArrowDown")
    assert "FSDP: weights" in widget.inner_text()
    tab(page, "Next step")
    for _ in range(8):
        page.keyboard.press("Enter")
    assert page.locator(":focus").inner_text() == "Back"
    page.keyboard.press("Enter")
    assert "Reduce-scatter, step 3 of 3" in widget.inner_text()


def test_it_fits_and_everyone_can_read_it(page, widget):
    check_fits(page, 1280, 390)
    page.set_viewport_size({"width": 1280, "height": 900})
    assert widget.bounding_box()["height"] <= 700
    forward(widget, 2)
    check_accessible(page, judged="td-headers-attr", more_than=20)
