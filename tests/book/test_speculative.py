"""The widget of lesson 19: its rule is the package's, its draws are p's, and everyone can use it.

SPEC G10, G11.
"""

import re

import pytest
import torch

from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.generation.speculative import residual_distribution

from .explorer_page import check_accessible, check_fits, number, open_in_article, tab

WIDGET = "speculative"
P = [0.45, 0.3, 0.15, 0.1]
NAMES = "abcd"


def rule(page, name, *arguments):
    return page.evaluate(
        "([name, given]) => TransformerLessons.speculative[name](...given)", [name, arguments]
    )


def summary(page) -> tuple[float, float, float, str]:
    """The acceptance rate, tokens a pass, speed-up, and what is said of k."""
    words = page.locator(".tl-summary").inner_text()
    found = re.search(r"probability (\S+)\. A pass makes (\S+) .* written (\S+) times", words)
    return (*map(number, found.groups()), words.split("fast. ")[1])


def shares(page) -> list[float]:
    return [float(page.get_by_label(f"q of token {name}").input_value()) for name in NAMES]


def start(page, name):
    page.get_by_role("button", name=name, exact=True).click()


# ---- The rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [[0.25, 0.2, 0.4, 0.15], P, [1, 0, 0, 0]])
def test_the_residual_is_the_packages(widget, q):
    expected = residual_distribution(torch.tensor(P).double(), torch.tensor(q).double())
    assert rule(widget, "residual", P, q) == pytest.approx(expected.tolist())


def test_tokens_and_the_best_k_are_the_exercises(widget):
    for alpha, cost in ((0.3, 0.6), (0.8, 0.1), (0.9, 0.02), (0.5, 0.6)):
        for k in (1, 4):
            tokens = find_exercise("19.expected_tokens").reference(alpha, k)
            assert rule(widget, "expected_tokens", alpha, k) == pytest.approx(tokens)
        best = find_exercise("19.best_k").reference(alpha, cost, 8)
        assert rule(widget, "best_k", alpha, cost) == best


# ---- What a reader sees --------------------------------------------------------------------------


def test_it_starts_with_a_fair_draft(widget):
    alpha, tokens, speed, best = summary(widget)
    assert alpha == pytest.approx(0.25 + 0.2 + 0.15 + 0.1, abs=0.006)
    assert tokens == pytest.approx(sum(0.7**i for i in range(5)), abs=0.006)
    assert speed == pytest.approx(tokens / 1.4, abs=0.006)
    assert best == "The best k is 4."


@pytest.mark.parametrize("name", ["a fair draft", "p itself", "all alike", "one certain guess"])
def test_whatever_q_is_the_tokens_come_out_as_p(widget, name):
    start(widget, name)
    words = widget.get_by_text("In 2,000 passes").inner_text()
    tokens, *counted = map(float, re.findall(r"\d\.\d\d", words))
    assert counted == pytest.approx(P, abs=0.03)
    assert tokens == pytest.approx(summary(widget)[1], rel=0.05)


def test_p_itself_is_kept_always(widget):
    start(widget, "p itself")
    assert summary(widget)[:2] == (1, 5)
    assert widget.locator(".tl-refused").count() == 0
    assert widget.locator(".tl-own").count() == 5


def test_a_slider_moves_its_own_token_and_shares_out_the_rest(widget):
    widget.get_by_label("q of token c").fill("0.7")
    assert shares(widget) == pytest.approx([0.125, 0.1, 0.7, 0.075], abs=0.006)
    assert summary(widget)[0] == pytest.approx(0.125 + 0.1 + 0.15 + 0.075, abs=0.011)
    widget.get_by_label("q of token c").fill("1")
    widget.get_by_label("q of token c").fill("0.4")  # from nothing, the others get alike
    assert shares(widget) == pytest.approx([0.2, 0.2, 0.4, 0.2], abs=0.006)


def test_bars_are_dragged(widget):
    box = widget.locator(".tl-bars").bounding_box()
    widget.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.8 * box["height"])
    widget.mouse.down()
    height = 8 + 0.4 * (230 - 8 - 22)  # of q = 0.6, in the units of the picture
    widget.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + height / 230 * box["height"])
    widget.mouse.up()
    assert shares(widget)[1] == pytest.approx(0.6, abs=0.02)  # the one where it began
    assert sum(shares(widget)) == pytest.approx(1, abs=0.02)
    widget.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 5)
    assert shares(widget)[1] == pytest.approx(0.6, abs=0.02)


def test_a_dear_draft_is_not_worth_it(widget):
    widget.get_by_label("One guess costs").fill("0.9")
    assert summary(widget)[3] == "Without guesses it would be fastest."
    assert summary(widget)[2] < 1


def test_drawing_again_draws_others(widget):
    before = widget.locator(".tl-passes").inner_text()
    widget.get_by_role("button", name="Draw again").click()
    assert widget.locator(".tl-passes").inner_text() != before
    assert widget.locator(".tl-passes li").count() == 5


def test_with_the_keyboard_alone(widget):
    for name in NAMES:
        tab(widget, f"q of token {name}")
    widget.keyboard.press("ArrowRight")
    assert shares(widget)[3] == pytest.approx(0.16, abs=0.001)
    for name in ("a fair draft", "p itself", "all alike", "one certain guess"):
        tab(widget, name)
    widget.keyboard.press("Enter")
    assert shares(widget) == [1, 0, 0, 0]
    tab(widget, "Guesses per pass, k")
    widget.keyboard.press("ArrowRight")
    assert "5" in widget.locator(".tl-degrees").first.inner_text()
    tab(widget, "One guess costs")
    tab(widget, "Draw again")


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    box = open_in_article(page, tmp_path, WIDGET)
    height = box.bounding_box()["height"]
    page.get_by_label("One guess costs").fill("0.9")
    page.get_by_label("Guesses per pass, k").fill("8")
    start(page, "one certain guess")
    assert box.bounding_box()["height"] == height


def test_it_fits_small_screens(widget):
    widget.get_by_label("Guesses per pass, k").fill("8")
    check_fits(widget, 320, 390, 768, 1280)


def test_it_is_accessible(widget):
    check_accessible(widget, more_than=20)
