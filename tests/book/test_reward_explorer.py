"""The explorer of lesson 23 in a real browser; the oracle is the package and autograd."""

import itertools
import math
import re

import pytest
import torch

from transformer_lessons.support.python_code import is_python
from transformer_lessons.training import policy_gradient_loss, sequence_log_probability

from .explorer_page import check_accessible, check_fits, number, open_in_article, tab, write_page

WIDGET = "reward-explorer"
WORLD = torch.tensor(list(itertools.product(range(4), repeat=3)))
INPUTS = torch.cat([torch.zeros(64, 1, dtype=torch.long), WORLD[:, :2]], dim=1)
TEXTS = [" ".join("x+()"[id] for id in row) for row in WORLD.tolist()]
REWARDS = torch.tensor([float(is_python(text)) for text in TEXTS]).double()
BETAS = (0, 0.05, 0.1, 0.2, 0.5, 1)


@pytest.fixture
def widget(page, tmp_path):
    page.goto(write_page(tmp_path, WIDGET))
    return page


def world(page, expression):
    return page.evaluate(f"(() => {{ const w = TransformerLessons.reward_world; {expression} }})()")


@pytest.fixture
def logits(widget):
    return torch.tensor(world(widget, "return w.BASE"), dtype=torch.float64).requires_grad_()


def log_p_of_all(logits):
    def model(ids):
        rows = [0 * ids[:, 0], 1 + ids[:, 1], 5 + 4 * ids[:, 1] + ids[:, 2]]
        return logits[torch.stack(rows, dim=1)]

    return sequence_log_probability(model, INPUTS, WORLD)


def summary(page):
    return page.locator(".tl-summary").inner_text()


def said(page):
    """Expected reward, KL, and then reward less leash and the best of it, if there is a leash."""
    found = re.findall(r"[−\d][\d.]*(?=[ .,:)])", summary(page).split("updates:")[1])
    return [number(text.rstrip(".")) for text in found]


def test_the_base_is_that_of_the_lesson(logits):  # SPEC G6
    drawn = torch.randn(21, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(logits.detach(), drawn.double().round(decimals=1))


def test_the_texts_and_their_probabilities(widget, logits):  # SPEC G6
    assert world(widget, "return w.BASE && [...Array(64).keys()].map(w.text_of)") == TEXTS
    found = torch.tensor(world(widget, "return w.distribution(w.BASE)"), dtype=torch.float64)
    torch.testing.assert_close(found, log_p_of_all(logits).exp().detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0, 0.2])
def test_an_update_is_a_step_along_the_policy_gradient(widget, logits, beta):  # SPEC G6
    """Two steps, because at the first one the leash costs nothing."""
    base = log_p_of_all(logits).detach()
    for _ in range(2):
        log_p = log_p_of_all(logits)
        earned = REWARDS - beta * (log_p.detach() - base)
        loss = policy_gradient_loss(log_p, 64 * log_p.detach().exp() * earned)
        [gradient] = torch.autograd.grad(loss, logits)
        logits = (logits - 5 * gradient).detach().requires_grad_()
    settings = f"{{base, rewards: {REWARDS.tolist()}, beta: {beta}, rate: 5, n_samples: 0}}"
    found = world(
        widget,
        f"const base = w.distribution(w.BASE), s = {settings};"
        "return w.updated(w.updated(w.BASE, s), s)",
    )
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), logits.detach(), rtol=0, atol=1e-10
    )


def test_samples_give_the_same_step_on_average(widget, logits):  # SPEC G6
    """Of groups of two, half of it; a fixed sequence of fractions stands for the chance."""
    found = world(
        widget,
        f"const base = w.distribution(w.BASE), rewards = {REWARDS.tolist()};"
        "const n = 220, total = w.BASE.map(() => [0, 0, 0, 0]);"
        "for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) {"
        "  const u = [(i + 0.5) / n, (j + 0.5) / n], s = {base, rewards, beta: 0, rate: 1,"
        "    n_samples: 2, random: () => u.pop()};"
        "  w.updated(w.BASE, s).forEach((row, r) => row.forEach((x, k) => {"
        "    total[r][k] += (x - w.BASE[r][k]) / n / n; })); } return total",
    )
    expected = (log_p_of_all(logits).exp() * REWARDS).sum()
    [gradient] = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), gradient / 2, rtol=0, atol=0.002
    )


def test_with_a_leash_it_comes_to_the_closed_form(widget, logits):  # SPEC G6
    widget.emulate_media(reduced_motion="reduce")  # all updates of a run at once
    widget.get_by_label("Leash β").fill("4")
    widget.get_by_label("Learning rate").fill("3")
    for _ in range(4):
        widget.get_by_role("button", name="Run 200 updates").click()
    base = log_p_of_all(logits).detach()
    best = (base + REWARDS / BETAS[4]).log_softmax(0)
    reward = (best.exp() * REWARDS).sum().item()
    kl = (best.exp() * (best - base)).sum().item()
    assert said(widget)[:4] == pytest.approx(
        [reward, kl, reward - BETAS[4] * kl, reward - BETAS[4] * kl], abs=0.011
    )


def test_without_a_leash_one_text_wins(widget):
    widget.emulate_media(reduced_motion="reduce")
    assert summary(widget).startswith("After 0 updates: expected reward 0.09, KL to the base 0.00")
    widget.get_by_role("button", name="Run 200 updates").click()
    reward, kl, *_ = said(widget)
    assert reward > 0.95
    assert kl > -math.log(0.0912)
    widget.get_by_role("button", name="Back to the base").click()
    assert said(widget)[:2] == [0.09, 0.0]


def test_a_run_can_be_stopped(widget):
    widget.get_by_role("button", name="Run 200 updates").click()
    widget.get_by_role("button", name="Stop").click()
    stopped = summary(widget)
    assert 0 < int(re.search(r"After (\d+)", stopped)[1]) < 200
    widget.wait_for_timeout(100)
    assert summary(widget) == stopped


def test_a_reward_is_dragged(widget):
    chart = widget.locator(".tl-chart")
    box = chart.bounding_box()
    scale = box["width"] / 700
    place, middle = 10, 232
    x = box["x"] + scale * (64 + (place + 0.5) * 636 / 64)
    widget.mouse.move(x, box["y"] + scale * middle)
    widget.mouse.down()
    widget.mouse.move(x, box["y"] + scale * (middle - 24))
    widget.mouse.up()
    widget.mouse.move(x, box["y"] + scale * (middle + 24))  # no button is down any more
    assert widget.get_by_label("Text", exact=True).input_value() == str(place)
    assert widget.get_by_label("Its reward").input_value() == "1"


def test_with_the_keyboard_alone(widget):
    tab(widget, "Text")
    widget.keyboard.press("Home")
    tab(widget, "Its reward")
    widget.keyboard.press("End")
    assert widget.locator(".tl-now.tl-rewarded").count() == 6
    tab(widget, "Leash β")
    widget.keyboard.press("End")
    assert "Reward less leash" in summary(widget)
    tab(widget, "Learning rate")
    tab(widget, "average over all 64 texts")
    widget.keyboard.press("ArrowRight")
    tab(widget, "One update")
    widget.keyboard.press("Enter")
    assert summary(widget).startswith("After 1 updates")


def test_nothing_to_gain_changes_nothing(widget):
    widget.get_by_role("button", name="No rewards").click()
    widget.get_by_role("button", name="One update").click()
    assert said(widget)[:2] == [0.0, 0.0]


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    box = open_in_article(page, tmp_path, WIDGET)
    height = box.bounding_box()["height"]
    page.get_by_label("Leash β").fill("3")
    page.get_by_role("button", name="One update").click()
    assert box.bounding_box()["height"] == height


def test_it_fits_small_screens(widget):
    check_fits(widget, 320, 480, 768, 1280)


def test_it_is_accessible(widget):
    check_accessible(widget, more_than=20)
