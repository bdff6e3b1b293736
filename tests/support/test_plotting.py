"""Figures of attention show tokens as they are, whatever is in them."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from transformer_lessons.support.plotting import draw_weights, use_book_style


def test_tokens_are_plain_text_in_figures():
    """A formula would raise, a glyph that is missing would warn, and warnings are errors here."""
    with mpl.rc_context():
        use_book_style()
        figure = Figure()
        axes = figure.subplots()
        draw_weights(axes, np.eye(3), ["$x^2", "$y$", "日\n"])
        figure.canvas.draw()
        texts = [label.get_text() for label in axes.get_yticklabels()]
        assert texts == ["$x^2", "$y$", "\\u65e5\\n"]
        figure = Figure()
        axes = figure.subplots()
        draw_weights(axes, np.eye(2))
        figure.canvas.draw()
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]
