"""The references of lesson 16 against the package, and numbers worked out by hand."""

import math

import numpy as np
import pytest

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training.scaling import (
    LossSurface,
    best_split,
    fit_power_law,
    size_ladder,
    training_flops,
)

SURFACE = LossSurface(E=0.7, A=30.0, alpha=0.35, B=900.0, beta=0.45)
TERMS = (SURFACE.A, SURFACE.alpha, SURFACE.B, SURFACE.beta)


def reference(name):
    return find_exercise(f"16.{name}").reference


def test_lesson_16_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("16")] == [
        "16.training_flops",
        "16.exponent",
        "16.best_size",
        "16.lost",
        "16.predict",
        "16.valley",
    ]


def test_flops_are_those_of_the_package():
    for config in size_ladder(8):
        sizes = config.d_model, config.n_layers, config.vocab_size, 32, 1000
        assert reference("training_flops")(*sizes) == training_flops(config, 1000)


def test_the_exponent_is_that_of_the_fit():
    assert reference("exponent")(2.0, 8.0, 8.0, 4.0) == -0.5
    assert reference("exponent")(3.0, 5.0, 11.0, 7.0) == pytest.approx(
        fit_power_law([3, 11], [5, 7])[1]
    )


@pytest.mark.parametrize("flops", [1e9, 1e13])
def test_the_best_size_and_what_is_lost_beside_it(flops):
    N, D = best_split(SURFACE, flops)
    assert reference("best_size")(*TERMS, flops) == pytest.approx(N)
    lost = SURFACE.loss(N / 4, 4 * D) - SURFACE.loss(N, D)
    assert reference("lost")(*TERMS, flops) == pytest.approx(lost)
    assert reference("predict")(SURFACE.E, *TERMS, N / 4, flops) == pytest.approx(
        SURFACE.loss(N / 4, 4 * D)
    )


def test_the_valley_is_the_minimum_of_the_parabola():
    sizes, losses = [2e3, 8e3, 32e3], [2.1, 1.9, 2.3]
    a, b, _ = np.polyfit(np.log(sizes), losses, 2)
    assert math.log(reference("valley")(sizes, losses)) == pytest.approx(-b / (2 * a))
