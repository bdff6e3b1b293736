"""The explorer of lesson 16 in a real browser; the oracle is the package."""

import math
import re

import numpy as np
import pytest
from page_scaling import lesson_surface
from scaling import STORED

from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.support.files import read_json
from transformer_lessons.training.scaling import size_ladder, training_flops

from .explorer_page import check_accessible, check_fits, number, open_in_article, tab, write_page

WIDGET = "scaling-explorer"
ROWS = read_json(STORED)["rows"]
SURFACE = lesson_surface(ROWS)


@pytest.fixture
def widget(page, tmp_path):
    page.goto(write_page(tmp_path, WIDGET))
    return page


def ours(page, expression):
    return page.evaluate(f"(() => {{ const s = TransformerLessons.scaling; {expression} }})()")


def summary(page):
    return page.locator(".tl-summary").inner_text()


def size(text):
    """The number in "45,000" or "1.2 million"."""
    digits, *unit = text.split()
    return number(digits) * {"million": 1e6, "billion": 1e9}.get(unit[0] if unit else "", 1)


def said(page):
    """Size, bytes, loss; the same of the best; and the exponent."""
    amount = r"([\d.,]+(?: million| billion)?)"
    pattern = (
        rf"operations, {amount} parameters read {amount} bytes and come to a loss of ([\d.]+)\. "
        rf"Best: {amount} parameters, {amount} bytes, loss ([\d.]+\d)"
        r".* to the power of ([\d.]+\d)\."
    )
    return [size(text) for text in re.search(pattern, summary(page)).groups()]


def lowest(C, flops_of=lambda d: 144 * d * d + 2304 * d):
    """Width, size and loss at the bottom of the valley, by looking at 200,000 widths."""
    d = np.geomspace(2, 3000, 200_000)
    losses = SURFACE.loss(24 * d * d + 261 * d, C / flops_of(d))
    i = losses.argmin()
    return d[i], losses[i]


def test_its_formulas_are_those_of_the_ladder(widget):  # SPEC G16
    for config in size_ladder(10):
        d, counts = config.d_model, parameter_counts(config)
        everything = sum(counts.values())
        found = ours(widget, f"return Object.values(s.COUNTS).map((count) => count.of({d}))")
        blocks = counts["attention"] + counts["feed-forward"]
        assert found == [everything - counts["embedding"], everything, blocks]
        assert ours(widget, f"return s.flops_of({d})") == training_flops(config, 1)


def test_its_runs_and_surface_are_the_stored_ones(widget):  # SPEC G16
    rows = [row for row in ROWS if row["use"] in ("fit", "held out")]
    runs = ours(widget, "return s.runs")
    assert [(run["width"], run["budget"]) for run in runs] == [
        (row["width"], row["budget"]) for row in rows
    ]
    for run, row in zip(runs, rows, strict=True):
        assert run["loss"] == pytest.approx(row["loss"], abs=1e-4)
        loss = ours(widget, f"return s.loss_of({row['width']}, {row['flops']})")
        counts = row["parameters"]
        N = sum(counts.values()) - counts["embedding"]
        assert loss == pytest.approx(SURFACE.loss(N, row["tokens"]), abs=1e-4)


@pytest.mark.parametrize("exponent", [10.5, 12, 13.5])
def test_the_best_size_is_the_lowest_of_many(widget, exponent):  # SPEC G16
    width, loss = lowest(10**exponent)
    found = ours(widget, f"return s.best_width({10**exponent})")
    assert found == pytest.approx(width, rel=2e-3)
    widget.get_by_label("Budget", exact=True).fill(str(exponent))
    *_, best, _, best_loss, _ = said(widget)
    assert best == pytest.approx(24 * width**2 + 261 * width, rel=0.06)  # two digits are shown
    assert best_loss == pytest.approx(loss, abs=6e-4)


def test_what_counts_turns_the_exponent_and_leaves_the_loss(widget):  # SPEC G16
    shown = []
    for name in ("all", "without the embedding", "only in the blocks"):
        widget.get_by_role("radio", name=name, exact=True).check()
        shown.append(said(widget))
    sizes, exponents = [row[3] for row in shown], [row[-1] for row in shown]
    assert sizes == sorted(sizes, reverse=True)
    assert exponents == sorted(exponents)
    assert len({tuple(row[i] for i in (1, 2, 4, 5)) for row in shown}) == 1
    (low, _), (high, _) = lowest(0.5e12), lowest(2e12)
    blocks = math.log(high**2 / low**2) / math.log(4)
    assert exponents[2] == pytest.approx(blocks, abs=0.006)


def test_with_a_large_budget_the_counts_agree(widget):
    def gap(exponent):
        found = [
            ours(widget, f"return s.exponent_of('{count}', {10**exponent})")
            for count in ("all", "blocks")
        ]
        return found[1] - found[0]

    assert gap(14) < gap(12) / 2


def test_the_size_is_dragged(widget):
    box = widget.locator(".tl-chart").first.bounding_box()
    before = said(widget)
    y = box["y"] + box["height"] / 2
    widget.mouse.move(box["x"] + box["width"] / 2, y)
    widget.mouse.down()
    widget.mouse.move(box["x"] + box["width"] * 0.7, y)
    widget.mouse.up()
    after = said(widget)
    left = (0.7 * 460 - 40) / 410  # of the axis, from 1,000 to 4 million
    assert after[0] == pytest.approx(1e3 * 4000**left, rel=0.06)
    assert after[3:] == before[3:]
    widget.mouse.move(box["x"] + box["width"] * 0.3, y)
    assert said(widget) == after  # nothing is pressed


def test_a_run_of_the_chosen_budget_stands_out(widget):
    widget.get_by_label("Budget", exact=True).fill("11.5")
    near = widget.locator(".tl-near")
    assert near.count() == sum(row["budget"] == 3e11 for row in ROWS if row["use"] == "fit")
    widget.get_by_label("Budget", exact=True).fill("12")
    assert near.count() == sum(row["budget"] == 1e12 for row in ROWS if row["use"] == "fit")


def test_the_keyboard_reaches_everything(widget):  # SPEC G11
    tab(widget, "Budget")
    widget.keyboard.press("ArrowRight")
    assert "1.3 · 10¹² operations" in summary(widget)
    tab(widget, "Size of the model")
    before = said(widget)
    widget.keyboard.press("ArrowLeft")
    assert said(widget)[0] < before[0]
    tab(widget, "without the embedding")
    widget.keyboard.press("ArrowRight")
    assert widget.get_by_role("radio", name="all", exact=True).is_checked()


def test_it_fits_every_screen(widget):  # SPEC G11
    check_fits(widget, 320, 390, 768, 1280)


def test_it_is_accessible(page, tmp_path):  # SPEC G11
    open_in_article(page, tmp_path, WIDGET)
    check_accessible(page, more_than=20)
