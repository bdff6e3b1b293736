"""A browser for the tests of what the reader sees: the system's Chromium, headless."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from .explorer_page import write_page

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SIZE = {"width": 1000, "height": 800}


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


@contextmanager
def new_page(browser: Browser, width: int = SIZE["width"]) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the list of the errors it logs and of its requests that leave this machine."""
    context = browser.new_context(viewport={**SIZE, "width": width})
    page = context.new_page()
    page.set_default_timeout(30_000)  # a page loads in less; a busy machine takes longer
    troubles = []
    page.on("console", lambda entry: entry.type == "error" and troubles.append(entry.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: is_local(request.url) or troubles.append(request.url))
    yield page, troubles
    context.close()


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost"))


@pytest.fixture
def own_page(browser):
    """A page that no other test has; the test fails if it logs an error or leaves this machine."""
    with new_page(browser) as (page, troubles):
        yield page
        assert troubles == []


@pytest.fixture(scope="module")
def lasting_page(browser):
    with new_page(browser) as made:
        yield made


@pytest.fixture
def page(lasting_page):
    """As `own_page`, but one for the module, which saves most of the time that a page takes.

    Each test starts with what it goes to, at a size of 1000 x 800 and with no media emulated. Of
    what else outlives a document nothing is set back: who needs a clock, say, takes `own_page`.
    """
    page, troubles = lasting_page
    page.set_viewport_size(SIZE)
    page.emulate_media(media="null", color_scheme="null", reduced_motion="null")
    yield page
    found = list(troubles)
    troubles.clear()  # the next test is not to blame for them
    assert found == []


@pytest.fixture
def widget(page, tmp_path, request):
    """A page with the widget that the module names in `WIDGET`."""
    page.goto(write_page(tmp_path, request.module.WIDGET))
    return page
