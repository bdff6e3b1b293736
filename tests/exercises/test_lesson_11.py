"""The references of lesson 11 against autograd, and numbers worked out by hand."""

import math

import pytest
import torch

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises


def reference(name):
    return find_exercise(f"11.{name}").reference


def cases(name):
    return find_exercise(f"11.{name}").cases


def test_lesson_11_has_its_exercises():  # SPEC G4
    names = [exercise.id for exercise in lesson_exercises("11")]
    expected = ("nudge", "two_paths", "backward", "linear_back", "cumsum_back", "peak")
    assert names == [f"11.{name}" for name in expected]


def test_nudge_by_hand():  # SPEC G4
    # 1.5³ - 0.5³ = 3.375 - 0.125, and the points are 1 apart.
    assert math.isclose(reference("nudge")([0.0, 0.0, 0.0, 1.0], 1.0, 0.5), 3.25)


@pytest.mark.parametrize(("coefficients", "x", "step"), cases("nudge"))
def test_a_small_nudge_is_the_derivative(coefficients, x, step):  # SPEC G4
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    sum(c * leaf**power for power, c in enumerate(coefficients)).backward()
    got = reference("nudge")(coefficients, x, step / 10_000)
    assert math.isclose(got, leaf.grad.item(), rel_tol=1e-6)


def test_two_paths_by_hand():  # SPEC G4
    # u = 3; a has the paths 2 and 1: 2 · 3 · (2 + 1), and b the path 1.
    assert reference("two_paths")(1.0, 2.0) == (18.0, 6.0)


@pytest.mark.parametrize(("a", "b"), cases("two_paths"))
def test_two_paths_are_autograds(a, b):  # SPEC G4
    leaves = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    ((leaves[0] * leaves[1] + leaves[0]) ** 2).backward()
    assert list(reference("two_paths")(a, b)) == pytest.approx(leaves.grad.tolist())


@pytest.mark.parametrize("case", cases("backward"))
def test_backward_is_a_sum_over_paths(case):  # SPEC G4
    """An oracle without any order: all paths to the last node, each multiplied out."""
    (inputs,) = case

    def over_paths(goal, node):
        parts = (derivative * over_paths(goal, source) for source, derivative in inputs[node])
        return float(goal == node) + sum(parts)

    expected = [over_paths(goal, len(inputs) - 1) for goal in range(len(inputs))]
    assert reference("backward")(*case) == pytest.approx(expected)


@pytest.mark.parametrize(("x", "weight", "gradient"), cases("linear_back"))
def test_linear_back_is_autograds(x, weight, gradient):  # SPEC G4
    bias = torch.zeros(len(weight))
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    expected = torch.autograd.grad(torch.nn.functional.linear(*leaves), leaves, gradient)
    torch.testing.assert_close(reference("linear_back")(x, weight, gradient), expected)


def test_linear_back_by_hand():  # SPEC G4
    of_x, of_weight, of_bias = reference("linear_back")(*cases("linear_back")[0])
    assert of_x.tolist() == [[[1.0, 2.0], [6.0, 8.0]]]  # row 0 of the weight, twice row 1
    assert of_weight.tolist() == [[1.0, 2.0], [0.0, 2.0]]
    assert of_bias.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("case", cases("cumsum_back"))
def test_cumsum_back_is_autograds(case):  # SPEC G4
    leaf = torch.zeros(len(case[0]), requires_grad=True)
    leaf.cumsum(0).backward(*case)
    torch.testing.assert_close(reference("cumsum_back")(*case), leaf.grad)


def test_cumsum_back_by_hand():  # SPEC G4
    got = reference("cumsum_back")(torch.tensor([1.0, 10.0, 100.0]))
    assert got.tolist() == [111.0, 110.0, 100.0]


@pytest.mark.parametrize(("n_blocks", "inside", "between", "segment"), cases("peak"))
def test_peak_is_a_walk_through_the_blocks(n_blocks, inside, between, segment):  # SPEC G4
    kept = [between for block in range(n_blocks) if block % segment == 0]
    most = 0
    for last in range(n_blocks, 0, -segment):
        most = max(most, sum(kept) + sum(inside for _ in range(last - segment, last)))
        kept.pop()
    assert reference("peak")(n_blocks, inside, between, segment) == most
