"""A small page with one of the explorers, opened from a file, and how its text is judged."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pydata_sphinx_theme
from axe_playwright_python.sync_playwright import Axe

WIDGETS = Path(__file__).parents[2] / "book" / "_static" / "widgets"
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
BOOK_STYLE = WIDGETS.parent / "book.css"

PAGE = """<!doctype html>
<html lang="en" data-theme="{theme}" data-mode="{theme}">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A page</title><link rel="icon" href="data:,">
{styles}
{scripts}
<body><main style="display: block; max-width: 46rem; margin: auto; padding: 1rem"><h1>A page</h1>
<figure class="tl-fallback">A static picture</figure>
<div class="tl-widget" data-tl-widget="{widget}"></div></main></body></html>"""


def write_page(
    folder: Path, widget: str, math: str, theme: str = "light", more: Sequence[str] = ()
) -> str:
    """A page with `widget` (its pure functions are in `math`); returns its address.

    `more` are the scripts that it needs besides those that every explorer has.
    """
    own = widget.replace("-", "_")
    scripts = ("elements.js", "plane.js", math, *more, f"{own}.js")
    styles = ("widget.css", f"{own}.css")
    for name in (*styles, *scripts):
        shutil.copy(WIDGETS / name, folder)
    themes = (THEME / "styles" / "pydata-sphinx-theme.css", BOOK_STYLE)
    links = (*(path.as_uri() for path in themes), *styles)
    page = PAGE.format(
        widget=widget,
        theme=theme,
        styles="".join(f'<link rel="stylesheet" href="{link}">' for link in links),
        scripts="".join(f'<script defer src="{name}"></script>' for name in scripts),
    )
    (folder / "page.html").write_text(page, encoding="utf-8")
    return (folder / "page.html").as_uri()


def number(text: str) -> float:
    """The number that a widget has written, with its true minus sign."""
    return float(text.replace("−", "-").replace("-∞", "-inf").replace(",", ""))


JUDGED = ("color-contrast", "label", "svg-img-alt")


def violations(page, judged: tuple[str, ...] = JUDGED) -> list[str]:
    """The rules of axe that the page breaks; that colours and labels were judged is checked."""
    found = Axe().run(page, options={"preload": False}).response  # no requests for the styles
    assert set(judged) <= {rule["id"] for rule in found["passes"]}
    return [violation["id"] for violation in found["violations"]]


def faint_texts(page, least: float = 4.5) -> list:
    """[text, contrast] of every text in the widget that stands out less than `least`."""
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    return [found for found in contrasts if found[1] < least]


def count_moving(page) -> int:
    """How many elements of the widget are animated or fade."""
    return page.evaluate(MOVING)


def check_picture_gives_way(page) -> None:
    """The widget is on the screen, and the static picture in print."""
    picture, live = page.locator(".tl-fallback"), page.locator(".tl-widget")
    assert (picture.is_visible(), live.is_visible()) == (False, True)
    page.emulate_media(media="print")
    assert (picture.is_visible(), live.is_visible()) == (True, False)


def check_without_javascript(browser, address: str) -> None:
    """The picture is there, and the widget is empty."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".tl-fallback").is_visible()
    assert page.locator(".tl-widget").inner_text() == ""
    context.close()


MOVING = """() => [...document.querySelectorAll(".tl-widget *")].filter((element) => {
  const style = getComputedStyle(element);
  return style.animationName !== "none" || style.transitionDuration !== "0s";
}).length"""

# [text, contrast] of every element that holds text itself, by the formula of WCAG 2. The text of
# an SVG has its colour in `fill`.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
    return element.parentElement ? ground(element.parentElement) : "rgb(255, 255, 255)";
  };
  const has_text = (element) => element.matches("input[type=number]") || [...element.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  const shown = [...document.querySelectorAll(".tl-widget *")].filter(
    (element) => has_text(element) && element.checkVisibility());
  return shown.map((element) => {
    const style = getComputedStyle(element);
    const colour = element.matches("svg text") ? style.fill : style.color;
    const lights = [light(colour), light(ground(element))];
    return [element.textContent, (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05)];
  });
}"""
