"""The built pages as a reader meets them, opened from the disk in a real browser.

A page is loaded once for all that is asked of it. xdist gives its workers page after page (see the
conftest.py of the project), which tells them by the name that each test has among its parameters.
"""

import os
from pathlib import Path

import pytest
import yaml
from page_links import broken
from publish import tagged_figures

from .accessibility import faint_texts, take_colours_from_code, violations
from .conftest import new_page
from .explorer_page import check_fits

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
SOURCES = ("book", "notebooks", "_config.yml", "_toc.yml")
# The pages with widgets: the name of each, and a part of what is said of its still picture.
LIVE = {
    "book/index": {"train-here": "400 training steps"},
    "book/follow": {"follow": "each of six blocks"},
    "notebooks/01_first_model": {"train-here": "400 training steps", "first-model": "attention"},
    "notebooks/03_bpe": {"bpe-stepper": "merge"},
    "notebooks/06_rope": {"rope-explorer": "query and a key"},
    "notebooks/07_attention": {"attention-explorer": "hand example"},
    "notebooks/12_optimizers": {"schedule-explorer": "three schedules"},
    "notebooks/15_several_processes": {"collectives": "four ranks"},
    "notebooks/16_a_scaling_law": {"scaling-explorer": "losses of twenty runs"},
    "notebooks/17_sampling": {"sampling-explorer": "one distribution"},
    "notebooks/18_kv_cache": {"kv-cache": "six calls"},
    "notebooks/19_speculative_decoding": {"speculative": "overlap"},
    "notebooks/21_quantization": {"quantization": "row of 192 weights"},
    "notebooks/22_fine_tuning": {"chat-mask": "tokens of two conversations"},
    "notebooks/23_rewards_and_preferences": {"reward-explorer": "leash of two strengths"},
    "notebooks/24_looking_inside": {"head-explorer": "loss by position"},
    "notebooks/25_growing_and_integers": {"fixed-point-explorer": "bits of fraction"},
    "notebooks/26_shipping": {"byte-map": "how many bytes"},
}
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
# docutils gives bibliography entries a role that ARIA 1.3 has dropped, and so the list of them
# counts as empty. Readers lose nothing by it.
NOT_JUDGED = {"book/references": ("aria-deprecated-role", "aria-required-children")}


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


@pytest.fixture(scope="module", params=PAGES)
def opened(browser, request):
    """(name, page, the troubles it has had so far) of each page of the book, opened on a phone."""
    with new_page(browser, width=390) as (page, troubles):
        page.goto(url(request.param))
        page.evaluate("window.MathJax?.startup?.promise.then(() => {})")  # until all is typeset
        yield request.param, page, troubles


def test_a_page_fits_every_screen(opened):  # SPEC G11
    _, page, _ = opened
    check_fits(page, 390, 768, 1280)


def test_every_picture_has_a_description(opened):  # SPEC G11
    _, page, _ = opened
    descriptions = page.locator("article img").evaluate_all("images => images.map(i => i.alt)")
    assert all(len(description) >= 30 for description in descriptions), descriptions


def test_with_javascript_a_widget_is_live(opened):  # SPEC G6, E11
    name, page, _ = opened
    widgets = page.locator("[data-tl-widget]")
    names = widgets.evaluate_all("all => all.map(widget => widget.dataset.tlWidget)")
    assert names == list(LIVE.get(name, {}))
    for widget in widgets.all():
        assert widget.locator(":is(input, textarea, button)").first.is_visible()
    assert not any(picture.is_visible() for picture in page.locator(".tl-fallback").all())


def test_details_are_open_in_print(opened):  # SPEC G11
    name, page, _ = opened
    page.emulate_media(media="print")
    displays = page.locator("details.hide > *:not(summary)").evaluate_all(
        "all => all.map(e => e.closest('details').open || getComputedStyle(e).display)"
    )
    page.emulate_media(media="null")
    assert "none" not in displays
    assert (len(displays) > 0) == name.startswith("notebooks/")


# The theme gives what scrolls a tab stop 0.3 seconds after the event that tells of a new size, and
# that comes with a frame.
SETTLED = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => setTimeout(done, 350))))"""


def test_a_page_is_accessible(opened):  # SPEC G11
    name, page, _ = opened
    page.set_viewport_size({"width": 1000, "height": 800})
    # What is opened fades in, and half-way its contrast is low.
    page.add_style_tag(content="* { animation: none !important; transition: none !important; }")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(SETTLED)
    for look in (look_at_code, look_at_all_but_code):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_selector(f"html[data-theme={scheme}]")
            assert look(page, name) == []


def look_at_code(page, name):
    faint, n_texts = faint_texts(page, "pre")
    assert n_texts >= page.locator("pre").count()
    return faint


def look_at_all_but_code(page, name):
    take_colours_from_code(page)
    return violations(page, tags=WCAG, off=NOT_JUDGED.get(name, ()))


def test_a_page_works_from_the_disk_alone(opened):  # SPEC G9
    """No request leaves the machine and no error is logged, whatever the tests before have done."""
    _, page, troubles = opened
    assert page.locator("article h1").count() == 1
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".math mjx-container").count() == page.locator(".math").count()
    assert troubles == []


@pytest.mark.parametrize("name", LIVE)
def test_without_javascript_the_lesson_shows_a_still_picture(browser, name):  # SPEC G6, G11, E11
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(name))
    pictures = page.locator(".tl-fallback img").all()
    for picture, said in zip(pictures, LIVE[name].values(), strict=True):
        assert picture.is_visible()
        assert said in picture.get_attribute("alt")
    context.close()


# With an address, the links of 404.html begin at the root of a server.
NOT_FOUND = [] if os.environ.get("BOOK_ADDRESS") else ["404"]


@pytest.mark.parametrize("name", [*PAGES, *NOT_FOUND, "search", "genindex"])
def test_every_link_leads_somewhere(name):
    assert broken(HTML / f"{name}.html") == []


def test_the_lessons_model_runs_in_its_page(page):  # SPEC G6
    page.goto(url("notebooks/01_first_model"))
    widget = page.locator("[data-tl-widget=first-model]")
    widget.get_by_role("button", name="Most likely byte").click()
    written = widget.locator(".tl-output").text_content()
    assert written == "a"  # what follows the "ab" it starts with


def test_figures_of_the_pages_are_those_of_the_lessons():
    figures = dict(tagged_figures(ROOT))
    assert {path.stem for path in figures} == {
        *("learning", "attention", "attention_by_hand", "rope", "bpe_steps"),
        *("schedules", "sampling", "silenced_heads", "fixed_point", "speculative_overlap"),
        *("quantization", "collectives", "byte_map", "rewards", "kv_cache", "scaling"),
    }
    for path, image in figures.items():
        assert path.read_bytes() == image, f"{path.name} is stale: run `make notebooks`"
