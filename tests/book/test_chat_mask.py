"""The widget of the tokens that bear loss: they are `chat_example`'s, and everyone can use it.

SPEC E14, G11.
"""

import json

import page_chat
import pytest

from .explorer_page import WIDGETS, check_accessible, check_fits, open_in_article, tab

WIDGET = "chat-mask"
ALL, ENDS = "Learn every token, the user's too", "Ignore every target that looks like padding"


@pytest.fixture(scope="module")
def rows():
    """What the script sets: a text and a kind for each token."""
    text = (WIDGETS / "chat_mask_tokens.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("TransformerLessons.chat = ").rstrip(";\n"))


def learned(page) -> list[list[bool]]:
    """For each token of each row, whether it is coloured."""
    return [
        row.locator(".tl-token").evaluate_all("all => all.map(e => e.matches('.tl-learned'))")
        for row in page.locator(".tl-tokens").all()
    ]


def summary(page) -> str:
    return page.locator(".tl-summary").inner_text()


def test_the_tokens_are_those_of_chat_example(smollm2, rows):  # needs the model's file
    assert [[tuple(token) for token in row] for row in rows] == page_chat.rows()


def test_only_the_answers_and_their_ends_are_learned(widget, rows):
    kinds = [[kind in ("answer", "end") for _, kind in row] for row in rows]
    assert learned(widget) == kinds
    assert summary(widget).startswith(f"{sum(map(sum, kinds))} of 117 tokens are learned, 3 of 3")
    first = widget.locator(".tl-decoded").first.inner_text()
    assert first.endswith("decoded: 30.<|im_end|>35.<|im_end|>")


def test_every_token_is_learned_but_the_first_and_the_padding(widget, rows):
    widget.get_by_role("checkbox", name=ALL).check()
    assert learned(widget) == [
        [kind not in ("first", "padding") for _, kind in row] for row in rows
    ]
    assert "3 of 3 ends" in summary(widget)
    assert "writes the user's part itself" in summary(widget)


def test_ends_are_lost_with_the_padding(widget, rows):
    widget.get_by_role("checkbox", name=ENDS).check()
    assert learned(widget) == [[kind == "answer" for _, kind in row] for row in rows]
    assert "0 of 3 ends" in summary(widget)
    assert summary(widget).endswith("it never stops.")
    widget.get_by_role("checkbox", name=ALL).check()
    assert "0 of 3 ends" in summary(widget)
    assert summary(widget).endswith("a conversation with itself.")
    for row, flags in zip(rows, learned(widget), strict=True):
        assert not any(flag for (text, _), flag in zip(row, flags, strict=True) if "im_end" in text)


def test_with_the_keyboard_alone(widget):
    tab(widget, ALL)
    widget.keyboard.press("Space")
    assert "user's part" in summary(widget)
    tab(widget, ENDS)
    widget.keyboard.press("Space")
    assert "0 of 3 ends" in summary(widget)


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    box = open_in_article(page, tmp_path, WIDGET)
    height = box.bounding_box()["height"]
    for name in (ALL, ENDS):
        page.get_by_role("checkbox", name=name).check()
        assert box.bounding_box()["height"] == height


def test_it_fits_small_screens(widget):
    check_fits(widget, 320, 480, 768, 1280)


def test_it_is_accessible(widget):
    widget.get_by_role("checkbox", name=ALL).check()
    check_accessible(widget, judged="region")
