"""Tokens under a figure: drawn as they are, whatever they are."""

import warnings

import matplotlib
import pytest
from matplotlib.figure import Figure

from transformer_lessons.support import plotting

TOKENS = ["$x$", "a$", "\\frac{", "中", "😀", "\n", "\x1b", "é", "\udcff", "^_"]
SHOWN = ["$x$", "a$", "\\frac{", "\\u4e2d", "😀", "\\n", "\\x1b", "é", "\\udcff", "^_"]


def draw(labels):
    figure = Figure()
    axes = figure.subplots()
    grid = [[1.0] + [0.0] * 9] * 10
    plotting.draw_weights(axes, grid, labels)
    return figure, axes


def test_dollars_and_missing_glyphs_are_shown_and_nothing_warns():
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        plotting.use_book_style()
        figure, axes = draw(TOKENS)
        figure.canvas.draw()
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            assert [tick.get_text() for tick in ticks] == SHOWN
            assert not any(tick.get_parse_math() for tick in ticks)


def test_without_labels_tokens_are_counted():
    _, axes = draw(None)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [str(n) for n in range(10)]


@pytest.mark.parametrize("text", ["", "plain", "né · ␣ → ✓"])
def test_what_the_font_has_stays(text):
    assert plotting.in_font(text) == text
