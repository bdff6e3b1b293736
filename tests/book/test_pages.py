"""The built pages as a reader meets them, opened from the disk in a real browser."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from publish import tagged_figures

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
SOURCES = ("book", "notebooks", "_config.yml", "_toc.yml")


@pytest.fixture(scope="module", autouse=True)
def site():
    """The pages exist and are newer than what they were made from."""
    index = HTML / "index.html"
    if not index.exists():
        pytest.fail("there are no pages; run `make book`")
    files = [path for name in SOURCES for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    newest = max((path for path in files if path.is_file()), key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime > index.stat().st_mtime:
        pytest.fail(f"{newest.name} has changed since the book was built; run `make book`")


def url(name: str) -> str:
    return (HTML / f"{name}.html").as_uri()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_from_the_disk_alone(page, name):  # SPEC G9
    """No request leaves the machine and no error is logged: the `page` fixture looks."""
    page.goto(url(name))
    page.wait_for_load_state("networkidle")
    assert page.locator("article h1").count() == 1
    assert page.locator("mjx-merror").count() == 0
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible(page, name, scheme):  # SPEC G11
    page.emulate_media(color_scheme=scheme)
    page.goto(url(name))
    page.wait_for_load_state("networkidle")
    # What is opened fades in, and half-way its contrast is low.
    page.add_style_tag(content="* { animation: none !important; transition: none !important; }")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    options = {
        "preload": False,
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
    }
    if name == "book/references":
        # docutils gives bibliography entries a role that ARIA 1.3 has dropped, and so the list of
        # them counts as empty. Readers lose nothing by it.
        rules = ("aria-deprecated-role", "aria-required-children")
        options["rules"] = {rule: {"enabled": False} for rule in rules}
    found = Axe().run(page, options=options)
    troubles = [
        (violation["id"], node["html"][:120])
        for violation in found.response["violations"]
        for node in violation["nodes"]
    ]
    assert troubles == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 768])
def test_a_page_fits_a_narrow_screen(page, name, width):  # SPEC G11
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(url(name))
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_has_a_description(page, name):  # SPEC G11
    page.goto(url(name))
    descriptions = page.locator("article img").evaluate_all("images => images.map(i => i.alt)")
    assert all(len(description) >= 30 for description in descriptions), descriptions


def links(name: str) -> list[str]:
    text = (HTML / f"{name}.html").read_text(encoding="utf-8")
    return [link for link in re.findall(r'href="([^"]+)"', text) if not urlparse(link).scheme]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    page = HTML / f"{name}.html"
    for link in links(name):
        path, fragment = urldefrag(unquote(link).partition("?")[0])
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment and target.suffix == ".html":
            assert f'id="{fragment}"' in target.read_text(encoding="utf-8"), link


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light(name):
    """Under 1 MB with its own pictures, shared assets aside (TARGETS)."""
    page = HTML / f"{name}.html"
    text = page.read_text(encoding="utf-8")
    own = set(re.findall(r'src="(\.\./_images/[^"]+)"', text))
    assert page.stat().st_size + sum((page.parent / i).stat().st_size for i in own) < 1e6


LIVE = {
    "01_first_model": ("first-model", "attention"),
    "03_bpe": ("bpe-stepper", "merge"),
    "06_rope": ("rope-explorer", "query and a key"),
    "07_attention": ("attention-explorer", "hand example"),
    "12_optimizers": ("schedule-explorer", "three schedules"),
    "17_sampling": ("sampling-explorer", "one distribution"),
}


@pytest.mark.parametrize(("lesson", "live"), LIVE.items())
def test_without_javascript_the_lesson_shows_a_still_picture(browser, lesson, live):
    # SPEC G6, G11, E11
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(f"notebooks/{lesson}"))
    picture = page.locator(".tl-fallback img")
    assert picture.is_visible()
    assert live[1] in picture.get_attribute("alt")
    context.close()


@pytest.mark.parametrize(("lesson", "live"), LIVE.items())
def test_with_javascript_it_is_live(page, lesson, live):  # SPEC G6, E11
    page.goto(url(f"notebooks/{lesson}"))
    assert page.locator(f"[data-tl-widget={live[0]}] :is(input, textarea)").first.is_visible()
    assert not page.locator(".tl-fallback").is_visible()


def test_the_lessons_model_runs_in_its_page(page):  # SPEC G6
    page.goto(url("notebooks/01_first_model"))
    widget = page.locator("[data-tl-widget=first-model]")
    widget.get_by_role("button", name="Most likely byte").click()
    assert (
        widget.locator(".tl-output").text_content() == "a"
    )  # what follows the "ab" it starts with
    assert not page.locator(".tl-fallback").is_visible()


def test_figures_of_the_pages_are_those_of_the_lessons():

    figures = dict(tagged_figures(ROOT))
    assert {path.stem for path in figures} == {
        *("learning", "attention", "attention_by_hand", "rope", "bpe_steps"),
        *("schedules", "sampling"),
    }
    for path, image in figures.items():
        assert path.read_bytes() == image, f"{path.name} is stale: run `make notebooks`"


def test_details_are_open_in_print(page):  # SPEC G11
    page.goto(url("notebooks/01_first_model"))
    page.emulate_media(media="print")
    hidden = page.locator("details.hide > *:not(summary)").first
    assert hidden.evaluate("e => getComputedStyle(e).display") != "none"
