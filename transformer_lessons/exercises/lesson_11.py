"""The exercises of lesson 11: nudges, paths, the way back, and what it keeps."""

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _value(coefficients: list[float], x: float) -> float:
    return sum(c * x**power for power, c in enumerate(coefficients))


def _nudge(coefficients: list[float], x: float, step: float) -> float:
    """(f(x + step) - f(x - step)) / (2 step)."""
    rise = _value(coefficients, x + step) - _value(coefficients, x - step)
    return rise / (2 * step)


def _one_sided(coefficients, x, step):
    return (_value(coefficients, x + step) - _value(coefficients, x)) / step


def _exact(coefficients, x, step):
    return sum(power * c * x ** (power - 1) for power, c in enumerate(coefficients) if power)


NUDGE = Exercise(
    id="11.nudge",
    cases=(
        ([0.0, 0.0, 0.0, 1.0], 1.0, 0.5),
        ([1.0, 0.0, 2.0], 3.0, 1.0),
        ([0.5, -1.0, 0.0, 2.0], -1.0, 0.1),
    ),
    reference=_nudge,
    wrong_answers=(
        WrongAnswer(_one_sided, "This nudges up only: nudge down by as much, and compare the two."),
        WrongAnswer(
            lambda coefficients, x, step: _one_sided(coefficients, x, -step),
            "This nudges down only: nudge up by as much, and compare the two.",
        ),
        WrongAnswer(
            lambda coefficients, x, step: 2 * _nudge(coefficients, x, step),
            "Divided by one step: between the two points lie two.",
        ),
        WrongAnswer(
            lambda coefficients, x, step: _nudge(coefficients, x, step) * 2 * step,
            "This is the rise itself: divide it by how far apart the two points are.",
        ),
        WrongAnswer(
            lambda coefficients, x, step: -_nudge(coefficients, x, step),
            "The sign is turned: take the value after the upward nudge minus the other.",
        ),
        WrongAnswer(
            _exact,
            "This is the exact derivative: right, but not what two evaluations with a step give.",
        ),
    ),
    hints=(
        "Write a small function that evaluates the polynomial, and call it twice.",
        "In the first case the two values are 1.5³ and 0.5³, and they are 1 apart in x.",
    ),
)


def _two_paths(a: float, b: float) -> tuple[float, float]:
    """The gradients of (a b + a)²."""
    u = a * b + a
    return 2 * u * (b + 1), 2 * u * a


TWO_PATHS = Exercise(
    id="11.two_paths",
    cases=((1.0, 2.0), (2.0, 3.0), (-1.5, 0.5), (3.0, -2.0)),
    reference=_two_paths,
    wrong_answers=(
        WrongAnswer(
            lambda a, b: (2 * (a * b + a) * b, 2 * (a * b + a) * a),
            "Only the path of a through the product counts here: a is also added directly.",
        ),
        WrongAnswer(
            lambda a, b: (2 * (a * b + a), 2 * (a * b + a) * a),
            "Only the direct path of a counts here: a also goes through the product.",
        ),
        WrongAnswer(
            lambda a, b: (b + 1, a),
            "This is the gradient of ab + a: the square comes after it, with its own factor.",
        ),
        WrongAnswer(
            lambda a, b: ((a * b + a) * (b + 1), (a * b + a) * a),
            "The square uses its number twice, and only one of the two uses counts here.",
        ),
        WrongAnswer(
            lambda a, b: _two_paths(a, b)[::-1],
            "The two gradients are exchanged: that of a comes first.",
        ),
    ),
    hints=(
        "Call the number that is squared u. What is the gradient of L with respect to u?",
        "a reaches u twice, with the local derivatives b and 1. For a = 1 and b = 2, u is 3.",
    ),
)

Inputs = list[list[tuple[int, float]]]


def _backward(inputs: Inputs) -> list[float]:
    """The gradient of the last node with respect to each node."""
    gradients = [0.0] * len(inputs)
    gradients[-1] = 1.0
    for node in reversed(range(len(inputs))):
        for source, derivative in inputs[node]:
            gradients[source] += gradients[node] * derivative
    return gradients


def _overwriting(inputs):
    gradients = [0.0] * len(inputs)
    gradients[-1] = 1.0
    for node in reversed(range(len(inputs))):
        for source, derivative in inputs[node]:
            gradients[source] = gradients[node] * derivative
    return gradients


def _forward_order(inputs):
    gradients = [0.0] * len(inputs)
    gradients[-1] = 1.0
    for node in range(len(inputs)):
        for source, derivative in inputs[node]:
            gradients[source] += gradients[node] * derivative
    return gradients


def _too_early(inputs):
    gradients = [0.0] * len(inputs)
    gradients[-1] = 1.0

    def visit(node):
        for source, derivative in inputs[node]:
            gradients[source] += gradients[node] * derivative
            visit(source)

    visit(len(inputs) - 1)
    return gradients


def _adding_along(inputs):
    gradients = [0.0] * len(inputs)
    gradients[-1] = 1.0
    for node in reversed(range(len(inputs))):
        for source, derivative in inputs[node]:
            gradients[source] += gradients[node] + derivative
    return gradients


BACKWARD = Exercise(
    id="11.backward",
    cases=(
        ([[], [(0, 3.0)], [(1, 2.0)]],),
        ([[], [], [(0, 2.0), (1, -1.0)], [(2, 0.5), (2, 3.0)]],),
        ([[], [(0, 2.0)], [(0, -1.0), (1, 3.0)], [(1, 1.0), (2, 2.0)], [(3, 0.5), (1, 4.0)]],),
    ),
    reference=_backward,
    wrong_answers=(
        WrongAnswer(
            _overwriting,
            "A node that is used twice has the gradient of one use only: add, don't set.",
        ),
        WrongAnswer(
            _forward_order,
            "The nodes are visited from the first to the last: their gradients aren't known yet.",
        ),
        WrongAnswer(
            _too_early,
            "A node passes its gradient on before it is complete: finish all of its uses first.",
        ),
        WrongAnswer(
            _adding_along,
            "Along a path, gradient and local derivative are added: they have to be multiplied.",
        ),
        WrongAnswer(
            lambda inputs: [0.0] * len(inputs),
            "Everything is 0: the way back has to start with a 1 at the loss.",
        ),
        WrongAnswer(
            lambda inputs: [*_backward(inputs)[:-1], 0.0],
            "The last gradient is missing: the loss changes by 1 per unit of itself.",
        ),
    ),
    hints=(
        "Start with a list of zeros, and a 1 in the last place.",
        "Go from the last node to the first. What a node has, times the derivative, is added.",
    ),
)


def _sum_back(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum `gradient` over the dimensions along which `shape` was repeated."""
    while gradient.ndim > len(shape):
        gradient = gradient.sum(dim=0)
    for dim, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(dim=dim, keepdim=True)
    return gradient


def _first_only(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient[0]
    for dim, size in enumerate(shape):
        if size == 1:
            gradient = gradient.narrow(dim, 0, 1)
    return gradient


def _leading_only(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(dim=0)
    return gradient


def _ones_only(gradient, shape):
    missing = gradient.ndim - len(shape)
    for dim, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(dim=dim + missing, keepdim=True)
    return gradient


_COUNT = torch.arange(1.0, 7.0).view(2, 3)

SUM_BACK = Exercise(
    id="11.sum_back",
    cases=(
        (_COUNT, (3,)),
        (_COUNT, (2, 1)),
        (_COUNT, (2, 3)),
        (torch.arange(24.0).view(2, 3, 4), (3, 1)),
        (_COUNT, ()),
    ),
    reference=_sum_back,
    wrong_answers=(
        WrongAnswer(
            lambda gradient, shape: (
                _sum_back(gradient, shape) * (torch.zeros(shape).numel() / gradient.numel())
            ),
            "This is a mean: every use of a number counts in full, so the parts are summed.",
        ),
        WrongAnswer(
            _first_only,
            "Only the first use of each number counts here: all uses have to be added up.",
        ),
        WrongAnswer(
            _leading_only,
            "Dimensions of size 1 were repeated as well, and have to be summed.",
        ),
        WrongAnswer(
            _ones_only,
            "Dimensions that the array doesn't have at all were put in front: sum over them.",
        ),
        WrongAnswer(
            lambda gradient, shape: gradient.sum().expand(shape),
            "Everything is summed: only the dimensions that were repeated should be.",
        ),
        WrongAnswer(
            lambda gradient, shape: _sum_back(gradient, shape).squeeze(),
            "A dimension of size 1 is lost: keep it, the gradient has the shape of the array.",
        ),
    ),
    hints=(
        "Broadcasting does two things: it puts dimensions in front, and it stretches those of 1.",
        "While there are too many dimensions, sum over the first. Then look at each size of 1.",
    ),
)


def _matmul_back(a: Tensor, b: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of both factors of a @ b."""
    return gradient @ b.T, a.T @ gradient


_A = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
_B = torch.tensor([[0.0, 1.0], [-2.0, 5.0]])
_G = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
_SQUARE = torch.arange(9.0).view(3, 3)

MATMUL_BACK = Exercise(
    id="11.matmul_back",
    cases=((_A, _B, _G), (_SQUARE, _SQUARE.square() - 4, (_SQUARE - 3) * 0.5)),
    reference=_matmul_back,
    wrong_answers=(
        WrongAnswer(
            lambda a, b, gradient: (gradient @ b, a @ gradient),
            "Nothing is transposed: a number of A meets a row of B, and the gradient's row too.",
        ),
        WrongAnswer(
            lambda a, b, gradient: (b.T @ gradient, gradient @ a.T),
            "The factors stand in the wrong order: B was on the right, and so is its transpose.",
        ),
        WrongAnswer(
            lambda a, b, gradient: _matmul_back(a, b, gradient)[::-1],
            "The gradients of A and B are exchanged.",
        ),
        WrongAnswer(
            lambda a, b, gradient: (gradient * b, gradient * a),
            "This is the way back through a product element by element, not a matrix product.",
        ),
        WrongAnswer(
            lambda a, b, gradient: (b.T, a.T),
            "The gradient of the result is not used: these are local derivatives only.",
        ),
        WrongAnswer(
            lambda a, b, gradient: (gradient @ b.T, gradient.T @ a),
            "The gradient of B is transposed: its rows belong to the columns of A.",
        ),
    ),
    hints=(
        "Work out one number: where in Y does the number in row 0, column 1 of A go?",
        "If A were (2, 3) and B (3, 4), then Y would be (2, 4): what fits?",
    ),
)


def _peak(n_blocks: int, inside: int, between: int, segment: int) -> int:
    """The inputs of all segments, and the insides of one."""
    return n_blocks // segment * between + segment * inside


PEAK = Exercise(
    id="11.peak",
    cases=((4, 10, 1, 1), (4, 10, 1, 2), (16, 30, 4, 4), (64, 7, 2, 8), (6, 5, 3, 6)),
    reference=_peak,
    wrong_answers=(
        WrongAnswer(
            lambda n_blocks, inside, between, segment: n_blocks * (inside + between),
            "This keeps everything, as without recomputation.",
        ),
        WrongAnswer(
            lambda n_blocks, inside, between, segment: n_blocks // segment * between,
            "This is what is kept between the two passes: on the way back a segment's inside "
            "comes on top.",
        ),
        WrongAnswer(
            lambda n_blocks, inside, between, segment: segment * inside,
            "The inputs of the segments are missing: without them nothing can be recomputed.",
        ),
        WrongAnswer(
            lambda n_blocks, inside, between, segment: n_blocks // segment * between + inside,
            "This has the inside of one block: all blocks of the segment are there at once.",
        ),
        WrongAnswer(
            lambda n_blocks, inside, between, segment: n_blocks * between + segment * inside,
            "This keeps the input of every block: only that of each segment is kept.",
        ),
    ),
    hints=(
        "How many segments are there? One input is kept for each.",
        "Four blocks in two segments, inside 10, between 1: 2 inputs, and 20 for one segment.",
    ),
)

EXERCISES = (NUDGE, TWO_PATHS, BACKWARD, SUM_BACK, MATMUL_BACK, PEAK)
