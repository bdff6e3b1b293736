"""The attention explorer: the numbers it shows are PyTorch's, and everyone can use it. SPEC E11."""

import itertools
import math
import re

import pytest
import torch

from .explorer_page import check_accessible, check_fits, number, tab

WIDGET = "attention-explorer"
FLOAT = torch.float64
TOKENS = ["the", "cat", "sat", "down"]
SCORES, SHARES, OUTPUTS = "Scores: q · k / divisor", "Shares (weights)", "Outputs"


def inputs(page) -> dict[str, torch.Tensor]:
    """The q, k and v that the fields hold, (4, 2) each."""
    fields = "fields => fields.map(field => field.valueAsNumber)"
    numbers = page.locator(".tl-inputs input").evaluate_all(fields)
    q, k, v = torch.tensor(numbers, dtype=FLOAT).view(4, 3, 2).unbind(1)
    return {"q": q, "k": k, "v": v}


def expected(q, k, v, mask, divisor):
    """(scores, shares, outputs) of softmax(q @ k.T / divisor) @ v."""
    scores = (q @ k.T / divisor).masked_fill(~mask, -math.inf)
    shares = scores.softmax(dim=-1)
    return scores, shares, shares @ v


def shown(page, title) -> torch.Tensor:
    table = page.get_by_role("table", name=title)
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    return torch.tensor([[number(text) for text in row] for row in rows], dtype=FLOAT)


def check(page, mask=None, divisor=2**0.5):
    """The three tables belong to the numbers in the fields."""
    mask = torch.ones(4, 4, dtype=torch.bool).tril() if mask is None else mask
    results = expected(**inputs(page), mask=mask, divisor=divisor)
    for title, result in zip((SCORES, SHARES, OUTPUTS), results, strict=True):
        torch.testing.assert_close(shown(page, title), result, rtol=0, atol=5.001e-3)
    shades = page.locator(".tl-shade").evaluate_all("s => s.map(e => Number(e.style.opacity))")
    found = torch.tensor(shades, dtype=FLOAT).view(4, 4)
    torch.testing.assert_close(found, results[1], rtol=0, atol=1e-5)
    return results


def reading(page) -> list[str]:
    return page.locator(".tl-reading li").all_inner_texts()


def field(page, matrix, token, i):
    return page.get_by_label(f"{matrix} of {token}, number {i}")


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_tokens", "width", "size"), [(1, 1, 1), (4, 2, 3), (9, 5, 40)])
def test_attention_is_pytorchs(widget, n_tokens, width, size):  # SPEC E11
    generator = torch.Generator().manual_seed(n_tokens)
    shape = (3, n_tokens, width)
    q, k, v = size * torch.randn(shape, generator=generator, dtype=FLOAT)
    mask = torch.rand((n_tokens, n_tokens), generator=generator) < 0.5
    mask |= torch.eye(n_tokens, dtype=torch.bool)
    attend = """([q, k, v, mask, divisor]) => {
      const { shares, outputs } = TransformerLessons.attention.attend({ q, k, v, mask, divisor });
      return [shares, outputs];
    }"""
    given = [x.tolist() for x in (q, k, v, mask)]
    for divisor in (0.4, 1, math.sqrt(width), 16):
        found = widget.evaluate(attend, [*given, divisor])
        _, *results = expected(q, k, v, mask, divisor)
        for ours, theirs in zip(found, results, strict=True):
            torch.testing.assert_close(
                torch.tensor(ours, dtype=FLOAT), theirs, rtol=1e-9, atol=1e-9
            )


def test_the_causal_head_is_the_packages(widget):
    from transformer_lessons import attend

    q, k, v = torch.randn(3, 4, 2, dtype=FLOAT, generator=torch.Generator().manual_seed(0))
    run = """([q, k, v]) => {
      const { attend, causal_mask } = TransformerLessons.attention;
      return attend({ q, k, v, mask: causal_mask(4), divisor: Math.SQRT2 }).outputs;
    }"""
    found = torch.tensor(widget.evaluate(run, [q.tolist(), k.tolist(), v.tolist()]), dtype=FLOAT)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    torch.testing.assert_close(found, attend(q, k, v, mask), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("mask", "divisor", "message"),
    [
        ([[True, False], [False, False]], 1, "query 1 may not see any key"),
        ([[True, False], [True, True]], 0, "the divisor is 0, but has to be above 0"),
    ],
)
def test_bad_input_to_the_functions_is_refused(widget, mask, divisor, message):
    run = """([mask, divisor]) => {
      const [q, k, v] = [[[1], [1]], [[1], [1]], [[1], [1]]];
      try { TransformerLessons.attention.attend({ q, k, v, mask, divisor }); }
      catch (error) { return error.message; }
    }"""
    assert widget.evaluate(run, [mask, divisor]) == message


def test_it_starts_with_the_hand_example(widget):  # SPEC E11
    check(widget)
    quarters = [[4, 0, 0, 0], [3, 1, 0, 0], [1, 2, 1, 0], [1.5, 0.5, 1.5, 0.5]]
    by_hand = torch.tensor(quarters, dtype=FLOAT) / 4
    torch.testing.assert_close(shown(widget, SHARES), by_hand, rtol=0, atol=5.2e-3)
    outputs = torch.tensor([[4, 0], [3, 1], [3, 4], [5, 4]], dtype=FLOAT)
    assert torch.equal(shown(widget, OUTPUTS), outputs)
    assert reading(widget) == [
        "scores, q · k / 1.41: the 1.10, cat 0.00",
        "e to each score: 3.00, 1.00; together 4.00",
        "shares, each divided by the sum: 0.75, 0.25",
        "output, the values in these shares: 0.75 × (4, 0) + 0.25 × (0, 4) = (3.00, 1.00)",
    ]
    assert widget.get_by_text("Hidden from cat, score −∞ and share 0: sat, down.").is_visible()


PRESETS = {
    "Look at yourself": torch.eye(4, dtype=FLOAT),
    "Look at the token before": torch.eye(4, dtype=FLOAT)[[0, 0, 1, 2]],
    "Uniform": torch.tensor([[1 / (t + 1) * (s <= t) for s in range(4)] for t in range(4)]),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_does_what_it_says_and_starts_over(widget, name):  # SPEC E11
    field(widget, "v", "the", 0).fill("-7")
    field(widget, "q", "sat", 1).fill("")
    widget.get_by_role("button", name="the sees cat").click()
    widget.get_by_role("button", name="the sees the").click(force=True)
    widget.get_by_label("Scores are divided by").fill("5")
    widget.get_by_role("button", name=name).click()
    check(widget)
    shares = shown(widget, SHARES)
    torch.testing.assert_close(shares, PRESETS[name].to(FLOAT), rtol=0, atol=0.02)
    assert inputs(widget)["v"].tolist() == [[4, 0], [0, 4], [8, 8], [4, 4]]
    assert widget.locator("[aria-invalid=true]").count() == 0
    assert "".join(widget.locator(".tl-problem").all_inner_texts()) == ""
    assert widget.locator("[aria-live=polite]").inner_text().startswith(f"{name}. cat looks at ")


def test_every_field_is_a_number_of_the_head(widget):  # SPEC E11
    places = itertools.product("qkv", enumerate(TOKENS), range(2))
    for n, (matrix, (t, token), i) in enumerate(places):
        field(widget, matrix, token, i).fill(str(n / 8 - 1))
        assert inputs(widget)[matrix][t, i] == n / 8 - 1
    check(widget)


def test_the_divisor_is_a_temperature(widget):  # SPEC E11
    slider = widget.get_by_label("Scores are divided by")
    names = {0: "1: no scaling", 1: "1.41: √d, as usual"}
    for place in (-4, -1, 0, 1, 2, 8):
        slider.fill(str(place))
        check(widget, divisor=2 ** (place / 2))
        text = names.get(place, f"{2 ** (place / 2):.2f}")
        assert widget.locator(".tl-degrees").inner_text() == text
        assert slider.get_attribute("aria-valuetext") == text


def test_the_mask_hides_and_shows_keys(widget):  # SPEC E11
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    for t, s in [(1, 0), (3, 2), (0, 3), (2, 3), (1, 0)]:
        cell = widget.get_by_role("button", name=f"{TOKENS[t]} sees {TOKENS[s]}")
        cell.click()
        mask[t, s] = ~mask[t, s]
        assert cell.get_attribute("aria-pressed") == str(mask[t, s].item()).lower()
        check(widget, mask)
    said = widget.locator("[aria-live=polite]").inner_text()
    assert said == "cat sees the. cat looks at the 0.75, cat 0.25; output (3.00, 1.00)."


def test_a_row_keeps_its_own_token(widget):
    cell = widget.get_by_role("button", name="cat sees cat")
    assert cell.get_attribute("aria-disabled") == "true"
    cell.click(force=True)
    message = "cat always sees itself: a row has to keep one key"
    assert widget.get_by_text(message).is_visible()
    assert cell.get_attribute("aria-pressed") == "true"
    check(widget)


@pytest.mark.parametrize("row", [0, 3])
def test_a_row_is_read_number_by_number(widget, row):  # SPEC E11
    widget.get_by_role("button", name="Look at the token before").click()
    widget.get_by_label("Scores are divided by").fill("6")
    widget.get_by_label(TOKENS[row], exact=True).check()
    scores, shares, outputs = check(widget, divisor=8)
    seen = range(row + 1)
    numbers = [[number(x) for x in re.findall(r"−?[0-9.]+", line)] for line in reading(widget)]
    exponentials = scores[row, seen].exp()
    assert numbers[0][1:] == pytest.approx(scores[row, seen].tolist(), abs=5.001e-3)
    total = exponentials.sum().item()
    assert numbers[1] == pytest.approx([*exponentials.tolist(), total], abs=5.001e-3)
    assert numbers[2] == pytest.approx(shares[row, seen].tolist(), abs=5.001e-3)
    assert numbers[3][-2:] == pytest.approx(outputs[row].tolist(), abs=5.001e-3)
    chosen = widget.locator("tr.tl-chosen th").all_inner_texts()
    assert chosen == [TOKENS[row]] * 3
    assert widget.get_by_text(f"The row of {TOKENS[row]}, number by number").is_visible()


def test_large_scores_stay_readable(widget):
    widget.get_by_role("button", name="Look at yourself").click()
    for matrix in "qk":
        field(widget, matrix, "cat", 1).fill("10")
    widget.get_by_label("Scores are divided by").fill("-4")
    check(widget, divisor=0.25)
    assert reading(widget)[1] == (
        "e to each score (less the largest, 400.00: the shares stay): 0.00, 1.00; together 1.00"
    )


def test_a_number_that_does_not_fit_is_named_and_not_used(widget):
    before = shown(widget, OUTPUTS)
    value = field(widget, "v", "the", 0)
    message = "v of the, number 0 needs a number from −10 to 10; 4 is still in use."
    for typed in ("", "11", "-10.5"):
        value.fill("4")
        value.fill(typed)
        assert widget.get_by_text(message).is_visible()
        assert (value.input_value(), value.get_attribute("aria-invalid")) == (typed, "true")
        assert torch.equal(shown(widget, OUTPUTS), before)
    field(widget, "q", "cat", 0).fill("1")
    assert widget.get_by_text(message).is_visible()  # still to be corrected
    value.fill("-4")
    assert widget.get_by_text(message).count() == 0
    check(widget)


def test_pictures_show_the_row(widget):
    tips = [
        plane.locator(".tl-query polygon").get_attribute("points").split(" ")[0].split(",")
        for plane in widget.locator(".tl-plane").all()
    ]
    ends = [[float(x), -float(y)] for x, y in tips]
    assert ends[0] == pytest.approx([1.554, 0], abs=1e-9)
    assert ends[1] == pytest.approx([3, 1], abs=2e-3)
    assert widget.locator(".tl-plane").nth(1).locator(".tl-before").count() == 2  # hidden from cat
    name = "The output of cat, (3.00, 1.00), among the values"
    assert widget.get_by_role("group", name=name).is_visible()


def test_an_arrow_can_be_dragged(widget):
    handle = widget.get_by_role("slider", name="value v of cat")
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    widget.mouse.move(x, y)
    widget.mouse.down()
    widget.mouse.move(x + 40, y, steps=4)
    widget.mouse.up()
    first, second = inputs(widget)["v"][1].tolist()
    plane = widget.locator(".tl-plane").nth(1)
    unit = plane.evaluate("e => e.viewBox.baseVal.width") / plane.bounding_box()["width"]
    assert first == pytest.approx(40 * unit, abs=0.11)
    assert second == pytest.approx(4, abs=0.11)
    check(widget)


# ---- For everyone --------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    tab(widget, "Hand example")
    tab(widget, "Look at yourself")
    widget.keyboard.press("Enter")
    assert shown(widget, SHARES)[3, 3] > 0.98
    tab(widget, "q of the, number 0", times=3)
    widget.keyboard.press("ArrowUp")
    assert inputs(widget)["q"][0, 0] == pytest.approx(3.1)
    tab(widget, "v of down, number 1", times=23)
    widget.keyboard.type("2")
    check(widget)
    tab(widget, "Scores are divided by")
    widget.keyboard.press("ArrowRight")
    check(widget, divisor=2)
    tab(widget, "cat")
    widget.keyboard.press("ArrowRight")
    assert widget.get_by_text("The row of sat, number by number").is_visible()
    assert widget.locator("[aria-live=polite]").inner_text().startswith("sat looks at ")
    tab(widget, "key k of the")
    widget.keyboard.press("ArrowUp")
    assert inputs(widget)["k"][0].tolist() == pytest.approx([3, 0.1])
    widget.keyboard.press("ArrowDown")
    tab(widget, "query q of the row", times=4)
    tab(widget, "value v of the")
    tab(widget, "the sees the", times=4)
    tab(widget, "the sees cat")
    widget.keyboard.press("Space")
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    mask[0, 1] = True
    check(widget, mask, divisor=2)


def test_accessible_in_light_and_dark(widget):  # SPEC G11
    widget.get_by_role("button", name="down sees cat").click()
    field(widget, "k", "the", 0).fill("11")
    check_accessible(widget, judged="aria-input-field-name")


def test_no_page_is_wider_than_its_screen(widget):  # SPEC G11
    widget.set_viewport_size({"width": 320, "height": 800})
    for box in widget.locator(".tl-inputs input").all():
        box.fill("-9.875")
    widget.get_by_label("Scores are divided by").fill("-4")
    widget.get_by_label("down", exact=True).check()
    overflowing = """() => [...document.querySelectorAll(".tl-matrices td, .tl-matrices button")]
      .filter((cell) => cell.scrollWidth > cell.clientWidth + 1).length"""
    for width in (320, 360, 768):
        check_fits(widget, width)
        assert widget.evaluate(overflowing) == 0


@pytest.mark.parametrize("width", [360, 1000])
def test_the_example_fits_its_fields(widget, width):
    widget.set_viewport_size({"width": width, "height": 800})
    cut_off = "fields => fields.filter(f => f.scrollWidth > f.clientWidth).map(f => f.value)"
    assert widget.locator(".tl-inputs input").evaluate_all(cut_off) == []
