"""Weigh the built pages, and measure how soon they show something.

    python tools/page_weight.py [--no-browser]

A page's own bytes are itself, its pictures, and the scripts of its widgets. What every page loads
is shared: it comes once. Sizes are compressed as a web server sends them (gzip). The times are the
browser's: until the first text is painted, until the page has loaded, and until it answers (its
scripts have run, and no task has kept it busy for 50 ms since). By how much what was shown has
moved meanwhile is the cumulative layout shift: 0.1 is the limit that Google's guide calls good. A
busy machine makes times longer.
"""

import gzip
import re
import sys
from pathlib import Path

from notebook_files import ROOT

sys.path.insert(0, str(ROOT))
HTML = ROOT / "_build" / "html"
LOADED = re.compile(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="([^"?#]+)[^"]*"[^>]*>')
OWN = ("_images/", "_static/widgets/", "_static/figures/")
TIMES = """() => new Promise((done) => {
  let moved = 0, busy = 0;
  new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) if (!shift.hadRecentInput) moved += shift.value;
  }).observe({type: "layout-shift", buffered: true});
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) busy = task.startTime + task.duration;
  }).observe({type: "longtask", buffered: true});
  setTimeout(() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN;
    const {domContentLoadedEventEnd: ran, loadEventEnd: loaded} =
      performance.getEntriesByType("navigation")[0];
    done([paint, loaded, moved, Math.max(paint, ran, busy)]);
  }, 500);
})"""


def sent(path: Path) -> int:
    """The bytes of a file on its way: compressed, where that makes it smaller."""
    data = path.read_bytes()
    return min(len(data), len(gzip.compress(data, 6, mtime=0)))


def files_of(page: Path) -> tuple[set[Path], set[Path]]:
    """(its own files, itself among them, the files that it shares with others)."""
    own: set[Path] = {page}
    shared: set[Path] = set()
    for tag in LOADED.finditer(page.read_text("utf-8")):
        path = (page.parent / tag[1]).resolve()
        if path.suffix != ".html" and path.is_file():
            (own if any(part in path.as_posix() for part in OWN) else shared).add(path)
    return own, shared


def weights(pages: list[Path]) -> tuple[dict[Path, int], int]:
    """({page: its own bytes}, the bytes of all that pages share), as they are sent."""
    found = {page: files_of(page) for page in pages}
    shared = set().union(*(files for _, files in found.values()))
    return {page: sum(map(sent, own)) for page, (own, _) in found.items()}, sum(map(sent, shared))


def times(pages: list[Path]) -> dict[Path, tuple[float, ...]]:
    """{page: (first paint and loaded in ms, layout shift, answers in ms)}, in Chromium."""
    from playwright.sync_api import sync_playwright

    from tests.book.conftest import FLAGS, chromium_path

    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        for page in pages:
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            opened = context.new_page()
            opened.goto(page.as_uri())
            found[page] = tuple(opened.evaluate(TIMES))
            context.close()
        browser.close()
    return found


def main(arguments: list[str]) -> int:
    """Print a line for each page."""
    pages = sorted([*HTML.glob("book/*.html"), *HTML.glob("notebooks/*.html")])
    own, shared = weights(pages)
    measured = {} if "--no-browser" in arguments else times(pages)
    columns = f"{'own kB':>7} {'paint ms':>9} {'load ms':>8} {'answers ms':>11} {'moved':>6}"
    print(f"{'page':42} {columns}")
    for page in pages:
        paint, load, moved, answers = measured.get(page, (float("nan"),) * 4)
        name = page.relative_to(HTML).as_posix()
        shown = f"{paint:9.0f} {load:8.0f} {answers:11.0f} {moved:6.3f}"
        print(f"{name:42} {own[page] / 1e3:7.0f} {shown}")
    print(f"shared by all: {shared / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
