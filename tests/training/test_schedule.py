"""The learning rate's way: exact at its ends, a straight climb, half a cosine."""

import math

import pytest

from transformer_lessons.training.schedule import cosine_schedule


def schedule(max_lr, min_lr, warmup_steps, total_steps):
    steps = range(total_steps)
    return [cosine_schedule(step, max_lr, min_lr, warmup_steps, total_steps) for step in steps]


def test_by_hand():  # SPEC E6
    # Two steps up, then the cosine at 0, 60, 120 and 180 degrees: shares 1, 3/4, 1/4, 0.
    expected = [0.5, 1.0, 1.0, 0.8, 0.4, 0.2]
    assert schedule(1.0, 0.2, 2, 6) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 50])
@pytest.mark.parametrize(("max_lr", "min_lr"), [(5e-3, 5e-4), (1.0, 0.0), (0.1, 0.1)])
def test_the_ends_are_exact(max_lr, min_lr, warmup_steps):  # SPEC E6
    rates = schedule(max_lr, min_lr, warmup_steps, total_steps=100)
    assert rates[-1] == min_lr
    assert rates[warmup_steps] == pytest.approx(max_lr, rel=1e-15)
    if warmup_steps:
        assert rates[0] == pytest.approx(max_lr / warmup_steps, rel=1e-15)
        assert rates[warmup_steps - 1] == pytest.approx(max_lr, rel=1e-15)


def test_the_climb_is_straight_and_the_descent_a_cosine():  # SPEC E6
    rates = schedule(2.0, 0.5, 10, total_steps=101)
    for step in range(10):
        assert rates[step] == pytest.approx(0.2 * (step + 1))
    for step in range(10, 101):
        angle = math.pi * (step - 10) / 90
        assert rates[step] == pytest.approx(1.25 + 0.75 * math.cos(angle))
    assert rates[55] == pytest.approx(1.25)  # half way in time is half way down


def test_the_descent_never_climbs():
    rates = schedule(1.0, 0.1, 0, total_steps=50)
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 50


@pytest.mark.parametrize("min_lr", [0.0, 0.5])
def test_a_run_of_one_step_uses_the_largest_rate(min_lr):
    assert schedule(1.0, min_lr, 0, total_steps=1) == [1.0]
    assert schedule(1.0, min_lr, 1, total_steps=1) == [1.0]


def test_a_run_that_is_all_warm_up():
    assert schedule(1.0, 0.0, 4, total_steps=4) == [0.25, 0.5, 0.75, 1.0]
