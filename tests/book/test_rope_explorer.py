"""The RoPE explorer: the numbers it shows are PyTorch's, and everyone can use it. SPEC E11."""

import re

import pytest
import torch

from .explorer_page import check_accessible, check_fits, number, tab

WIDGET = "rope-explorer"
FLOAT = torch.float64
QUERY = [0.8, 0.0, -0.6, 0.8, 0.6, 1.0, 0.8, -0.6]
KEY = [0.9, 0.6, -0.8, 0.3, 0.0, 0.6, 0.2, -0.9]
SPLIT, INTERLEAVED, REORDERED = "split-half: j", "interleaved: 2j", "interleaved, numbers reordered"


def pairs_of(x, layout):
    """The pairs of `x` (d,), as (d/2, 2)."""
    half = len(x) // 2
    return x.view(2, half).T if layout == "split-half" else x.view(half, 2)


def turned_pairs(x, position, base, layout):
    """The pairs of `x` as complex numbers, each times e^(i * position * speed)."""
    x = torch.tensor(x, dtype=FLOAT)
    speeds = base ** (-2 * torch.arange(len(x) // 2, dtype=FLOAT) / len(x))
    pairs = torch.view_as_complex(pairs_of(x, layout).contiguous())
    return pairs * torch.polar(torch.ones_like(speeds), position * speeds)


def expected_terms(q, k, position_q, position_k, base, layout):
    turned_q = turned_pairs(q, position_q, base, layout)
    turned_k = turned_pairs(k, position_k, base, layout)
    return (turned_q * turned_k.conj()).real


def shown_terms(page) -> list[float]:
    texts = page.locator(".tl-planes .tl-term").all_inner_texts()
    return [number(text.removeprefix("adds ")) for text in texts]


def shown_total(page) -> str:
    return page.locator(".tl-total").inner_text()


def marker_place(page):
    return page.locator(".tl-marker").evaluate("m => [m.style.left, m.style.top]")


def check(page, position_q, position_k, base=10_000, layout="split-half"):
    """All that is shown belongs to these positions."""
    terms = expected_terms(QUERY, KEY, position_q, position_k, base, layout)
    assert shown_terms(page) == pytest.approx(terms.tolist(), abs=5.001e-4)
    assert number(shown_total(page)) == pytest.approx(terms.sum().item(), abs=5.001e-4)
    left, right = page.locator(".tl-sum").inner_text().removeprefix("q · k = ").split(" = ")
    parts = [number(part.replace(" ", "")) for part in re.findall(r"[+−]? ?[0-9.]+", left)]
    assert (parts, right) == (shown_terms(page), shown_total(page))
    distance = position_q - position_k
    along = 100 * (distance if distance >= 0 else 200 + distance) / 200
    assert float(marker_place(page)[0].rstrip("%")) == pytest.approx(along)


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["split-half", "interleaved"])
@pytest.mark.parametrize("width", [2, 8, 64])
def test_turning_is_pytorchs(widget, layout, width):  # SPEC E11
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(width, generator=generator, dtype=FLOAT).tolist()
    turn = "([x, m, base, layout]) => TransformerLessons.rope.turn(x, m, base, layout)"
    for position, base in [(0, 10_000), (1, 10), (37, 500_000), (200, 123.0)]:
        found = torch.tensor(widget.evaluate(turn, [x, position, base, layout]), dtype=FLOAT)
        expected = torch.view_as_real(turned_pairs(x, position, base, layout))
        torch.testing.assert_close(pairs_of(found, layout), expected, rtol=0, atol=1e-9)


def test_split_half_is_the_packages_rope(widget):
    from transformer_lessons import apply_rope

    x = torch.tensor([QUERY], dtype=FLOAT)
    turn = "(x) => TransformerLessons.rope.turn(x, 123, 10000, 'split-half')"
    found = torch.tensor([widget.evaluate(turn, QUERY)], dtype=FLOAT)
    torch.testing.assert_close(found, apply_rope(x, torch.tensor([123])), rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", ["split-half", "interleaved"])
def test_the_score_depends_on_the_distance_only(widget, layout):
    score = """([q, k, m, n, layout]) => {
      const { turn, pair_terms, score } = TransformerLessons.rope;
      const turned = [turn(q, m, 10000, layout), turn(k, n, 10000, layout)];
      const terms = pair_terms(...turned, layout);
      return [terms.reduce((a, b) => a + b), score(q, k, m - n, 10000, layout)];
    }"""
    for m, n in [(7, 0), (12, 5), (200, 193), (1_000_007, 1_000_000)]:
        found = widget.evaluate(score, [QUERY, KEY, m, n, layout])
        expected = expected_terms(QUERY, KEY, 7, 0, 10_000, layout).sum().item()
        assert found == pytest.approx([expected, expected], abs=1e-9)


def test_bad_input_to_the_functions_is_refused(widget):
    refused = """([width, layout]) => {
      try { TransformerLessons.rope.pair_places(width, layout); } catch (e) { return e.message; }
    }"""
    assert widget.evaluate(refused, [7, "split-half"]) == "a width of 7 can't be cut into pairs"
    message = "layout 'other' is neither 'split-half' nor 'interleaved'"
    assert widget.evaluate(refused, [8, "other"]) == message


def test_it_starts_with_the_numbers_it_names(widget):  # SPEC E11
    check(widget, 12, 5)
    names = widget.locator(".tl-planes figcaption strong:first-child").all_inner_texts()
    assert names == ["Pair 0 (0 and 4)", "Pair 1 (1 and 5)", "Pair 2 (2 and 6)", "Pair 3 (3 and 7)"]
    notes = widget.locator(".tl-planes .tl-note").all_inner_texts()
    assert notes[0] == "1 rad a position"
    assert notes[1] == "q by 12, k by 5"
    assert notes[6] == "0.001 rad a position"
    assert notes[7] == "q by 0.012, k by 0.005"
    assert shown_total(widget) == "1.711"


def test_the_page_shows_pytorchs_numbers(widget):  # SPEC E11
    places = [(0, 0, 10_000), (200, 0, 10_000), (31, 90, 10), (0, 200, 500_000), (3, 2, 1_000_000)]
    for query, key, base in places:
        widget.get_by_label("Query position", exact=True).fill(str(query))
        widget.get_by_label("Key position", exact=True).fill(str(key))
        widget.get_by_label("Theta", exact=True).fill(str(base))
        check(widget, query, key, base)
        assert widget.get_by_text("a causal mask would hide it").count() == (query < key)


def test_arrows_point_to_the_turned_pairs(widget):
    turned = turned_pairs(KEY, 5, 10_000, "split-half")
    for j, plane in enumerate(widget.locator(".tl-plane").all()):
        tip = plane.locator(".tl-key:not(.tl-before) polygon").get_attribute("points").split(" ")[0]
        x, y = map(float, tip.split(","))
        assert [x, -y] == pytest.approx([turned[j].real.item(), turned[j].imag.item()], abs=1e-9)
        before = plane.locator(".tl-key.tl-before polygon").get_attribute("points").split(" ")[0]
        x, y = map(float, before.split(","))
        assert [x, -y] == pytest.approx([KEY[j], KEY[j + 4]], abs=1e-9)


@pytest.mark.parametrize("base", [10_000, 50])
def test_the_curve_is_the_score_at_every_distance(widget, base):
    widget.get_by_label("Theta", exact=True).fill(str(base))
    points = widget.locator(".tl-chart polyline").get_attribute("points").split(" ")
    assert len(points) == 401
    q, k = (pairs_of(torch.tensor(x, dtype=FLOAT), "split-half").norm(dim=1) for x in (QUERY, KEY))
    most = (q * k).sum().item()
    for place in (0, 14, 101, 400):
        x, y = map(float, points[place].split(","))
        score = expected_terms(QUERY, KEY, place / 2, 0, base, "split-half").sum().item()
        assert (x, y) == pytest.approx((place / 2, 50 * (1 - score / most)), abs=1e-6)
    left, top = (float(part.rstrip("%")) for part in marker_place(widget))
    assert f"{left * 2:g}" == points[14].split(",")[0]  # the marker is on the curve: distance 7
    assert top == pytest.approx(float(points[14].split(",")[1]), abs=1e-3)


# ---- What it teaches -----------------------------------------------------------------------------


def test_moving_both_changes_arrows_but_not_the_product(widget):  # SPEC E11
    before = [shown_total(widget), shown_terms(widget), marker_place(widget)]
    arrows = widget.locator(".tl-planes").inner_html()
    both = widget.get_by_label("Move both together")
    assert both.get_attribute("max") == "193"
    for first in ("6", "100", "193"):
        both.fill(first)
        assert widget.get_by_label("Key position", exact=True).input_value() == first
        query = widget.get_by_label("Query position", exact=True).input_value()
        assert int(query) - int(first) == 7
        shown = [shown_total(widget), shown_terms(widget), marker_place(widget)]
        assert shown[:2] == before[:2]
        assert shown[2][0] == before[2][0]
        heights = [float(place[1].rstrip("%")) for place in (shown[2], before[2])]
        assert heights[0] == pytest.approx(heights[1], abs=1e-3)
        assert widget.locator(".tl-planes").inner_html() != arrows
    widget.get_by_label("Query position", exact=True).fill("199")
    assert shown_total(widget) != before[0]


def test_two_layouts_and_the_permutation_between_them(widget):  # SPEC E11
    numbers = widget.locator(".tl-numbers tbody tr")
    split_half = [shown_total(widget), shown_terms(widget)]
    assert numbers.nth(0).inner_text().split()[1:] == list("01230123")
    widget.get_by_label(INTERLEAVED).check()
    check(widget, 12, 5, layout="interleaved")
    assert shown_total(widget) != split_half[0]
    assert numbers.nth(0).inner_text().split()[1:] == list("00112233")
    assert [number(x) for x in numbers.nth(1).inner_text().split()[1:]] == QUERY
    widget.get_by_label(REORDERED).check()
    assert [shown_total(widget), shown_terms(widget)] == split_half
    reordered = [QUERY[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]
    assert [number(x) for x in numbers.nth(1).inner_text().split()[1:]] == reordered
    assert widget.get_by_text(f"q · k = {split_half[0]} at distance 7.").is_visible()
    widget.get_by_label(SPLIT).check()
    check(widget, 12, 5)


def test_a_number_that_does_not_fit_is_named_and_not_used(widget):
    field = widget.get_by_label("Query position", exact=True)
    message = "Needs a whole number from 0 to 200; 12 is still in use."
    for typed in ("", "-1", "201", "3.5"):
        field.fill("12")
        field.fill(typed)
        assert widget.get_by_text(message).is_visible()
        assert (field.input_value(), field.get_attribute("aria-invalid")) == (typed, "true")
        check(widget, 12, 5)
    widget.get_by_label("Key position", exact=True).fill("4")
    check(widget, 12, 4)
    field.fill("13")
    assert widget.get_by_text(message).count() == 0
    assert field.get_attribute("aria-invalid") == "false"
    check(widget, 13, 4)


def test_an_arrow_can_be_dragged(widget):
    """Its number changes at once, and the other pairs stay; back before turning, so does q."""
    handle = widget.locator(".tl-plane").nth(1).locator(".tl-handle").first
    terms = shown_terms(widget)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    widget.mouse.move(x, y)
    widget.mouse.down()
    widget.mouse.move(x + 30, y + 10, steps=4)
    widget.mouse.up()
    after = shown_terms(widget)
    assert after[1] != terms[1]
    assert [after[0], *after[2:]] == [terms[0], *terms[2:]]
    place = [number(part) for part in re.findall(r"-?[\d.]+", handle.get_attribute("aria-valuetext"))]
    key = turned_pairs(KEY, 5, 10_000, "split-half")[1]
    assert after[1] == pytest.approx(place[0] * key.real.item() + place[1] * key.imag.item(), abs=2e-3)
    cells = widget.locator(".tl-numbers tbody tr").nth(1).inner_text().split()[1:]
    turned = turned_pairs([number(x) for x in cells], 12, 10_000, "split-half")[1]
    assert [turned.real.item(), turned.imag.item()] == pytest.approx(place, abs=0.1)


# ---- For everyone --------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    tab(widget, "Query position")
    widget.keyboard.press("ArrowUp")
    tab(widget, "Query position (slider)")
    widget.keyboard.press("ArrowRight")
    check(widget, 14, 5)
    tab(widget, "Key position")
    widget.keyboard.press("ArrowDown")
    tab(widget, "Key position (slider)")
    widget.keyboard.press("Home")
    check(widget, 14, 0)
    tab(widget, "Move both together")
    widget.keyboard.press("End")
    check(widget, 200, 186)
    assert widget.locator("[aria-live=polite]").inner_text() == (
        f"Query at 200, key at 186, distance 14: q · k is {shown_total(widget)}."
    )
    tab(widget, "Theta")
    tab(widget, "Theta (slider)")
    widget.keyboard.press("ArrowLeft")
    check(widget, 200, 186, base=7943)
    slider = widget.get_by_label("Theta (slider)")
    assert slider.get_attribute("aria-valuetext") == "7,943"
    tab(widget, "query of pair 0, turned")
    widget.keyboard.press("ArrowUp")
    turned = turned_pairs(QUERY, 200, 7943, "split-half")[0]
    shown = widget.locator(":focus").get_attribute("aria-valuetext")
    x, y = turned.real.item(), round(turned.imag.item() + 0.1, 1)
    assert shown == f"({round(x, 1):.1f}, {y:.1f})"
    widget.reload()
    for name, value in (("Query", 200), ("Key", 186)):
        widget.get_by_label(f"{name} position", exact=True).fill(str(value))
    widget.get_by_label("Theta", exact=True).fill("7943")
    widget.locator(".tl-handle").last.focus()
    tab(widget, "split-half")
    widget.keyboard.press("ArrowRight")
    check(widget, 200, 186, base=7943, layout="interleaved")


def test_pictures_are_described(widget):  # SPEC G11
    turned = turned_pairs(QUERY, 12, 10_000, "split-half")[0]
    point = f"({turned.real.item():.2f}, {turned.imag.item():.2f})"
    plane = widget.get_by_role("group", name="Pair 0 after turning")
    assert point in plane.get_attribute("aria-label")
    chart = widget.get_by_role("img", name="q · k against distance for theta 10,000")
    assert "1.711 at distance 7, where the marker is" in chart.get_attribute("aria-label")


def test_accessible_in_light_and_dark(widget):  # SPEC G11
    widget.get_by_label(REORDERED).check()
    widget.get_by_label("Query position", exact=True).fill("1000")
    check_accessible(widget, judged="aria-input-field-name")


def test_no_page_is_wider_than_its_screen(widget):  # SPEC G11
    widget.set_viewport_size({"width": 320, "height": 800})
    widget.get_by_label("Query position", exact=True).fill("3")
    widget.get_by_label("Key position", exact=True).fill("200")
    widget.get_by_label("Theta", exact=True).fill("1000000")
    widget.get_by_label("Theta", exact=True).fill("1000000000000")
    check_fits(widget, 320, 360, 768)
