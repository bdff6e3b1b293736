"""The cache animation: what each call computes, and its multiplications are those of the model."""

import re

import pytest

from transformer_lessons.model.decoder import Decoder
from transformer_lessons.weights.shipped import load_shipped

from .explorer_page import check_accessible, open_in_article, tab

WIDGET = "kv-cache"
N = 12


@pytest.fixture(scope="module")
def model() -> Decoder:
    return load_shipped()[0]


def multiplications(model: Decoder, n_tokens: int, n_scores: int) -> float:
    """Of the matrices, by their sizes, and of the scores and the mixing of values; in millions."""
    config = model.config
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "block" in n)
    scores = 2 * config.n_layers * config.d_model * n_scores
    return (n_tokens * (matrices + config.vocab_size * config.d_model) + scores) / 1e6


def amounts(page) -> list[list[float]]:
    """Of both ways: millions of multiplications in this call, and so far."""
    return [
        [float(x.replace(",", "")) for x in re.findall(r"([\d,.]+) million", text)]
        for text in page.locator(".tl-amount").all_inner_texts()
    ]


def squares(page, way: int, kind: str) -> int:
    return page.locator(".tl-calls").nth(way).locator(f"rect.tl-{kind}").count()


@pytest.mark.parametrize("n_prompt", [1, 4, 8])
def test_each_call_computes_what_it_shows(widget, model, n_prompt):
    widget.get_by_label("Prompt").fill(str(n_prompt))
    totals = [0.0, 0.0]
    for n in range(n_prompt, N + 1):
        new = [n, n if n == n_prompt else 1]  # tokens computed without a cache, and with one
        scores = [n * (n + 1) // 2, n * (n + 1) // 2 if n == n_prompt else n]
        for way in (0, 1):
            assert squares(widget, way, "new") == new[way] + scores[way]
            assert squares(widget, way, "kept") == n - new[way]
            call = multiplications(model, new[way], scores[way])
            totals[way] += call
            assert amounts(widget)[way] == pytest.approx([call, totals[way]], abs=0.051)
        widget.get_by_role("button", name="Next call").click()
    times = f"{totals[0] / totals[1]:.1f} times as many multiplications without a cache"
    assert times in widget.locator(".tl-summary").inner_text()


def test_it_plays_to_the_last_call_and_stops(own_page, tmp_path):
    box = open_in_article(own_page, tmp_path, WIDGET)
    own_page.clock.install()
    own_page.reload()
    box.get_by_role("button", name="Play").click()
    own_page.clock.run_for(3000)
    assert box.get_by_label("Call").input_value() == "3"
    box.get_by_role("button", name="Pause").click()
    own_page.clock.run_for(3000)
    assert box.get_by_label("Call").input_value() == "3"
    box.get_by_role("button", name="Play").click()
    own_page.clock.run_for(9000)
    assert box.get_by_label("Call").input_value() == "8"
    assert box.get_by_role("button", name="Play").is_visible()


def test_it_can_be_used_with_the_keyboard_and_is_accessible(widget):
    tab(widget, "Call")
    widget.keyboard.press("ArrowRight")
    said = widget.locator("[aria-live=polite]").inner_text()
    assert "With a cache: 1 token computed, 5 scores in each head, 4 read from the cache" in said
    tab(widget, "Prompt")
    tab(widget, "Play")
    tab(widget, "Back")
    widget.keyboard.press("Enter")
    assert widget.get_by_label("Call").input_value() == "0"
    check_accessible(widget, more_than=20)
