"""The references of lesson 12 against the package, PyTorch, and numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.optimizer import adamw_update
from transformer_lessons.training.schedule import cosine_schedule


def reference(name):
    return find_exercise(f"12.{name}").reference


def cases(name):
    return find_exercise(f"12.{name}").cases


def test_lesson_12_has_its_exercises():  # SPEC G4
    names = [exercise.id for exercise in lesson_exercises("12")]
    expected = ("loss_gradient", "momentum_step", "adamw_step", "clip", "cosine", "orthogonal")
    assert names == [f"12.{name}" for name in expected]


@pytest.mark.parametrize(("logits", "targets"), cases("loss_gradient"))
def test_loss_gradient_is_that_of_the_packages_loss(logits, targets):  # SPEC G4
    leaf = logits.clone().requires_grad_()
    cross_entropy(leaf, targets).backward()
    torch.testing.assert_close(reference("loss_gradient")(logits, targets), leaf.grad)


def test_loss_gradient_by_hand():  # SPEC G4
    # Shares 1/8, 2/8 and 5/8; the last one is true.
    got = reference("loss_gradient")(torch.tensor([[1.0, 2.0, 5.0]]).log(), torch.tensor([2]))
    torch.testing.assert_close(got, torch.tensor([[0.125, 0.25, -0.375]]))


@pytest.mark.parametrize(
    ("parameter", "gradient", "velocity", "lr", "beta"), cases("momentum_step")
)
def test_momentum_step_is_pytorchs(parameter, gradient, velocity, lr, beta):  # SPEC G4
    weight = nn.Parameter(parameter.clone())
    weight.grad = gradient.clone()
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=beta)
    optimizer.state[weight]["momentum_buffer"] = velocity.clone()
    optimizer.step()
    moved, new_velocity = reference("momentum_step")(parameter, gradient, velocity, lr, beta)
    torch.testing.assert_close(moved, weight.detach())
    torch.testing.assert_close(new_velocity, optimizer.state[weight]["momentum_buffer"])


def test_momentum_step_by_hand():  # SPEC G4
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    moved, velocity = reference("momentum_step")(one, two, one, 0.1, 0.5)
    torch.testing.assert_close(velocity, torch.tensor([2.5]))
    torch.testing.assert_close(moved, torch.tensor([0.75]))


@pytest.mark.parametrize(
    ("parameter", "gradient", "mean", "square", "step", "lr", "decay"), cases("adamw_step")
)
def test_adamw_step_is_the_packages(
    parameter, gradient, mean, square, step, lr, decay
):  # SPEC G4, A6
    tensors = [parameter.clone(), gradient, mean.clone(), square.clone()]
    adamw_update(*tensors, step, lr, weight_decay=decay)
    got = reference("adamw_step")(parameter, gradient, mean, square, step, lr, decay)
    for ours, packages in zip(got, (tensors[0], tensors[2], tensors[3]), strict=True):
        torch.testing.assert_close(ours, packages)


def test_adamw_step_by_hand():  # SPEC G4
    # m = 2 and s = 0.4, put right 20 and 400: a step of 0.1 from 1.
    one, zero = torch.tensor([1.0]), torch.zeros(1)
    moved, mean, square = reference("adamw_step")(one, 20 * one, zero, zero, 1, 0.1, 0.0)
    torch.testing.assert_close(moved, torch.tensor([0.9]))
    torch.testing.assert_close(mean, torch.tensor([2.0]))
    torch.testing.assert_close(square, torch.tensor([0.4]))


@pytest.mark.parametrize(("gradients", "max_norm"), cases("clip"))
def test_clip_is_the_packages(gradients, max_norm):  # SPEC G4
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    clip_grad_norm(parameters, max_norm)
    clipped = reference("clip")(gradients, max_norm)
    for ours, parameter in zip(clipped, parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-5, atol=1e-5)


def test_clip_by_hand():  # SPEC G4
    three, four = torch.tensor([3.0]), torch.tensor([4.0])
    clipped = reference("clip")([three, four], 1.0)
    torch.testing.assert_close(torch.cat(clipped), torch.tensor([0.6, 0.8]))
    assert [g.item() for g in reference("clip")([three, four], 6.0)] == [3.0, 4.0]
    assert reference("clip")([torch.zeros(2)], 1.0)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("case", cases("cosine"))
def test_cosine_is_the_packages(case):  # SPEC G4, E6
    assert math.isclose(reference("cosine")(*case), cosine_schedule(*case))


def test_cosine_by_hand():  # SPEC G4
    rates = [reference("cosine")(step, 1.0, 0.0, 2, 5) for step in range(5)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(("matrix", "n_rounds"), cases("orthogonal"))
def test_orthogonal_keeps_the_directions_and_bends_the_sizes(matrix, n_rounds):  # SPEC G4
    """An oracle that never multiplies the matrix with itself: the decomposition."""
    u, sizes, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    sizes = sizes / sizes.square().sum().sqrt()
    for _ in range(n_rounds):
        sizes = 1.5 * sizes - 0.5 * sizes**3
    expected = (u @ torch.diag(sizes) @ vh).float()
    got = reference("orthogonal")(matrix, n_rounds)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_orthogonal_by_hand():  # SPEC G4
    # 0.6 -> 0.9 - 0.108 and 0.8 -> 1.2 - 0.256.
    got = reference("orthogonal")(torch.diag(torch.tensor([3.0, 4.0])), 1)
    torch.testing.assert_close(got, torch.diag(torch.tensor([0.792, 0.944])))


def test_orthogonal_ends_orthogonal():  # SPEC G4
    torch.manual_seed(0)
    x = reference("orthogonal")(torch.randn(3, 6), 30)
    torch.testing.assert_close(x @ x.T, torch.eye(3))
