"""A small page with one of the widgets, opened from a file, and what is asked of every widget."""

import shutil
from pathlib import Path

import pydata_sphinx_theme
from playwright.sync_api import Locator, Page

from .accessibility import faint_texts, violations

WIDGETS = Path(__file__).parents[2] / "book" / "_static" / "widgets"
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
BOOK_STYLE = WIDGETS.parent / "book.css"

# What each widget needs between the scripts that all have and the one with its own name.
SCRIPTS = {
    "first-model": ("decoder.js", "model_file.js", "attention_grid.js", "first_model_weights.js"),
    "train-here": (
        *("decoder.js", "model_file.js", "schedule.js", "autograd.js", "training.js"),
        "train_here_pictures.js",
    ),
    "bpe-stepper": ("bpe.js", "bpe_pieces.js"),
    "rope-explorer": ("rope.js",),
    "attention-explorer": ("attention.js",),
    "head-explorer": ("head_losses.js",),
    "fixed-point-explorer": (
        *("decoder.js", "model_file.js", "fixed_point.js", "first_model_weights.js"),
    ),
    "speculative": (),
    "quantization": ("quantization_row.js",),
    "byte-map": ("byte_map_file.js", "byte_map_gguf.js"),
    "chat-mask": ("chat_mask_tokens.js",),
    "reward-explorer": ("reward_world.js",),
    "collectives": (),
    "kv-cache": (),
    "scaling-explorer": ("scaling_runs.js",),
    "schedule-explorer": (
        *("schedule.js", "ravine.js", "schedule_form.js", "schedule_pictures.js"),
        "schedule_table.js",
    ),
    "sampling-explorer": (
        *("decoder.js", "bpe.js", "bpe_pieces.js", "sampling.js", "sampling_form.js"),
        *("sampling_table.js", "sampling_scores.js"),
    ),
    "follow": (
        *("decoder.js", "model_file.js", "bpe.js", "bpe_pieces.js", "sampling.js"),
        *("first_model_weights.js", "follow_file.js", "follow_model.js", "follow_pictures.js"),
        *("follow_stages.js", "follow_choice.js", "follow_form.js"),
    ),
}
FETCHED = {
    "follow": ("python_small_weights.js",),
    "sampling-explorer": ("follow_file.js", "follow_model.js", "python_small_weights.js"),
}  # when the reader asks for it

PAGE = """<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A page</title><link rel="icon" href="data:,">
{styles}
{scripts}
<body><main style="width: 100%; max-width: 46rem; margin: auto; padding: 1rem"><h1>A page</h1>
<figure class="tl-fallback">A static picture</figure>
<div class="tl-widget" data-tl-widget="{widget}"></div></main></body></html>"""


def write_page(folder: Path, widget: str, without: str = "") -> str:
    """A page with `widget`, which lacks the script `without`; returns its address."""
    own = widget.replace("-", "_")
    scripts = ("elements.js", "plane.js", *SCRIPTS[widget], f"{own}.js")
    styles = ("widget.css", f"{own}.css")
    for name in (*styles, *scripts, *FETCHED.get(widget, ())):
        shutil.copy(WIDGETS / name, folder)
    themes = (THEME / "styles" / "pydata-sphinx-theme.css", BOOK_STYLE)
    links = (*(path.as_uri() for path in themes), *styles)
    tags = [f'<script defer src="{name}"></script>' for name in scripts if name != without]
    page = PAGE.format(
        widget=widget,
        styles="".join(f'<link rel="stylesheet" href="{link}">' for link in links),
        scripts="".join(tags),
    )
    (folder / "page.html").write_text(page, encoding="utf-8")
    return (folder / "page.html").as_uri()


def number(text: str) -> float:
    """The number that a widget has written, with its true minus sign."""
    return float(text.replace("−", "-").replace("-∞", "-inf").replace(",", ""))


def focused_name(page: Page) -> str:
    """What a screen reader calls the element that has the focus."""
    return page.locator(":focus").evaluate(
        """e => e.ariaLabel ?? e.labels?.[0]?.textContent
          ?? document.getElementById(e.getAttribute("aria-labelledby"))?.textContent
          ?? e.textContent"""
    )


def tab(page: Page, name: str, times: int = 1) -> None:
    """Press Tab: what then has the focus is called `name`, or so it begins, and shows that."""
    for _ in range(times):
        page.keyboard.press("Tab")
    assert focused_name(page).startswith(name)
    assert page.locator(":focus").evaluate("e => getComputedStyle(e).outlineStyle") != "none"


def check_fits(page: Page, *widths: int) -> None:
    """On screens of these widths nothing sticks out."""
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def open_in_article(page: Page, folder: Path, widget: str) -> Locator:
    """The widget on a laptop, about as wide as in an article of the book; it is not too high."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(write_page(folder, widget))
    page.add_style_tag(content="main { width: 46rem }")
    box = page.locator(".tl-widget")
    assert box.bounding_box()["height"] <= 700
    return box


def check_accessible(page: Page, judged: str = "svg-img-alt", more_than: int = 30) -> None:
    """axe finds nothing, having met `judged`; in both themes each text stands out, even if large.

    `more_than` that many texts are looked at.
    """
    page.emulate_media(reduced_motion="reduce")  # half-way from colour to colour, contrast is low
    assert violations(page, judged=("color-contrast", "label", judged)) == []
    for theme in ("dark", "light"):
        page.evaluate("x => { document.documentElement.dataset.theme = x; }", theme)
        faint, n_texts = faint_texts(page, ".tl-widget")
        assert n_texts > more_than
        assert faint == []


def count_moving(page: Page) -> int:
    """How many elements of the widget are animated or fade."""
    return page.evaluate(MOVING)


MOVING = """() => [...document.querySelectorAll(".tl-widget *")].filter((element) => {
  const style = getComputedStyle(element);
  return style.animationName !== "none" || style.transitionDuration !== "0s";
}).length"""
