"""The schedule explorer: its rates are the package's, its ball PyTorch's, and everyone can use it.

SPEC E11, G11.
"""

import math
import re

import pytest
import torch

from transformer_lessons.training.schedule import SCHEDULES

from .explorer_page import check_accessible, check_fits, count_moving, number, tab, write_page

FLOAT = torch.float64
WSD = "wsd"
KEYS = ("max_lr", "min_lr", "warmup_steps", "steps")
PLANS = [  # largest rate, smallest rate, warm-up, steps
    (0.03, 0.003, 20, 200),
    (0.003, 0.0, 0, 10),
    (1.0, 0.1, 1, 999),
    (0.06, 0.06, 37, 123),
    (0.01, 0.001, 98, 99),  # nothing is left for the fall
    (0.01, 0.001, 90, 100),  # the climb ends in wsd's fall
    (0.02, 0.002, 500, 50),  # a climb longer than the run
    (0.02, 0.002, 0, 1),
]


@pytest.fixture
def widget(page, tmp_path):
    """The page for a reader who wants no motion: each change shows its end at once."""
    page.emulate_media(reduced_motion="reduce")
    page.goto(write_page(tmp_path, "schedule-explorer"))
    return page


@pytest.fixture
def moving(own_page, tmp_path):
    own_page.goto(write_page(tmp_path, "schedule-explorer"))
    return own_page


def package_rates(shape, max_lr, min_lr, warmup_steps, steps):
    schedule = SCHEDULES[shape]
    return [schedule(step, max_lr, min_lr, warmup_steps, steps) for step in range(steps)]


def field(page, name):
    return page.get_by_label(name, exact=True)


def choose(page, name):
    page.get_by_role("radio", name=name).check()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def cell(page, name: str, column: int = 0) -> str:
    head = page.get_by_role("rowheader", name=name, exact=True)
    return page.locator(".tl-plans tr").filter(has=head).locator("td").nth(column).inner_text()


def note(page) -> str:
    """What is said of a checkpoint of the step under the cursor."""
    return page.locator(".tl-checkpoint").inner_text()


def polylines(page, picture: str) -> list[list[list[float]]]:
    """The points of every line in the picture, the kept plan's lines first."""
    lines = page.locator(f"{picture} polyline").evaluate_all(
        "lines => lines.map(line => line.getAttribute('points'))"
    )
    return [[[float(x) for x in point.split(",")] for point in line.split()] for line in lines]


def at_end(page):
    page.wait_for_function("document.querySelector('.tl-buttons button').textContent === 'Run'")


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SCHEDULES)
def test_rates_are_the_packages(widget, shape):  # SPEC E11
    run = "plan => TransformerLessons.schedule.rates_of(plan)"
    for plan in PLANS:
        found = widget.evaluate(run, {"shape": shape, **dict(zip(KEYS, plan, strict=True))})
        assert found == pytest.approx(package_rates(shape, *plan), rel=0, abs=1e-12)


def test_an_unknown_shape_is_refused(widget):
    refused = """() => {
      try { TransformerLessons.schedule.rates_of({ shape: "step" }); }
      catch (e) { return e.message; }
    }"""
    assert widget.evaluate(refused) == "shape 'step' is none of cosine, constant, wsd"


@pytest.mark.parametrize("plan", [(0.03, 0.003, 20, 200), (0.035, 0.0, 0, 100)])
def test_the_ball_is_pytorchs_momentum(widget, plan):  # SPEC E11
    rates = package_rates("cosine", *plan)
    found = widget.evaluate("rates => TransformerLessons.ravine.path(rates)", rates)
    noise = widget.evaluate("n => TransformerLessons.ravine.noise(n)", len(rates))
    point = torch.nn.Parameter(torch.tensor([4.0, 1.0], dtype=FLOAT))
    optimizer = torch.optim.SGD([point], lr=1.0, momentum=0.9)
    places = [point.tolist()]
    for rate, push in zip(rates, noise, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ((point[0] ** 2 + 100 * point[1] ** 2) / 2).backward()
        point.grad += torch.tensor(push, dtype=FLOAT)
        optimizer.step()
        places.append(point.tolist())
    torch.testing.assert_close(torch.tensor(found), torch.tensor(places), rtol=0, atol=1e-9)


def test_the_noise_is_normal_and_the_same_every_time(widget):
    noise = "n => TransformerLessons.ravine.noise(n)"
    pairs = torch.tensor(widget.evaluate(noise, 20_000), dtype=FLOAT)
    assert pairs.mean(dim=0).abs().max() < 0.057  # four standard errors, 2 / sqrt(20,000)
    assert (pairs.std(dim=0) - 2).abs().max() < 0.04
    assert torch.corrcoef(pairs.T)[0, 1].abs() < 0.03
    assert torch.corrcoef(torch.stack([pairs[:-1, 0], pairs[1:, 0]]))[0, 1].abs() < 0.03
    within = (pairs.abs() < 2).double().mean().item()
    assert math.isclose(within, math.erf(1 / math.sqrt(2)), abs_tol=0.01)
    assert widget.evaluate(noise, 5) == pairs[:5].tolist()


def test_mean_heights_are_the_mean_over_many_balls(widget):
    rates = package_rates("wsd", 0.03, 0.003, 20, 100)
    found = widget.evaluate("rates => TransformerLessons.ravine.mean_heights(rates)", rates)
    generator = torch.Generator().manual_seed(0)
    curvature = torch.tensor([1.0, 100.0], dtype=FLOAT)
    place = torch.tensor([4.0, 1.0], dtype=FLOAT).expand(100_000, 2)
    velocity, means = torch.zeros_like(place), [58.0]
    for rate in rates:
        noise = torch.randn(place.shape, generator=generator, dtype=FLOAT)
        velocity = 0.9 * velocity + curvature * place + 2 * noise
        place = place - rate * velocity
        means.append((curvature * place**2).sum(dim=1).mean().item() / 2)
    assert found == pytest.approx(means, rel=0.02)


def test_without_an_end_the_ball_rattles_at_the_predicted_height(widget):
    """In balance, the variance is rate · noise² (1 + β) / (c (1 − β) (2 (1 + β) − rate · c))."""
    heights = "rates => TransformerLessons.ravine.mean_heights(rates)"
    for rate in (0.01, 0.03):
        variances = [
            rate * 4 * 1.9 / (curvature * 0.1 * (3.8 - rate * curvature)) for curvature in (1, 100)
        ]
        expected = (variances[0] + 100 * variances[1]) / 2
        found = widget.evaluate(heights, [rate] * 2000)[-1]
        assert math.isclose(found, expected, rel_tol=1e-9)


def test_at_the_limit_a_ball_is_lost(widget):
    lost = """rate => {
      const { path, LOST, height } = TransformerLessons.ravine;
      const places = path(Array(1000).fill(rate));
      return [places.length, places.every((place) => height(place) < LOST)];
    }"""
    limit = widget.evaluate("TransformerLessons.ravine.LIMIT")
    assert limit == pytest.approx(2 * (1 + 0.9) / 100)
    assert widget.evaluate(lost, 0.99 * limit) == [1001, True]
    length, all_low = widget.evaluate(lost, 1.02 * limit)
    assert length < 500
    assert all_low


# ---- What is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SCHEDULES)
def test_the_chart_and_the_table_show_the_plan(widget, shape):  # SPEC E11
    field(widget, "Steps").fill("120")
    field(widget, "Warm-up").fill("7")
    field(widget, "Largest rate").fill("25")
    field(widget, "Smallest rate").fill("20")
    choose(widget, WSD if shape == "wsd" else shape)
    rates = package_rates(shape, 0.025, 0.005, 7, 120)
    kept, line = polylines(widget, ".tl-rates")
    assert kept == []
    assert [x for x, _ in line] == pytest.approx([100 * step / 119 for step in range(120)])
    assert [0.06 * (1 - y / 100) for _, y in line] == pytest.approx(rates, rel=0, abs=1e-12)
    assert number(cell(widget, "sum of all rates")) == pytest.approx(sum(rates), rel=5e-3)
    for step in (0, 6, 7, 60, 100, 119):
        field(widget, "Step").fill(str(step))
        assert number(cell(widget, "rate at this step")) == pytest.approx(rates[step], abs=5.1e-6)
        left, top = widget.locator(".tl-rates .tl-marker.tl-this").evaluate(
            "m => [m.style.left, m.style.top].map(parseFloat)"
        )
        assert (left, top) == pytest.approx(line[step], abs=1e-3)
        text = field(widget, "Step").get_attribute("aria-valuetext")
        assert text == f"{step}, rate {cell(widget, 'rate at this step')}"


def test_it_starts_with_the_plan_of_the_picture(widget):
    assert cell(widget, "plan") == "cosine, 200 steps, warm-up 20, 0.03 to 0.003"
    assert cell(widget, "rate at this step") == "0.003"
    assert cell(widget, "sum of all rates") == "3.27"
    assert widget.get_by_role("columnheader").all_inner_texts() == ["this plan"]
    assert widget.locator(".tl-ticks span").all_inner_texts() == ["0", "199"]


def test_the_ball_is_where_the_step_left_it(widget):
    rates = package_rates("cosine", 0.03, 0.003, 20, 200)
    path = widget.evaluate("rates => TransformerLessons.ravine.path(rates)", rates)
    for step in (0, 50, 199):
        field(widget, "Step").fill(str(step))
        x, y = path[step + 1]
        trail = polylines(widget, ".tl-ravine")[1]
        assert trail == [[a, -b] for a, b in path[: step + 2]]
        assert number(cell(widget, "height of the ball")) == pytest.approx(
            (x**2 + 100 * y**2) / 2, rel=5e-3
        )
        words = widget.get_by_role("img", name=f"The ravine after step {step}:")
        point = re.search(r"\((.*), (.*)\)", words.get_attribute("aria-label")).groups()
        assert [number(part) for part in point] == pytest.approx([x, y], abs=5.1e-3)


# ---- What it teaches -----------------------------------------------------------------------------


def test_a_longer_cosine_needs_other_rates_from_the_warm_up_on(widget):  # SPEC E11
    press(widget, "Make the run twice as long")
    assert cell(widget, "plan", 0).startswith("cosine, 400 steps")
    assert cell(widget, "plan", 1).startswith("cosine, 200 steps")
    field(widget, "Step").fill("20")
    assert "a checkpoint of this step belongs to both runs" in note(widget)
    field(widget, "Step").fill("150")
    assert note(widget).startswith(
        "The two plans part at step 21. A checkpoint of step 150 belongs to one"
    )
    long, short = (package_rates("cosine", 0.03, 0.003, 20, steps)[150] for steps in (400, 200))
    shown = [number(cell(widget, "rate at this step", column)) for column in (0, 1)]
    assert shown == pytest.approx([long, short], abs=5.1e-6)
    field(widget, "Step").fill("200")
    assert cell(widget, "rate at this step", 1) == "run is over"
    assert "At this step the shorter run is over." in note(widget)
    assert len(polylines(widget, ".tl-rates")[0]) == 200
    press(widget, "Forget it")
    assert widget.get_by_role("columnheader").all_inner_texts() == ["this plan"]
    assert polylines(widget, ".tl-rates")[0] == []


def test_a_longer_wsd_run_shares_all_but_the_fall(widget):  # SPEC E11
    choose(widget, WSD)
    press(widget, "Make the run twice as long")
    field(widget, "Step").fill("159")
    assert "a checkpoint of this step belongs to both runs" in note(widget)
    field(widget, "Step").fill("160")
    assert "The two plans part at step 160." in note(widget)
    short, long = polylines(widget, ".tl-ravine")[:2]
    assert short[:160] == long[:160]  # the same rates and the same noise: the same ball


def test_a_constant_run_is_the_start_of_a_longer_one(widget):
    choose(widget, "constant")
    press(widget, "Make the run twice as long")
    field(widget, "Step").fill("200")
    assert "have the same rates as long as both run" in note(widget)


def test_a_rate_that_never_falls_does_not_settle(widget):
    falling = number(cell(widget, "mean height, at the end"))
    choose(widget, "constant")
    assert number(cell(widget, "mean height, at the end")) > 10 * falling


def test_without_warm_up_the_ball_is_thrown_up_the_walls(widget):
    press(widget, "Keep to compare")
    field(widget, "Warm-up").fill("0")
    highest = [number(cell(widget, "mean height, at its highest", column)) for column in (0, 1)]
    assert highest[0] > 2 * highest[1] > 2 * 58  # 58 is the height of the start
    assert "The two plans differ from the first step on." in note(widget)
    this, kept = polylines(widget, ".tl-ravine")[1], polylines(widget, ".tl-ravine")[0]
    assert max(abs(y) for _, y in this) > 1.9 > 1.4 > max(abs(y) for _, y in kept)


def test_over_the_limit_the_ball_is_thrown_out(widget):
    field(widget, "Largest rate").fill("60")
    assert widget.get_by_text(re.compile(r"thrown out of the ravine at step \d+\.")).is_visible()
    assert cell(widget, "height of the ball") == "thrown out"
    assert cell(widget, "mean height, at its highest") == "over 1,000,000"
    assert cell(widget, "mean height, at the end") == "thrown out"
    field(widget, "Steps").fill("1000")  # where the numbers overflow
    choose(widget, "constant")
    assert cell(widget, "mean height, at its highest") == "over 1,000,000"
    field(widget, "Largest rate").fill("30")
    assert widget.get_by_text("thrown out").count() == 0


# ---- Input that doesn't fit ----------------------------------------------------------------------


def test_text_in_a_number_field_is_named_and_not_used(widget):
    for name, limits, used in (("Steps", "10 to 1,000", "200"), ("Warm-up", "0 to 1,000", "20")):
        for typed in ("1e", "-5", "12.5", "1001", ""):
            box = field(widget, name)
            box.focus()
            widget.keyboard.press("Control+a")
            widget.keyboard.press("Delete")
            widget.keyboard.type(typed)
            message = f"Needs a whole number from {limits}; "
            assert widget.get_by_text(message).is_visible()
            assert box.get_attribute("aria-invalid") == "true"
        box.fill(used)
        assert widget.get_by_text(message).count() == 0
    assert cell(widget, "plan") == "cosine, 200 steps, warm-up 20, 0.03 to 0.003"


def test_a_warm_up_longer_than_the_run_is_named(widget):
    field(widget, "Steps").fill("50")
    field(widget, "Warm-up").fill("99")
    message = "The warm-up is longer than the run: the last step is at 0.015 of 0.03."
    assert widget.get_by_text(message).is_visible()
    assert cell(widget, "rate at this step") == "0.015"  # as in the package
    field(widget, "Warm-up").fill("49")
    message = "The warm-up leaves no step for the fall: the last step is at 0.03."
    assert widget.get_by_text(message).is_visible()
    choose(widget, "constant")
    assert widget.locator(".tl-problem", has_text="warm-up").count() == 0


def test_a_run_can_not_be_doubled_beyond_the_field(widget):
    field(widget, "Steps").fill("501")
    press(widget, "Make the run twice as long")
    assert widget.get_by_text("The run can't be twice as long").is_visible()
    assert field(widget, "Steps").input_value() == "501"
    assert widget.get_by_role("columnheader").count() == 1
    field(widget, "Steps").fill("500")
    assert widget.get_by_text("The run can't be twice as long").count() == 0
    press(widget, "Make the run twice as long")
    assert cell(widget, "plan").startswith("cosine, 1,000 steps")


# ---- The moving ball -----------------------------------------------------------------------------


def test_a_change_starts_the_ball_again(moving):
    cursor = field(moving, "Step")
    assert cursor.input_value() == "199"  # until it is asked to, nothing moves
    moving.clock.install(time=0)
    moving.reload()
    moving.clock.pause_at(60_000)
    field(moving, "Warm-up").fill("0")
    assert cursor.input_value() == "0"
    moving.clock.run_for(3000)
    halfway = int(cursor.input_value())
    assert 90 <= halfway <= 105
    assert len(polylines(moving, ".tl-ravine")[1]) == halfway + 2
    press(moving, "Pause")
    moving.clock.run_for(3000)
    assert int(cursor.input_value()) == halfway
    press(moving, "Run")
    moving.clock.run_for(4000)
    assert cursor.input_value() == "199"
    at_end(moving)
    press(moving, "Run")  # from the top
    moving.clock.run_for(1000)
    assert 25 <= int(cursor.input_value()) <= 40
    cursor.fill("77")  # moving the cursor stops the ball there
    moving.clock.run_for(1000)
    assert cursor.input_value() == "77"
    at_end(moving)


def test_where_motion_is_not_wanted_nothing_moves_by_itself(widget):  # SPEC G11
    assert count_moving(widget) == 0
    field(widget, "Steps").fill("300")
    assert field(widget, "Step").input_value() == "299"
    at_end(widget)


# ---- For everyone --------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    def told():
        return widget.locator("[aria-live=polite]").inner_text()

    tab(widget, "cosine")
    widget.keyboard.press("ArrowDown")
    assert told().startswith("This plan: constant, 200 steps, warm-up 20, 0.03; the rates add up")
    widget.keyboard.press("ArrowUp")
    tab(widget, "Steps")
    widget.keyboard.press("ArrowUp")
    tab(widget, "Steps (slider)")
    widget.keyboard.press("ArrowRight")
    tab(widget, "Warm-up")
    tab(widget, "Warm-up (slider)")
    widget.keyboard.press("Home")
    tab(widget, "Largest rate")
    widget.keyboard.press("ArrowRight")
    tab(widget, "Smallest rate")
    widget.keyboard.press("Home")
    assert told().startswith("This plan: cosine, 202 steps, warm-up 0, 0.031 to 0; the rates add")
    tab(widget, "Run")
    tab(widget, "Keep to compare")
    widget.keyboard.press("Enter")
    tab(widget, "Make the run twice as long")
    widget.keyboard.press("Enter")
    assert " Kept plan: cosine, 202 steps" in told()
    tab(widget, "Forget it")
    tab(widget, "Step")
    widget.keyboard.press("Home")
    widget.keyboard.press("ArrowRight")
    assert field(widget, "Step").get_attribute("aria-valuetext") == "1, rate 0.031"
    assert told().startswith("The two plans part at step 1.")
    widget.keyboard.press("Shift+Tab")
    widget.keyboard.press("Enter")
    assert widget.locator(":focus").inner_text() == "Run"  # "Forget" is gone, focus is not


def test_pictures_are_described(widget):  # SPEC G11
    chart = widget.get_by_role("img", name="This plan: cosine, 200 steps")
    assert "the rates add up to 3.27" in chart.get_attribute("aria-label")
    press(widget, "Keep to compare")
    assert "Kept plan: cosine" in chart.get_attribute("aria-label")
    ravine = widget.get_by_role("img", name="The ravine after step 199")
    assert "the kept plan’s ball is at (" in ravine.get_attribute("aria-label")


def test_accessible_in_light_and_dark(widget):  # SPEC G11
    check_accessible(widget)
    press(widget, "Make the run twice as long")
    field(widget, "Largest rate").fill("60")
    field(widget, "Warm-up").fill("-1")
    check_accessible(widget)


def test_no_page_is_wider_than_its_screen(widget):  # SPEC G11
    widget.set_viewport_size({"width": 320, "height": 800})
    field(widget, "Steps").fill("500")
    press(widget, "Make the run twice as long")
    field(widget, "Largest rate").fill("60")
    field(widget, "Warm-up").fill("100000000000000")
    check_fits(widget, 320, 360, 768)
