"""The exercises of lesson 11: nudges, paths, the backward pass, and what it keeps."""

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
            "Everything is 0: the backward pass starts with a 1 at the loss.",
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


def _linear_back(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x (B, T, D), weight (F, D) and bias (F,) of x @ weight.T + bias."""
    rows, by_token = x.flatten(0, 1), gradient.flatten(0, 1)
    return gradient @ weight, by_token.T @ rows, by_token.sum(dim=0)


def _linear_mean(x, weight, gradient):
    of_x, of_weight, of_bias = _linear_back(x, weight, gradient)
    n_tokens = x.shape[0] * x.shape[1]
    return of_x, of_weight / n_tokens, of_bias / n_tokens


def _linear_bias_of_sequences(x, weight, gradient):
    return (*_linear_back(x, weight, gradient)[:2], gradient.sum(dim=1))


def _linear_bias_unsummed(x, weight, gradient):
    return (*_linear_back(x, weight, gradient)[:2], gradient)


def _linear_weight_of_sequences(x, weight, gradient):
    of_x, _, of_bias = _linear_back(x, weight, gradient)
    return of_x, gradient.mT @ x, of_bias


def _linear_weight_transposed(x, weight, gradient):
    of_x, of_weight, of_bias = _linear_back(x, weight, gradient)
    return of_x, of_weight.T, of_bias


def _linear_transposed(x, weight, gradient):
    return gradient @ weight.T, *_linear_back(x, weight, gradient)[1:]


_COUNT = torch.arange(8.0).view(2, 2, 2)

LINEAR_BACK = Exercise(
    id="11.linear_back",
    cases=(
        (
            torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]),
            torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        ),
        (_COUNT, torch.tensor([[0.0, 1.0], [-2.0, 5.0]]), (_COUNT - 3) * 0.5),
        (
            torch.arange(18.0).view(2, 3, 3) / 10,
            torch.arange(9.0).view(3, 3).square() / 10,
            torch.arange(18.0).view(2, 3, 3) % 5 - 2,
        ),
    ),
    reference=_linear_back,
    wrong_answers=(
        WrongAnswer(
            _linear_transposed,
            "The gradient of x uses the transposed weight: forward it was transposed, back it "
            "isn't.",
        ),
        WrongAnswer(
            _linear_weight_transposed,
            "The gradient of the weight is transposed: its rows belong to the results.",
        ),
        WrongAnswer(
            _linear_weight_of_sequences,
            "This has one gradient of the weight for each sequence: the same weight served all.",
        ),
        WrongAnswer(
            _linear_bias_of_sequences,
            "The bias is summed over the tokens of a sequence, but not over the sequences.",
        ),
        WrongAnswer(
            _linear_bias_unsummed,
            "The bias was added to every token, so the gradients of all tokens are summed.",
        ),
        WrongAnswer(
            _linear_mean,
            "Weight and bias have means over the tokens: each use counts in full, so sum.",
        ),
    ),
    hints=(
        "Do one token first. Then ask what is used by all tokens, and what by one only.",
        "With all tokens as the rows of one matrix, the weight needs a single matrix product.",
    ),
)


def _cumsum_back(gradient: Tensor) -> Tensor:
    """x[t] is a part of y[t] and of all that come after it."""
    return gradient.flip(0).cumsum(0).flip(0)


CUMSUM_BACK = Exercise(
    id="11.cumsum_back",
    cases=(
        (torch.tensor([1.0, 10.0, 100.0]),),
        (torch.tensor([2.0]),),
        (torch.tensor([0.5, -1.0, 2.0, 0.0, 3.0]),),
    ),
    reference=_cumsum_back,
    wrong_answers=(
        WrongAnswer(
            lambda gradient: gradient.cumsum(0),
            "This adds the gradients of earlier sums: x[t] is a part of y[t] and of later ones.",
        ),
        WrongAnswer(
            lambda gradient: gradient.clone(),
            "Each number counts only for the sum at its own place: it is in the later ones, too.",
        ),
        WrongAnswer(
            lambda gradient: _cumsum_back(gradient) - gradient,
            "The sum at its own place is left out: y[t] contains x[t].",
        ),
        WrongAnswer(
            lambda gradient: gradient.sum().expand(len(gradient)),
            "Every number gets all gradients, but x[t] is no part of the sums before y[t].",
        ),
        WrongAnswer(
            lambda gradient: gradient * torch.arange(len(gradient), 0, -1),
            "The uses are counted right, but each of them brings the gradient of its own sum.",
        ),
    ),
    hints=(
        "x[0] is a part of every sum. Of how many is the last number a part, and of which?",
        "For the gradients 1, 10 and 100, the first number gets 111 and the last one 100.",
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
            "This is what is kept between the two passes: in the backward pass a segment's inside "
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

EXERCISES = (NUDGE, TWO_PATHS, BACKWARD, LINEAR_BACK, CUMSUM_BACK, PEAK)
