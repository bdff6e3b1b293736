"""Faults that the looks at a page have to find, and a fault for each part of the looks."""

import pytest

from .accessibility import faint_texts, take_colours_from_code, violations

PAGE = """<!doctype html><html lang="en"><title>A page</title>
<style>body {{ background: white }} .k {{ color: #005a9c }} .faint {{ color: #8a8a8a }}
  .on-dark {{ background: #222222; color: white }}
  @media (prefers-color-scheme: dark) {{ body {{ background: #111111; color: white }}
    .k {{ color: #66b2ff }} .n {{ color: #5a5a5a }} }}</style>
<main><h1>A page</h1><p>Words in <a href="#a">a link</a></p>
<pre><span></span><span class="k">def</span> <span class="n">f</span>(x)</pre>{fault}</main>"""

FAULTS = {
    '<img src="data:," class="k">': {"image-alt"},
    '<button class="k"></button>': {"button-name"},
    '<a href="#b"><span class="k"></span></a>': {"link-name"},
    "<label>Rate</label><input>": {"label"},
    '<p class="faint">grey</p>': {"color-contrast"},
    '<pre><a href="#c"><span class="k"></span></a></pre>': {"link-name"},  # not only colours
    '<pre class="faint"><span class="k">all</span> grey</pre>': {"color-contrast"},
    "": set(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_axe_finds_a_fault_when_colours_are_taken_from_code(page, fault):  # SPEC G11
    page.set_content(PAGE.format(fault=fault))
    take_colours_from_code(page)
    assert page.locator("pre .k").count() == ("<pre><a" in fault)
    assert {rule for rule, _ in violations(page)} == FAULTS[fault]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_faint_code_is_found_in_its_theme(page, scheme):  # SPEC G11
    page.emulate_media(color_scheme=scheme)
    page.set_content(PAGE.format(fault=""))
    faint, n_texts = faint_texts(page, "pre")
    assert n_texts == 3  # def, f, and the rest
    assert [text for text, _ in faint] == (["f"] if scheme == "dark" else [])


def test_contrast_is_that_of_wcag_and_of_axe(page):  # SPEC G11
    """Black on white is 21 to 1, and at 4.5 axe and `faint_texts` part the same greys."""
    colours = ["#000000", "#767676", "#777777", "rgb(0 0 0 / 54%)", "rgb(0 0 0 / 53%)", "#eeeeee"]
    fault = "".join(f'<p style="color: {colour}">{colour}</p>' for colour in colours)
    page.set_content(PAGE.format(fault=fault + '<p class="on-dark">white</p>'))
    contrasts = dict(faint_texts(page, "p[style], .on-dark", least=100)[0])
    assert contrasts["#000000"] == pytest.approx(21)
    assert contrasts["#eeeeee"] == pytest.approx(1.16, abs=0.005)
    assert contrasts["white"] == pytest.approx(15.9, abs=0.05)
    ours = [text for text, _ in faint_texts(page, "p[style]")[0]]
    assert ours == ["#777777", "rgb(0 0 0 / 53%)", "#eeeeee"]
    axes = [html for rule, html in violations(page) if rule == "color-contrast"]
    assert [html.split(">")[1].removesuffix("</p") for html in axes] == ours
