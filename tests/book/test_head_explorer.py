"""The head explorer: its numbers are the model's, and everyone can use it.

SPEC E14, G11.
"""

import base64
import json

import pytest
import torch
from page_heads import N_TEXTS, PERIOD, losses_without, repeated_text

from transformer_lessons.analysis import attention_patterns, induction_scores
from transformer_lessons.weights.shipped import load_shipped

from .explorer_page import (
    WIDGETS,
    check_accessible,
    check_fits,
    number,
    open_in_article,
    tab,
)

WIDGET = "head-explorer"
FOUR = {"5.4", "5.3", "4.5", "4.4"}
OTHERS = "Silence 4 others"


@pytest.fixture(scope="module")
def data():
    """What the script sets."""
    text = (WIDGETS / "head_losses.js").read_text(encoding="utf-8")
    assert len(text) < 300_000
    return json.loads(text.removeprefix("TransformerLessons.heads = ").rstrip(";\n"))


@pytest.fixture(scope="module")
def model():
    return load_shipped()[0].double()


def summary(page) -> str:
    return page.locator(".tl-summary").inner_text()


def losses_said(page) -> list[float]:
    """First copy, second copy, gain."""
    words = summary(page).split("Loss in the first copy ")[1].rstrip(".")
    first, rest = words.split(", in the second ")
    second, gain = rest.split("; gained by copying: ")
    return [number(word) for word in (first, second, gain)]


def head(page, name):
    return page.get_by_role("radio", name=name, exact=True)


def silent(page) -> list[str]:
    return page.locator(".tl-silent .tl-number").all_inner_texts()


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["3.5", "5.4"])
def test_the_losses_are_the_models(data, model, name):
    block, number_in_block = map(int, name.split("."))
    assert data["single"][name] == losses_without(model, [(block, number_in_block)])


def test_the_losses_of_sets_are_the_models(data, model):
    chosen = data["best"][3]
    assert set(chosen["heads"]) == FOUR
    heads = [tuple(map(int, name.split("."))) for name in chosen["heads"]]
    assert chosen["losses"] == losses_without(model, heads)
    for k, best in enumerate(data["best"], start=1):
        assert len(best["heads"]) == k
    for draw in data["draws"]:
        assert len(set(draw["heads"]) - FOUR - {"3.5", "2.5"}) == 4


def test_scores_and_patterns_are_the_models(data, model):
    patterns = attention_patterns(model, repeated_text())
    expected = induction_scores(patterns, PERIOD)
    found = torch.tensor(data["scores"]["induction"]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.0051)
    stored = torch.tensor(list(base64.b64decode(data["patterns"]["5.2"])))
    pattern = torch.zeros(50, 50, dtype=torch.float64)
    rows, columns = torch.tril_indices(50, 50)
    pattern[rows, columns] = stored.double() / 255
    torch.testing.assert_close(pattern, patterns[5, 0, 2], rtol=0, atol=0.0021)


def test_it_starts_with_nothing_silenced(widget, data):
    assert summary(widget).startswith("Nothing is silenced.")
    intact = data["intact"]
    first, second, gain = losses_said(widget)
    assert first == pytest.approx(sum(intact[:24]) / 24, abs=0.0051)
    assert second == pytest.approx(sum(intact[25:]) / 24, abs=0.0051)
    assert gain == pytest.approx(first - second, abs=0.011)
    assert silent(widget) == []
    assert "head 5.4" in widget.locator(".tl-looks figcaption").inner_text()  # the best
    texts = f"{PERIOD} random tokens, twice; {N_TEXTS} texts"
    assert texts in widget.locator(".tl-header").inner_text()


def test_all_curves_lie_inside_the_chart(widget, data):
    box = widget.locator(".tl-second-copy").evaluate(
        "box => [box.y, box.height].map(e => e.baseVal.value)"
    )
    for name in ["none", *data["single"]]:
        head(widget, name).check()
        points = widget.locator(".tl-now").get_attribute("points").split()
        heights = [float(point.split(",")[1]) for point in points]
        assert box[0] <= min(heights) < max(heights) <= box[0] + box[1], name


def test_a_head_is_silenced_and_shown(widget, data):
    line = widget.locator(".tl-now")
    before = line.get_attribute("points")
    head(widget, "3.5").check()
    assert silent(widget) == ["3.5"]
    assert summary(widget).startswith("Head 3.5 is silenced.")
    assert losses_said(widget)[1] == pytest.approx(sum(data["single"]["3.5"][25:]) / 24, abs=0.006)
    assert line.get_attribute("points") != before
    assert widget.locator(".tl-intact").get_attribute("points") == before
    assert "head 3.5" in widget.locator(".tl-looks figcaption").inner_text()
    opacities = widget.locator(".tl-pattern rect").evaluate_all(
        "cells => cells.map((cell) => Number(cell.getAttribute('opacity')))"
    )
    shares = base64.b64decode(data["patterns"]["3.5"])
    assert opacities == pytest.approx([(share / 255) ** 0.5 for share in shares], abs=0.006)
    head(widget, "none").check()
    assert summary(widget).startswith("Nothing is silenced.")
    assert silent(widget) == []


def test_the_best_heads_together(widget):
    widget.get_by_label("Silence the best induction heads").fill("4")
    assert set(silent(widget)) == FOUR
    assert losses_said(widget)[2] < 0.6  # of 5.7 with all heads
    head(widget, "5.4").check()
    assert silent(widget) == ["5.4"]
    assert widget.get_by_label("Silence the best induction heads").input_value() == "0"


def test_four_others_make_no_such_difference(widget, data):
    for draw in [*data["draws"], data["draws"][0]]:
        widget.get_by_role("button", name=OTHERS).click()
        assert set(silent(widget)) == set(draw["heads"])
        assert losses_said(widget)[2] > 4  # most of it
    assert widget.locator(".tl-grid input:checked").count() == 0


def test_the_colours_are_the_scores(widget, data):
    bar = widget.locator("label", has=head(widget, "3.5")).locator(".tl-score")
    opacity = "bar => Number(bar.style.opacity)"
    assert bar.evaluate(opacity) == pytest.approx(
        data["scores"]["induction"][3][5] ** 0.5, abs=0.01
    )
    widget.get_by_role("radio", name="previous-token score").check()
    assert bar.evaluate(opacity) == pytest.approx(data["scores"]["previous"][3][5] ** 0.5, abs=0.01)
    assert bar.evaluate(opacity) > 0.9


def test_with_the_keyboard_alone(widget):
    tab(widget, "none")
    widget.keyboard.press("ArrowRight")
    assert silent(widget) == ["0.0"]
    widget.keyboard.press("ArrowLeft")
    assert silent(widget) == []
    tab(widget, "induction score")
    tab(widget, "Silence the best induction heads")
    widget.keyboard.press("ArrowRight")
    assert silent(widget) == ["5.4"]
    tab(widget, OTHERS)
    widget.keyboard.press("Enter")
    assert len(silent(widget)) == 4


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    box = open_in_article(page, tmp_path, WIDGET)
    height = box.bounding_box()["height"]
    page.get_by_label("Silence the best induction heads").fill("8")
    assert box.bounding_box()["height"] == height


def test_it_fits_small_screens(widget):
    check_fits(widget, 320, 480, 768, 1280)


def test_it_is_accessible(widget):
    widget.get_by_label("Silence the best induction heads").fill("4")
    check_accessible(widget)
