"""The row that is rounded: its numbers are the model's, and everyone can use it.

SPEC G10, G11.
"""

import json
from itertools import product

import pytest
import torch

from transformer_lessons.weights.quantize import round_to_groups
from transformer_lessons.weights.shipped import load_shipped

from .explorer_page import WIDGETS, check_accessible, check_fits, number, tab

WIDGET = "quantization"


def row():
    text = (WIDGETS / "quantization_row.js").read_text(encoding="utf-8")
    values = text.removeprefix("TransformerLessons.quantization_row = ").rstrip(";\n")
    return torch.tensor(json.loads(values))


def figures(page) -> tuple[float, int, int, float]:
    """Bits per weight, how many weights, how many different numbers, error in percent."""
    words = page.locator(".tl-summary").inner_text().split()
    at = words.index("rounded")
    count = next(int(word) for word in words[5:at] if word.isdigit())
    return number(words[0]), count, int(words[at + 2]), number(words[-4].rstrip("%"))


def expected(weights, bits, group, symmetric):
    rounded = round_to_groups(weights[None], bits, group, symmetric, torch.float32).weight()[0]
    kept = weights < 15 * row().abs().max()  # not the large one
    error = (rounded - weights)[kept].norm() / weights[kept].norm()
    n_numbers = len({f"{w:.5f}" for w in rounded[kept].tolist()})
    size = bits + (16 if symmetric else 32) / group
    return size, int(kept.sum()), n_numbers, 100 * error.item()


def choose(page, bits, group, symmetric):
    page.get_by_label("Bits", exact=True).fill(str(bits))
    page.get_by_label("all 192" if group == 192 else str(group), exact=True).check()
    page.get_by_label("symmetric" if symmetric else "asymmetric", exact=True).check()


def test_the_row_is_the_models():
    assert torch.equal(row(), load_shipped()[0].blocks[0].attention.qkv.weight[0].float())


@pytest.mark.parametrize("spoiled", [False, True])
def test_what_is_said_is_what_the_package_does(widget, spoiled):
    widget.get_by_label("Make one weight").set_checked(spoiled)
    weights = row()
    if spoiled:
        weights[70] = 20 * weights.abs().max()
    for bits, (group, symmetric) in product((2, 3, 5, 8), ((192, True), (64, False), (16, True))):
        choose(widget, bits, group, symmetric)
        found, right = figures(widget), expected(weights, bits, group, symmetric)
        assert found[0] == pytest.approx(right[0], abs=0.0051)
        assert found[1] == right[1]
        assert abs(found[2] - right[2]) <= 2  # float32 may take two sums for different numbers
        assert found[3] == pytest.approx(right[3], abs=0.06)


def test_the_lines_are_the_grids(widget):
    choose(widget, 3, 64, False)
    assert widget.locator(".tl-lines").get_attribute("d").count("M") == 3 * 8
    choose(widget, 3, 192, True)
    assert widget.locator(".tl-lines").get_attribute("d").count("M") == 7
    assert widget.locator(".tl-dots").get_attribute("d").count("M") == 192


def test_the_keyboard_is_enough(widget):
    tab(widget, "Bits")
    widget.keyboard.press("ArrowRight")
    assert figures(widget)[0] == pytest.approx(4 + 32 / 192, abs=0.0051)
    tab(widget, "Make one weight")
    widget.keyboard.press("Space")
    assert figures(widget)[1] == 191
    tab(widget, "all 192")
    widget.keyboard.press("ArrowDown")
    assert figures(widget)[0] == 4.5
    tab(widget, "asymmetric")
    widget.keyboard.press("ArrowDown")
    assert figures(widget)[0] == 4.25


def test_it_fits_small_screens(widget):
    check_fits(widget, 320, 390, 480, 768, 1280)


def test_it_is_accessible(widget):
    check_accessible(widget, more_than=10)
