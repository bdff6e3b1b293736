"""The icons that no page shows are left out, and those that pages show are there."""

from pathlib import Path

from .conftest import new_page

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"


def test_the_script_of_icons_is_small_and_every_icon_is_drawn(browser):
    assert (HTML / "_static" / "scripts" / "fontawesome.js").stat().st_size < 150_000
    with new_page(browser, width=1280) as (page, _):
        for name in ("book/index", "notebooks/02_bytes", "book/reference/model", "search"):
            page.goto((HTML / f"{name}.html").as_uri())
            page.wait_for_selector("svg.svg-inline--fa", state="attached")
            asked = page.locator("i[class*='fa-']").count()
            drawn = page.locator("svg.svg-inline--fa").evaluate_all(
                "all => all.map(i => [i.dataset.icon, i.querySelectorAll('path[d]').length])"
            )
            assert asked == 0, "what is drawn takes the place of what asked for it"
            assert len(drawn) >= 6
            assert all(name != "question" and n_paths == 1 for name, n_paths in drawn), drawn
