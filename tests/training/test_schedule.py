"""The learning rate's way: exact at its ends, a straight climb, then what the schedule says."""

import math
from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.schedule import (
    SCHEDULES,
    constant_schedule,
    cosine_schedule,
    learning_rate_at,
    wsd_schedule,
)


def rates_of(schedule, max_lr, min_lr, warmup_steps, total_steps):
    steps = range(total_steps)
    return [schedule(step, max_lr, min_lr, warmup_steps, total_steps) for step in steps]


def cosine(*sizes):
    return rates_of(cosine_schedule, *sizes)


def test_by_hand():  # SPEC E6
    # Two steps up, then the cosine at 0, 60, 120 and 180 degrees: shares 1, 3/4, 1/4, 0.
    expected = [1 / 3, 2 / 3, 1.0, 0.8, 0.4, 0.2]
    assert cosine(1.0, 0.2, 2, 6) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 50])
@pytest.mark.parametrize(("max_lr", "min_lr"), [(5e-3, 5e-4), (1.0, 0.0), (0.1, 0.1)])
@pytest.mark.parametrize("schedule", [cosine_schedule, wsd_schedule])
def test_the_ends_are_exact(schedule, max_lr, min_lr, warmup_steps):  # SPEC E6
    rates = rates_of(schedule, max_lr, min_lr, warmup_steps, total_steps=100)
    assert rates[-1] == min_lr
    assert rates[warmup_steps] == pytest.approx(max_lr, rel=1e-15)
    assert rates[0] == pytest.approx(max_lr / (warmup_steps + 1), rel=1e-15)
    assert rates[:warmup_steps] == sorted(rates[:warmup_steps])


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 50])
def test_the_cosine_has_one_peak(warmup_steps):
    rates = cosine(1.0, 0.1, warmup_steps, 100)
    assert [step for step, rate in enumerate(rates) if rate == max(rates)] == [warmup_steps]
    assert all(rate > 0 for rate in rates)  # no batch is for nothing


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(0, 1), (3, 20), (20, 20), (30, 20)])
@pytest.mark.parametrize("schedule", [cosine_schedule, wsd_schedule])
def test_after_the_end_the_rate_is_the_smallest_for_good(schedule, warmup_steps, total_steps):
    end = max(total_steps, warmup_steps + 1)
    after = [*range(end, 3 * end), 10**6]
    assert {schedule(step, 1.0, 0.1, warmup_steps, total_steps) for step in after} == {0.1}


@pytest.mark.parametrize("warmup_steps", [1, 5, 40])
@pytest.mark.parametrize("total_steps", [60, 200])
def test_the_cosine_is_that_of_transformers_but_for_its_first_step(warmup_steps, total_steps):
    """Theirs begins at 0 and ends one step later: shifted by one step, it is ours."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = transformers.get_cosine_schedule_with_warmup(optimizer, warmup_steps + 1, total_steps)
    expected = []
    for _ in range(total_steps + 1):
        expected += theirs.get_last_lr()
        optimizer.step()
        theirs.step()
    assert expected[0] == 0
    assert cosine(1.0, 0.0, warmup_steps, total_steps) == pytest.approx(expected[1:], abs=1e-12)


def test_the_climb_is_straight_and_the_descent_a_cosine():  # SPEC E6
    rates = cosine(2.0, 0.5, 10, 101)
    for step in range(10):
        assert rates[step] == pytest.approx(2.0 / 11 * (step + 1))
    for step in range(10, 101):
        angle = math.pi * (step - 10) / 90
        assert rates[step] == pytest.approx(1.25 + 0.75 * math.cos(angle))
    assert rates[55] == pytest.approx(1.25)  # half way in time is half way down


def test_the_descent_never_climbs():
    rates = cosine(1.0, 0.1, 0, 50)
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 50


@pytest.mark.parametrize("min_lr", [0.0, 0.5])
def test_a_run_of_one_step_uses_the_largest_rate(min_lr):
    assert cosine(1.0, min_lr, 0, 1) == [1.0]
    assert cosine(1.0, min_lr, 1, 1) == [0.5]  # or what the warm-up allows


def test_a_run_that_is_all_warm_up():
    assert cosine(1.0, 0.0, 4, 4) == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-15)


def test_the_constant_one_stays():
    expected = [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert rates_of(constant_schedule, 2.0, 0.1, 3, 6) == pytest.approx(expected, rel=1e-15)
    assert rates_of(constant_schedule, 2.0, 0.1, 0, 3) == [2.0] * 3


def test_warm_up_stable_decay_by_hand():
    # 2 up, stable, and the last 5 of 25 fall by 1 - sqrt of 1/5 … 5/5.
    rates = rates_of(wsd_schedule, 1.0, 0.2, 2, 25)
    fall = [0.2 + 0.8 * (1 - math.sqrt(n / 5)) for n in range(1, 6)]
    assert rates == pytest.approx([1 / 3, 2 / 3] + [1.0] * 18 + fall, rel=1e-12, abs=1e-15)


def test_before_it_falls_warm_up_stable_decay_does_not_know_where_it_ends():
    short = rates_of(wsd_schedule, 1.0, 0.0, 10, 100)
    long = rates_of(wsd_schedule, 1.0, 0.0, 10, 1000)
    assert short[:80] == long[:80]
    assert short[80] < long[80]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    max_lr=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    warmup_steps=st.integers(0, 60),
    total_steps=st.integers(1, 80),
)
def test_no_schedule_leaves_its_range_or_climbs_after_warm_up(
    name, max_lr, share, warmup_steps, total_steps
):  # SPEC E6
    min_lr = max_lr * share
    rates = rates_of(SCHEDULES[name], max_lr, min_lr, warmup_steps, total_steps)
    climb, rest = rates[:warmup_steps], rates[warmup_steps:]
    expected = [max_lr * (n + 1) / (warmup_steps + 1) for n in range(len(climb))]
    assert climb == pytest.approx(expected)
    assert all(0 < rate < max_lr for rate in climb)
    assert all(min_lr * (1 - 1e-12) <= rate <= max_lr * (1 + 1e-12) for rate in rest)
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(rest))
    if name == "cosine" and len(rest) > 1:
        assert rest[-1] == min_lr


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_config_plans_its_schedule(name):
    sizes = {"learning_rate": 0.3, "min_learning_rate": 0.1, "warmup_steps": 3, "steps": 17}
    config = TrainConfig(schedule=name, **sizes)
    got = [learning_rate_at(config, step) for step in range(17)]
    assert got == rates_of(SCHEDULES[name], 0.3, 0.1, 3, 17)
    assert {cosine_schedule, constant_schedule, wsd_schedule} == set(SCHEDULES.values())
