"""The sampling explorer: its probabilities are the package's, its draws follow them, and everyone
can use it.

SPEC E3, E11, G11.
"""

import dataclasses
import json
import random
import re

import pytest
import torch
from page_scores import PROMPTS, scores_script

from transformer_lessons.generation.sampling import (
    SAMPLERS,
    Sampler,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_frequency,
    penalize_repetition,
)
from transformer_lessons.model.inference import inference
from transformer_lessons.weights.shipped import load_shipped

from .explorer_page import WIDGETS, check_accessible, check_fits, count_moving, number, tab

WIDGET = "sampling-explorer"
FLOAT = torch.float64
SCORES = WIDGETS / "sampling_scores.js"
NAMES = list(PROMPTS)
START = "A few good answers"

PROBABILITIES = """([prompt, samplers]) => {
  const { sampling, scores } = TransformerLessons;
  const { history, scores: text } = scores.prompts[prompt];
  const logits = sampling.read_scores(text);
  return samplers.map((sampler) => sampling.probabilities(sampler, logits, history));
}"""


@pytest.fixture(scope="module")
def shipped():
    """For each prompt, its tokens and the scores (V,) in float64; and the tokenizer."""
    model, tokenizer = load_shipped()
    model = model.double()
    found = {}
    for name, text in PROMPTS.items():
        history = tokenizer.encode(text)
        with inference(model):
            found[name] = (history, model(torch.tensor([history]))[0, -1])
    return found, tokenizer


def field(page, name):
    return page.get_by_label(name, exact=True)


def choose(page, prompt):
    page.get_by_role("radio", name=prompt).check()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def set_sampler(page, **settings):
    """Move the sliders; those not named stay."""
    for name, value in settings.items():
        field(page, LABELS[name]).fill(f"{value:g}")


LABELS = {
    "temperature": "Temperature",
    "top_k": "Top-k (4,096: off)",
    "top_p": "Top-p",
    "min_p": "Min-p",
    "repetition_penalty": "Repetition penalty",
    "frequency_penalty": "Frequency penalty",
}


def rows(page) -> list[list[str]]:
    """The texts of the table's rows: the token as seen, model, left, drawn."""
    return page.locator(".tl-tokens tbody tr").evaluate_all(
        """rows => rows.map((row) => [row.querySelector("th .tl-seen") ?? row.firstChild,
          ...row.querySelectorAll("td.tl-number")].map((cell) => cell.innerText.trim()))"""
    )


def summary(page) -> str:
    return page.locator(".tl-summary").inner_text()


def told(page) -> str:
    return page.locator("[aria-live=polite]").inner_text()


def random_sampler(source: random.Random) -> Sampler:
    """Each setting is off half of the time."""

    def perhaps(value, off):
        return value if source.random() < 0.5 else off

    return Sampler(
        temperature=0 if source.random() < 0.1 else perhaps(source.uniform(0.05, 3), 1.0),
        top_k=perhaps(int(4096 ** source.random()), None),
        top_p=perhaps(source.uniform(0.01, 1), 1.0),
        min_p=perhaps(source.random() ** 3, 0.0),
        repetition_penalty=perhaps(source.uniform(1, 10), 1.0),
        frequency_penalty=perhaps(source.randrange(80) / 8, 0.0),  # float32 holds eighths exactly
    )


# ---- The numbers ---------------------------------------------------------------------------------


def test_the_page_holds_the_scores_of_the_shipped_model(shipped):  # SPEC E11
    found, tokenizer = shipped
    text = SCORES.read_text(encoding="utf-8")
    assert text == scores_script(), "stale: run tools/publish.py"
    assert len(text) < 200_000
    start = "TransformerLessons.scores = "
    assert text.startswith(start)
    document = json.loads(text.removeprefix(start).removesuffix(";\n"))
    tokens = [token.encode("latin-1") for token in document["tokens"]]
    assert tokens == [tokenizer.decode_bytes([id]) for id in range(4096)]
    assert [entry["name"] for entry in document["prompts"]] == NAMES
    for entry, (history, _) in zip(document["prompts"], found.values(), strict=True):
        assert entry["history"] == history


def test_scores_are_read_as_they_were_written(widget, shipped):  # SPEC E11
    read = "() => TransformerLessons.scores.prompts.map(({ scores }) =>\n"
    read += "  TransformerLessons.sampling.read_scores(scores))"
    for found, (_, logits) in zip(widget.evaluate(read), shipped[0].values(), strict=True):
        assert torch.tensor(found, dtype=FLOAT).float().equal(logits.float())


def test_presets_are_the_packages(widget):  # SPEC E3
    found = widget.evaluate("() => TransformerLessons.sampling.SAMPLERS")
    assert found == {name: dataclasses.asdict(sampler) for name, sampler in SAMPLERS.items()}
    assert list(found) == list(SAMPLERS)
    plain = widget.evaluate("() => TransformerLessons.sampling.PLAIN")
    assert plain == dataclasses.asdict(Sampler())


@pytest.mark.parametrize("prompt", NAMES)
def test_probabilities_are_the_packages(widget, shipped, prompt):  # SPEC E3, E11
    history, logits = shipped[0][prompt]
    logits = logits.float().double()  # as the page has them
    source = random.Random(NAMES.index(prompt))
    samplers = [*SAMPLERS.values(), *(random_sampler(source) for _ in range(30))]
    settings = [dataclasses.asdict(sampler) for sampler in samplers]
    for start in range(0, len(samplers), 15):
        part = slice(start, start + 15)
        found = widget.evaluate(PROBABILITIES, [NAMES.index(prompt), settings[part]])
        for sampler, numbers in zip(samplers[part], found, strict=True):
            expected = sampler.probabilities(logits, history)
            actual = torch.tensor(numbers, dtype=FLOAT)
            assert (actual > 0).equal(expected > 0), sampler  # the same tokens are left
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prompt", NAMES)
def test_probabilities_are_those_of_float32_scores_to_the_sixth_digit(widget, prompt):
    """As a reader computes them in the lesson: the model in float32, the sampler in float32."""
    model, tokenizer = load_shipped()
    history = tokenizer.encode(PROMPTS[prompt])
    with inference(model):
        logits = model(torch.tensor([history]))[0, -1]
    settings = [dataclasses.asdict(sampler) for sampler in SAMPLERS.values()]
    found = widget.evaluate(PROBABILITIES, [NAMES.index(prompt), settings])
    for sampler, numbers in zip(SAMPLERS.values(), found, strict=True):
        expected = sampler.probabilities(logits, history)
        actual = torch.tensor(numbers, dtype=torch.float32)
        torch.testing.assert_close(actual, expected, rtol=0, atol=5e-6)


def test_filters_and_penalties_by_hand_and_with_ties(widget):  # SPEC E3
    run = """([name, logits, ...rest]) => TransformerLessons.sampling[name](logits, ...rest)
      .map((x) => (x === -Infinity ? null : x))"""

    def page_says(*call):
        scores = widget.evaluate(run, list(call))
        return torch.tensor([-torch.inf if x is None else x for x in scores], dtype=FLOAT)

    source = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randint(-3, 4, (12,), generator=source).double()  # many are equal
        history = torch.randint(0, 12, (6,), generator=source).tolist()
        values = logits.tolist()
        for k in (1, 2, 5, 11, 12):
            assert page_says("keep_top_k", values, k).equal(keep_top_k(logits, k))
        for p in (0.001, 0.3, 0.77, 0.99, 1 - 1e-12):
            assert page_says("keep_top_p", values, p).equal(keep_top_p(logits, p))
        for p in (0.001, 0.03, 0.2, 0.9, 1.0):
            assert page_says("keep_min_p", values, p).equal(keep_min_p(logits, p))
        penalized = penalize_repetition(logits, history, 1.7)
        assert page_says("penalize_repetition", values, history, 1.7).equal(penalized)
        penalized = penalize_frequency(logits, history, 0.5)
        assert page_says("penalize_frequency", values, history, 0.5).equal(penalized)
    # As in the doctests of the package.
    assert page_says("keep_top_k", [1, 2, 2, 2], 2).tolist() == [-torch.inf, 2, 2, -torch.inf]
    assert page_says("penalize_repetition", [2, -2, 2], [0, 1, 1], 4).tolist() == [0.5, -8, 2]


def test_entropy_is_in_bits(widget):
    entropy = "p => TransformerLessons.sampling.entropy(p)"
    assert widget.evaluate(entropy, [0.25] * 4) == 2
    assert widget.evaluate(entropy, [0.5, 0.25, 0, 0.25]) == 1.5
    assert widget.evaluate(entropy, [0, 1, 0]) == 0


def test_a_draw_walks_along_the_probabilities(widget):  # SPEC E3
    draw = """([p, number]) => TransformerLessons.sampling.draw(p, () => number)"""
    for uniform, token in ((0, 1), (0.2499, 1), (0.25, 2), (0.7499, 2), (0.75, 4), (0.9999, 4)):
        assert widget.evaluate(draw, [[0, 0.25, 0.5, 0, 0.25], uniform]) == token
    short = [0.3, 0.4, 0.2999]  # they add up to a hair below 1
    assert widget.evaluate(draw, [short, 0.99999]) == 1


def test_draws_follow_the_probabilities(widget):  # SPEC E3
    """Chi-squared over 40,000 draws, 20 tokens left: above 50.8 in one of 10,000 fair trials."""
    draws = """([sampler, n]) => {
      const { sampling, scores, random_generator } = TransformerLessons;
      const logits = sampling.read_scores(scores.prompts[3].scores);
      const probabilities = sampling.probabilities(sampler, logits, []);
      const random = random_generator(7);
      const counts = Array(4096).fill(0);
      for (let i = 0; i < n; i += 1) counts[sampling.draw(probabilities, random)] += 1;
      return [counts, probabilities];
    }"""
    n_draws = 40_000
    settings = dataclasses.asdict(Sampler(0.8, top_k=20))
    counts, probabilities = widget.evaluate(draws, [settings, n_draws])
    pairs = [(c, n_draws * p) for c, p in zip(counts, probabilities, strict=True) if p > 0]
    assert len(pairs) == 20
    assert sum(c for c, _ in pairs) == n_draws
    assert sum((c - e) ** 2 / e for c, e in pairs) < 50.8


# ---- What is shown -------------------------------------------------------------------------------


def check_shown(page, shipped, prompt: str, sampler: Sampler) -> None:
    """The table and the summary are those of `sampler` on `prompt`."""
    history, logits = shipped[0][prompt]
    logits = logits.float().double()
    before, after = logits.softmax(0), sampler.probabilities(logits, history)
    order = before.argsort(descending=True, stable=True)
    shown, others = order[:8], order[8:]
    lines = rows(page)
    assert len(lines) == 9
    for token, (seen, model, left, _) in zip(shown.tolist(), lines[:8], strict=True):
        text = shipped[1].decode([token])
        assert seen == text.replace(" ", "␣").replace("\n", "↵")
        check_percent(model, before[token].item())
        assert (left == "dropped") == (after[token].item() == 0)
        if left != "dropped":
            check_percent(left, after[token].item())
    n_left = int((after[others] > 0).sum())
    seen, model, left, _ = lines[8]
    assert re.sub(r"\s+", " ", seen) == f"4,088 others {n_left:,} left"
    check_percent(model, before[others].sum().item())
    assert left == "dropped" if n_left == 0 else check_percent(left, after[others].sum().item())
    check_summary(summary(page), before, after)


def check_summary(text: str, before, after) -> None:
    n_left = int((after > 0).sum())
    entropies = [-(p[p > 0] * p[p > 0].log2()).sum().item() for p in (before, after)]
    amount = re.match(
        r"All ([\d,]+) tokens are left\.|([\d,]+) of 4,096 tokens (?:is|are) left; the model gives "
        r"(?:it|them) (.*?%)\.",
        text,
    )
    assert number(amount[1] or amount[2]) == n_left
    if amount[3]:
        check_percent(amount[3], before[after > 0].sum().item())
    found = re.search(
        r"Entropy: the model (.*) bits, what is left (.*) bits, as much as (.*) equally", text
    )
    expected = [*entropies, 2 ** entropies[1]]
    for shown, exact, error in zip(found.groups(), expected, (0.0051, 0.0051, 0.051), strict=True):
        assert number(shown) == pytest.approx(exact, abs=error)


def check_percent(text: str, exact: float) -> bool:
    """`text` is `exact` to a tenth of a percent, and never says that all or nothing is there."""
    if text == "< 0.1%":
        assert 0 < exact < 0.0005
    elif text == "> 99.9%":
        assert 0.9995 <= exact < 1
    else:
        assert number(text.removesuffix("%")) == pytest.approx(100 * exact, abs=0.0501)
    return True


@pytest.mark.parametrize("prompt", NAMES)
def test_presets_show_what_the_package_leaves(widget, shipped, prompt):  # SPEC E3, E11
    choose(widget, prompt)
    for name, sampler in SAMPLERS.items():
        press(widget, name)
        check_shown(widget, shipped, prompt, sampler)
        pressed = widget.locator("button[aria-pressed=true]").all_inner_texts()
        assert pressed == [name]


def test_sliders_show_what_the_package_leaves(widget, shipped):  # SPEC E3, E11
    for settings in (
        {"temperature": 0.35},
        {"top_k": 7},
        {"top_k": 7, "temperature": 1.65},
        {"top_p": 0.62},
        {"min_p": 0.31},
        {"repetition_penalty": 2.45},
        {"frequency_penalty": 2.9},
        {"repetition_penalty": 1.3, "temperature": 0.85, "top_k": 45, "top_p": 0.87, "min_p": 0.07},
    ):
        press(widget, "plain")
        set_sampler(widget, **settings)
        check_shown(widget, shipped, START, Sampler(**settings))
        assert widget.locator("button[aria-pressed=true]").count() == 0


def test_bars_are_as_long_as_their_numbers(widget, shipped):
    history, logits = shipped[0][START]
    widths = """row => [...row.querySelectorAll(".tl-track span")].slice(0, 2)
      .map((bar) => bar.getBoundingClientRect().width
        / row.querySelector(".tl-track").getBoundingClientRect().width)"""
    for preset, full in (("varied", 0.5), ("greedy", 1.0)):
        press(widget, preset)
        assert widget.locator(".tl-scale-end").inner_text() == f"0 to {100 * full:g}%"
        after = SAMPLERS[preset].probabilities(logits, history)
        order = logits.argsort(descending=True)
        lines = widget.locator(".tl-tokens tbody tr").all()[:6]
        for token, row in zip(order[:6].tolist(), lines, strict=True):
            expected = [logits.softmax(0)[token].item() / full, after[token].item() / full]
            assert row.evaluate(widths) == pytest.approx(expected, abs=0.01)


def test_it_starts_with_the_models_own_distribution(widget, shipped):
    assert widget.get_by_role("radio", name=START).is_checked()
    assert widget.locator("button[aria-pressed=true]").all_inner_texts() == ["plain"]
    check_shown(widget, shipped, START, Sampler())
    boxes = widget.locator(".tl-prompt .tl-seen").all_inner_texts()
    text = PROMPTS[START].replace(" ", "␣").replace("\n", "↵")
    assert "".join(boxes) == text
    assert [line[3] for line in rows(widget)] == [""] * 9
    times = widget.locator(".tl-tokens th .tl-aside").all_inner_texts()
    assert times[:5] == ["", "×1", "×2", "×2", ""]  # False, True, x, space, _


def test_greedy_takes_the_other_steps_out_of_use(widget, shipped):
    set_sampler(widget, temperature=0.5, repetition_penalty=3)
    field(widget, "Greedy: only the most likely").check()
    for name in LABELS:
        assert field(widget, LABELS[name]).is_disabled() == (not name.endswith("penalty"))
    check_shown(widget, shipped, START, Sampler(temperature=0, repetition_penalty=3.0))
    field(widget, "Greedy: only the most likely").uncheck()
    assert field(widget, "Top-p").is_enabled()
    check_shown(widget, shipped, START, Sampler(temperature=0.5, repetition_penalty=3.0))


# ---- Draws ---------------------------------------------------------------------------------------


def drawn(page) -> list[int]:
    return [int(line[3].split()[0].replace(",", "")) if line[3] else 0 for line in rows(page)]


def test_draws_are_counted_beside_what_is_expected(widget, shipped):  # SPEC E3
    press(widget, "varied")
    press(widget, "Draw 100")
    press(widget, "Draw 100")
    history, logits = shipped[0][START]
    after = SAMPLERS["varied"].probabilities(logits, history)
    order = logits.argsort(descending=True)
    n_left = int((after > 0).sum())
    lines = rows(widget)
    assert sum(drawn(widget)) == 200
    for token, line in zip(order.tolist(), lines[:8], strict=False):
        if after[token] == 0:
            assert line[3] == ""
            continue
        expected = float(re.search(r"\((.*)\)", line[3])[1])
        assert expected == pytest.approx(200 * after[token].item(), abs=0.051)
    note = widget.locator(".tl-drawn-note").inner_text()
    assert note == f"Seed 0: 200 tokens drawn, {n_left} different."
    marks = widget.locator(".tl-track .tl-bar-drawn:visible")
    shares = marks.evaluate_all("marks => marks.map((mark) => parseFloat(mark.style.left) / 200)")
    counts = [count for count in drawn(widget) if count]
    assert shares == pytest.approx([count / 200 for count in counts], abs=1e-4)  # 0 to 50%


def test_a_seed_draws_the_same_again_and_another_seed_others(widget):  # SPEC E3
    press(widget, "varied")
    press(widget, "Draw 100")
    first = drawn(widget)
    press(widget, "Start again")
    assert sum(drawn(widget)) == 0
    for _ in range(100):
        widget.get_by_role("button", name="Draw a token").evaluate("b => b.click()")
    assert drawn(widget) == first
    press(widget, "Next seed")
    assert widget.locator(".tl-drawn-note").inner_text() == "Seed 1: nothing drawn yet."
    press(widget, "Draw 100")
    assert drawn(widget) != first


def test_the_token_drawn_stands_behind_the_prompt(widget):
    press(widget, "greedy")
    n_read = widget.locator(".tl-prompt li").count()
    press(widget, "Draw a token")
    last = widget.locator(".tl-prompt li").last
    assert widget.locator(".tl-prompt li").count() == n_read + 1
    assert last.locator(".tl-seen").inner_text() == "␣False"
    assert last.locator(".tl-spoken").inner_text() == "drawn: space False"
    assert told(widget) == "Drawn: space False."
    press(widget, "Draw 100")
    assert widget.locator(".tl-prompt li").count() == n_read + 1
    assert told(widget) == "Seed 0: 101 tokens drawn, 1 different."


def test_another_distribution_starts_new_draws(widget):
    for change in (
        lambda: choose(widget, "A pattern"),
        lambda: set_sampler(widget, min_p=0.2),
        lambda: press(widget, "sure"),
    ):
        press(widget, "Draw 100")
        assert sum(drawn(widget)) == 100
        change()
        assert sum(drawn(widget)) == 0
        assert widget.locator(".tl-prompt .tl-new").count() == 0


def test_a_text_of_the_readers_own_is_read_by_the_model_that_is_fetched(widget, shipped):
    """Its weights are rounded to a byte each: the probabilities move by less than 0.02."""
    own = field(widget, "or your own text")
    own.fill("for i in")
    press(widget, "Read it")
    widget.get_by_text("3 tokens read.").wait_for()
    assert widget.get_by_role("radio", checked=True).count() == 0
    model, tokenizer = load_shipped()
    history = tokenizer.encode("for i in")
    with inference(model):
        expected = model(torch.tensor([history]))[0, -1].softmax(0)
    lines = rows(widget)
    for seen, probability, _, _ in lines[:3]:
        [token] = tokenizer.encode(seen.replace("␣", " ").replace("↵", "\n"))
        assert number(probability.strip("%<> ")) == pytest.approx(100 * expected[token], abs=2)
    own.fill("")
    press(widget, "Read it")
    assert widget.get_by_text("Type at least one character.").is_visible()
    assert rows(widget) == lines
    choose(widget, START)
    check_shown(widget, shipped, START, Sampler())


# ---- Input that doesn't fit ----------------------------------------------------------------------


def test_text_in_the_number_field_is_named_and_not_used(widget, shipped):
    set_sampler(widget, top_k=5)
    for typed in ("-5", "0", "e", "05.5", ""):
        box = field(widget, LABELS["top_k"])
        box.focus()
        widget.keyboard.press("Control+a")
        widget.keyboard.press("Delete")
        widget.keyboard.type(typed)
        message = "Needs a whole number from 1 to 4,096; 5 is still in use."
        assert widget.get_by_text(message).is_visible()
        assert box.get_attribute("aria-invalid") == "true"
        check_shown(widget, shipped, START, Sampler(top_k=5))
    box.fill("4097")
    assert widget.get_by_text(message).is_visible()
    box.fill("6")
    assert widget.get_by_text(message).count() == 0
    check_shown(widget, shipped, START, Sampler(top_k=6))


# ---- For everyone --------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    tab(widget, "A few good answers")
    widget.keyboard.press("ArrowDown")
    assert told(widget).startswith("All 4,096 tokens are left. Entropy: the model 4.16 bits")
    tab(widget, "or your own text")
    tab(widget, "Read it")
    tab(widget, "Tokens read")
    for name in SAMPLERS:
        tab(widget, name)
    widget.keyboard.press("Enter")
    tab(widget, "Repetition penalty")
    widget.keyboard.press("ArrowRight")
    assert field(widget, "Repetition penalty").get_attribute("aria-valuetext") == "1.05"
    tab(widget, "Frequency penalty")
    tab(widget, "Greedy")
    widget.keyboard.press("Space")
    assert told(widget).startswith("1 of 4,096 tokens is left; the model gives it 49.6%.")
    widget.keyboard.press("Space")
    tab(widget, "Temperature")
    widget.keyboard.press("ArrowLeft")
    tab(widget, "Top-k")
    tab(widget, "Top-k (4,096: off) (slider)")
    widget.keyboard.press("Home")
    assert told(widget).startswith("1 of 4,096 tokens is left; ")
    widget.keyboard.press("End")
    assert told(widget).startswith("All 4,096")
    tab(widget, "Top-p")
    widget.keyboard.press("ArrowLeft")
    assert field(widget, "Top-p").get_attribute("aria-valuetext") == "0.99"
    tab(widget, "Min-p")
    assert field(widget, "Min-p").get_attribute("aria-valuetext") == "0.00 (off)"
    tab(widget, "Draw a token")
    widget.keyboard.press("Enter")
    assert told(widget).startswith("Drawn: ")
    tab(widget, "Draw 100")
    tab(widget, "Start again")
    tab(widget, "Next seed")
    widget.keyboard.press("Enter")
    assert told(widget) == "Seed 1: nothing drawn yet."


def test_the_table_can_be_read_out(widget):  # SPEC G11
    table = widget.get_by_role("table", name="The model’s 8 most likely tokens")
    heads = table.get_by_role("columnheader").all_inner_texts()
    assert heads == ["token", "model", "left", "drawn"]
    assert table.get_by_role("rowheader", name="space False").is_visible()
    assert table.get_by_role("rowheader", name="4,088 others").is_visible()


def test_accessible_in_light_and_dark(widget):  # SPEC G11
    press(widget, "balanced")
    press(widget, "Draw 100")
    field(widget, LABELS["top_k"]).fill("0")
    check_accessible(widget, judged="button-name")  # there is no SVG in this widget
    press(widget, "greedy")
    choose(widget, "Almost anything")
    check_accessible(widget, judged="button-name")


def test_no_page_is_wider_than_its_screen(widget):  # SPEC G11
    for prompt in NAMES:
        choose(widget, prompt)
        press(widget, "Draw 100")
        press(widget, "Draw 100")
        for width in (320, 360, 768, 1000):
            check_fits(widget, width)
            inside = "e => e.scrollWidth <= e.clientWidth"
            assert widget.locator(".tl-tokens").evaluate(inside)


def test_nothing_moves_by_itself(widget):  # SPEC G11
    assert count_moving(widget) == 0
