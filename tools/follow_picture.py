"""Photograph the page "Follow a text through the model": the picture for who can't run it.

    python tools/follow_picture.py

It needs Chromium, as the tests of the pages do, and writes `book/_static/figures/follow.png`.
"""

import sys
import tempfile
from pathlib import Path

from notebook_files import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT))
from playwright.sync_api import sync_playwright

from tests.book.conftest import FLAGS, chromium_path
from tests.book.explorer_page import write_page

PICTURE = ROOT / "book" / "_static" / "figures" / "follow.png"
STAGES = ("pieces", "blocks", "choice")


def main() -> None:
    """One picture of three stages, one below the other."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(write_page(Path(folder), "follow"))
        page.evaluate("document.querySelector('main').style.cssText = 'width: 58rem; margin: auto'")
        page.get_by_role("button", name="Follow this text").click()
        page.wait_for_selector(".tl-live[aria-busy=false]")
        page.get_by_role("radio", name="block 4").check()
        page.add_style_tag(content=".tl-bar-of-stages { position: static !important }")
        files = [Path(folder) / f"{stage}.png" for stage in STAGES]
        for stage, file in zip(STAGES, files, strict=True):
            page.locator(f"#tl-follow-0-{stage}").screenshot(path=file)
        browser.close()
        parts = [Image.open(file).convert("RGB") for file in files]
    joined = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        joined.paste(part, (0, y))
        y += part.height
    joined.quantize(64).save(PICTURE, optimize=True)
    print(f"written: {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
