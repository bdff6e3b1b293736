"""Integers in the page: equal to Python's to the bit, and everyone can use what shows them.

SPEC F13, G11.
"""

import json
import math
import re

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.presets import preset
from transformer_lessons.weights.export import export_json
from transformer_lessons.weights.fixed_point import fixed_forward, to_fixed

from ..weights.json_model import load_json
from .explorer_page import WIDGETS, check_accessible, check_fits, number, tab, write_page

WIDGET = "fixed-point-explorer"
CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "one wide head": ModelConfig(40, 9, d_model=4, n_layers=3, n_heads=1, d_ff=5,
                                 adaptive_norm=True, rope_theta=9.0),
}  # fmt: skip
RUN = """([file, tokens, bits]) => {
  const { read_model, to_fixed, fixed_forward } = TransformerLessons;
  const model = to_fixed(read_model(file ?? TransformerLessons.weights.first_model), bits);
  const logits = fixed_forward(model, tokens).map((row) => row.map(String));
  return { logits, largest: String(model.largest) };
}"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The model in the page, and what it exports to."""
    text = (WIDGETS / "first_model_weights.js").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("model") / "model.json"
    path.write_text(text[text.index("{") :].rstrip(";\n"))
    return load_json(path).eval()


def check_equal(page, model, file, bits, tokens):
    """Every logit at every position, and the largest sum, as integers."""
    fixed, sums = to_fixed(model, bits), []
    expected = fixed_forward(fixed, torch.tensor([tokens]), lambda x: sums.append(x.abs().max()))
    found = page.evaluate(RUN, [file, tokens, bits])
    assert [[int(x) for x in row] for row in found["logits"]] == expected[0].tolist()
    if len(tokens) == 1:  # Python also multiplies pairs that the mask hides
        assert int(found["largest"]) == max(map(int, sums))


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 23))
def test_the_shipped_model_is_equal_to_the_bit(widget, shipped, bits):  # SPEC F13
    for tokens in ([97, 98] * 8, list(b"a fox, 2 ducks"), [255], [10, 0, 97]):
        check_equal(widget, shipped, None, bits, tokens)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_models_are_equal_to_the_bit(widget, random_model, tmp_path, name):  # SPEC F13
    """Large weights of both signs: sums that are negative, and exponents of every size."""
    config = CONFIGS[name]
    for seed, bits in enumerate((3, 9, 11, 16, 18)):
        model = random_model(config, seed=seed, size=0.5).float()
        export_json(model, tmp_path / "model.json")
        file = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
        generator = torch.Generator().manual_seed(seed)
        shape = (config.context_length,)
        tokens = torch.randint(0, config.vocab_size, shape, generator=generator).tolist()
        check_equal(widget, model, file, bits, tokens)


def test_what_needs_more_than_integers_is_refused(widget, random_model, tmp_path):  # SPEC F13
    export_json(random_model(ModelConfig(9, 4, 8, 1, 1, 4)).float(), tmp_path / "model.json")
    file = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    with pytest.raises(Exception, match="its norms or its values need more than integers"):
        widget.evaluate(RUN, [file, [1], 8])


# ---- What a reader sees --------------------------------------------------------------------------


def summary(page) -> str:
    return page.locator(".tl-summary").inner_text()


def slide(page, bits):
    page.get_by_label("Bits of fraction").fill(str(bits))


def rows(page) -> list[list[str]]:
    table = page.locator(".tl-answers tbody tr")
    return [row.locator("th, td").all_inner_texts() for row in table.all()]


def logits_of(model, text: bytes, bits: int):
    """(floats, integers) at the last position."""
    tokens = torch.tensor([list(text)])
    with torch.inference_mode():
        floats = model(tokens)[0, -1]
    return floats, fixed_forward(to_fixed(model, bits), tokens)[0, -1]


def test_it_shows_both_models(widget, shipped):
    widget.get_by_label(re.compile("^Text")).fill("ab q")
    for bits in (4, 8, 16):
        slide(widget, bits)
        floats, integers = logits_of(shipped, b"ab q", bits)
        shares = floats.softmax(0), (integers / 2**bits).softmax(0)
        order = torch.stack(shares).amax(0).argsort(descending=True, stable=True)[:6].tolist()
        shown = rows(widget)
        assert {int(row[3].replace(",", "").replace("−", "-")) for row in shown} == {
            int(integers[byte]) for byte in order
        }
        for place, kind in ((1, 0), (2, 1)):
            top = number(shown[0][place].rstrip("%")) / 100
            assert top == pytest.approx(shares[kind][order[0]].item(), abs=5.1e-4)


def test_it_says_when_the_answers_part(widget, shipped):
    """On "hello", which it has never seen, the model hesitates, and few bits change its answer."""
    said = {}
    for bits in range(1, 23):
        slide(widget, bits)
        said[bits] = summary(widget)
        floats, integers = logits_of(shipped, b"hello", bits)
        agree = floats.argmax() == integers.argmax()
        start = "Both answer b." if agree else "They differ: the floats answer b, the integers "
        assert said[bits].startswith(start)
    assert said[5].startswith("They differ")
    assert "less than 0.01 percentage points" in said[22]
    assert len({text.split("took ")[1] for text in said.values()}) > 18  # ever more bits


def test_it_shows_what_a_number_becomes(widget, shipped):
    widget.get_by_label(re.compile("^Text")).fill("b")
    slide(widget, 6)
    shown = [row.locator("td").all_inner_texts() for row in widget.locator(".tl-numbers tr").all()]
    weights = shipped.embedding.weight[98].tolist()
    assert [number(x) for x in shown[0]] == pytest.approx(weights, abs=5.1e-5)
    assert [number(x) for x in shown[1]] == [math.floor(w * 64 + 0.5) for w in weights]
    assert widget.get_by_text("1 is written as 64; one step is 0.0156.").is_visible()


def test_long_and_empty_texts(widget):
    text = widget.get_by_label(re.compile("^Text"))
    text.fill("ab" * 20)
    assert summary(widget).startswith("Both answer a.")
    text.fill("")
    assert widget.locator(".tl-problem").inner_text() == "Type at least one byte."
    text.fill("é")
    assert widget.locator(".tl-problem").inner_text() == ""
    assert "byte 169" in widget.locator(".tl-numbers caption").inner_text()


def test_with_the_keyboard_alone(widget):
    tab(widget, "Text")
    tab(widget, "Bits of fraction")
    before = widget.locator(".tl-degrees").inner_text()
    widget.keyboard.press("ArrowRight")
    assert int(widget.locator(".tl-degrees").inner_text()) == int(before) + 1
    assert widget.locator(":focus").get_attribute("aria-valuetext") == str(int(before) + 1)


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(write_page(tmp_path, WIDGET))
    box = page.locator(".tl-widget")
    heights = set()
    for bits in (1, 2, 8, 24):
        slide(page, bits)
        heights.add(box.bounding_box()["height"])
    assert len(heights) == 1
    assert heights.pop() <= 700


def test_it_fits_small_screens(widget):
    slide(widget, 24)
    check_fits(widget, 320, 390, 768, 1280)


def test_it_is_accessible(widget):
    check_accessible(widget, judged="td-headers-attr")
