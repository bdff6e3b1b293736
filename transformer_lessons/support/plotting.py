"""How the book's figures look: one style, and colours that read on white and for colour-blind eyes.

Figures have a white ground; the book's pages set them on a card in dark mode.
"""

from pathlib import Path

INK, MUTED = "#1f2937", "#6b7280"
BLUE, ORANGE, GREEN, PURPLE = "#2563a8", "#c2570c", "#2f7d4f", "#7a4b9d"
STYLE = Path(__file__).with_name("book.mplstyle")
ONE_HUE, TWO_HUES = "Blues", "RdBu_r"  # for shares from 0 to 1, and for numbers around 0


def use_book_style() -> None:
    """Make every matplotlib figure of this process look like the book's."""
    from matplotlib import style

    style.use(STYLE)


def byte_label(byte: int) -> str:
    """How a byte is written under a figure: its character if it has one, else its number.

    >>> byte_label(97), byte_label(32), byte_label(255)
    ('a', '␣', '255')
    """
    if byte == 32:
        return "␣"
    return chr(byte) if 32 < byte < 127 else str(byte)


def drawable(text: str) -> str:
    """`text` with what the book's font doesn't have spelled as an escape.

    >>> drawable("é日")
    'é\\\\u65e5'
    """
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(c if font.get_char_index(ord(c)) else ascii(c)[1:-1] for c in text)


def draw_weights(axes, weights, labels=None) -> None:
    """Draw attention weights (T, T) as a grid of blues with the numbers in it.

    Row t, top to bottom, is the query at t; columns are keys. `labels` names the tokens, as plain
    text: a $ is no formula, and what the font doesn't have is shown as \\u and a number.
    """
    n_tokens = len(weights)
    axes.imshow(weights, cmap=ONE_HUE, vmin=0, vmax=1)
    for t in range(n_tokens):
        for s in range(t + 1):
            colour = "white" if weights[t][s] > 0.6 else INK
            text = f"{float(weights[t][s]):.2f}"
            axes.text(s, t, text, ha="center", va="center", fontsize=8, color=colour)
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        if labels is None:
            set_ticks(range(n_tokens))
        else:
            set_ticks(range(n_tokens), map(drawable, labels), parse_math=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
