"""Make the pictures that README shows, and the card that is shown where the book is linked to.

    python tools/readme_pictures.py

It needs Chromium and tmux, as the tests do. It writes `live.png` (the model that learns in the
first page), `terminal.svg` (`make demo`) and `card.png` into `book/_static/figures`.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from notebook_files import ROOT
from PIL import Image
from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(ROOT))
from playwright.sync_api import Browser, sync_playwright

from tests.book.conftest import FLAGS, chromium_path
from tests.book.explorer_page import write_page

FIGURES = ROOT / "book" / "_static" / "figures"
COLUMNS, ROWS = 92, 30
CARD = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0; padding: 48px 64px;
  width: 1072px; height: 534px; font: 30px/1.35 "DejaVu Sans", sans-serif; color: #1f2937;
  background: #fff; border-top: 12px solid #2563a8; box-sizing: content-box }}
h1 {{ font-size: 66px; margin: 0 }}
p {{ margin: 10px 0 24px }} img {{ width: 1000px; height: 350px; object-fit: contain;
  object-position: left }}</style>
<h1>Transformer Lessons</h1>
<p>How language models work: a book that runs, and the package it is made of.</p>
<img src="{picture}">"""


def small(path: Path, colours: int = 64) -> None:
    """Keep as many colours as a drawing needs."""
    Image.open(path).convert("RGB").quantize(colours).save(path, optimize=True)


def live(browser: Browser, folder: Path) -> None:
    """The model of the first page when it has learned its pattern."""
    page = browser.new_page(viewport={"width": 900, "height": 900})
    page.goto(write_page(folder, "train-here"))
    page.evaluate("document.querySelector('main').style.cssText = 'width: 50rem; margin: auto'")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="Train again").wait_for(timeout=300_000)
    page.locator(".tl-widget").screenshot(path=FIGURES / "live.png")
    small(FIGURES / "live.png")


def terminal_svg(screen: str) -> str:
    """What a terminal shows, as a picture that needs no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Text.from_ansi(screen.rstrip()))
    svg = console.export_svg(title="make demo", unique_id="tl")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def terminal() -> None:
    """Let the demo run in a terminal of its own, and keep its last screen."""
    name = "tl-picture"
    demo = f"{sys.executable} -m transformer_lessons demo; sleep 60"
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    subprocess.run(["tmux", "new-session", "-d", "-s", name, *size, demo], cwd=ROOT, check=True)
    try:
        screen, last, quiet = "", None, 0
        while quiet < 4:  # two seconds in which nothing changes: it has ended
            time.sleep(0.5)
            shown = ["tmux", "capture-pane", "-e", "-p", "-t", name]
            screen = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
            quiet = quiet + 1 if screen == last and "400" in screen else 0
            last = screen
    finally:
        subprocess.run(["tmux", "kill-session", "-t", name], check=True)
    (FIGURES / "terminal.svg").write_text(terminal_svg(screen), "utf-8")


def card(browser: Browser, folder: Path) -> None:
    """The title and the first figure, in the shape that messengers show."""
    page = browser.new_page(viewport={"width": 1200, "height": 630})
    (folder / "card.html").write_text(
        CARD.format(picture=(FIGURES / "learning.png").as_uri()), "utf-8"
    )
    page.goto((folder / "card.html").as_uri())
    page.screenshot(path=FIGURES / "card.png")
    small(FIGURES / "card.png")


def main() -> None:
    """Make all three."""
    terminal()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        live(browser, Path(folder))
        card(browser, Path(folder))
        browser.close()
    for name in ("live.png", "terminal.svg", "card.png"):
        print(f"written: {name}, {(FIGURES / name).stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
