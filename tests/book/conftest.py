"""A browser for the tests of what the reader sees: the system's Chromium, headless."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium_path() -> str | None:
    """The file named by the variable CHROMIUM, or the first Chromium on the path."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    candidates = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in candidates if (found := shutil.which(name))), None)


# A browser a module, not one for the session: as long as Playwright runs, its event loop occupies
# the thread, and `asyncio.run` fails in every test that follows.
@pytest.fixture(scope="module")
def browser():
    """A headless Chromium. Without one the tests are skipped, but where CI is set they fail."""
    path = chromium_path()
    if path is None:
        named = os.environ.get("CHROMIUM")
        missing = f"CHROMIUM names {named}, which is not a file" if named else "no Chromium found"
        message = f"{missing}: install it (apt install chromium) or set CHROMIUM to its path"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A fresh page of 1000 x 800; the test fails if it logs an error or leaves this machine."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    page = context.new_page()
    page.set_default_timeout(30_000)  # a page loads in less; a busy machine takes longer
    troubles = []
    page.on("console", lambda entry: entry.type == "error" and troubles.append(entry.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: is_local(request.url) or troubles.append(request.url))
    yield page
    context.close()
    assert troubles == []


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost"))
