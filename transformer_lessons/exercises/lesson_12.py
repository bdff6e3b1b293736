"""The exercises of lesson 12: the loss's gradient, the optimizers, clipping and the schedule."""

import math
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _loss_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """softmax minus one-hot, over the number of targets that are not -100."""
    return _summed_gradient(logits, targets) / (targets != -100).sum()


def _one_hot(logits: Tensor, targets: Tensor) -> Tensor:
    """1 at each target, 0 elsewhere; a row of zeros where the target is -100."""
    return (torch.arange(logits.shape[-1]) == targets[:, None]).to(logits.dtype)


def _summed_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    gradient = logits.softmax(dim=-1) - _one_hot(logits, targets)
    return gradient * (targets != -100)[:, None]


_LOGITS = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5], [-0.5, 0.25, 1.0], [0.0, 0.0, 3.0]])

LOSS_GRADIENT = Exercise(
    id="12.loss_gradient",
    cases=(
        (torch.tensor([[1.0, 2.0, 5.0]]).log(), torch.tensor([2])),
        (_LOGITS[:2], torch.tensor([0, 2])),
        (_LOGITS, torch.tensor([2, -100, 0, -100])),
    ),
    reference=_loss_gradient,
    wrong_answers=(
        WrongAnswer(
            lambda logits, targets: (
                logits.softmax(dim=-1) * (targets != -100)[:, None] / (targets != -100).sum()
            ),
            "Nothing is subtracted at the target: this lowers the logit of the true token as well.",
        ),
        WrongAnswer(
            lambda logits, targets: -_loss_gradient(logits, targets),
            "The sign is wrong: this is what was true minus what was predicted.",
        ),
        WrongAnswer(
            _summed_gradient,
            "This is the gradient of the sum: for the mean, divide by the number of real targets.",
        ),
        WrongAnswer(
            lambda logits, targets: _summed_gradient(logits, targets) / len(targets),
            "Ignored targets are counted in the mean: divide by the number of real ones.",
        ),
        WrongAnswer(
            lambda logits, targets: (
                (logits.softmax(dim=-1) - _one_hot(logits, targets)) / (targets != -100).sum()
            ),
            "An ignored token still has a gradient: its row must be 0.",
        ),
        WrongAnswer(
            lambda logits, targets: (
                (logits.softmax(dim=0) - _one_hot(logits, targets))
                * (targets != -100)[:, None]
                / (targets != -100).sum()
            ),
            "The softmax runs over the tokens (dim=0): each token's probabilities must sum to 1.",
        ),
    ),
    hints=(
        "What the model predicted, minus what was true. The lesson works out the first case.",
        "`gradient = logits.softmax(dim=-1)`, then subtract 1 at the target of each real row.",
    ),
)


def _momentum_step(
    parameter: Tensor, gradient: Tensor, velocity: Tensor, lr: float, beta: float
) -> tuple[Tensor, Tensor]:
    """velocity <- beta velocity + gradient; parameter <- parameter - lr velocity."""
    velocity = beta * velocity + gradient
    return parameter - lr * velocity, velocity


def _averaging_step(parameter, gradient, velocity, lr, beta):
    velocity = beta * velocity + (1 - beta) * gradient
    return parameter - lr * velocity, velocity


def _late_step(parameter, gradient, velocity, lr, beta):
    return parameter - lr * velocity, beta * velocity + gradient


def _looking_ahead(parameter, gradient, velocity, lr, beta):
    velocity = beta * velocity + gradient
    return parameter - lr * (gradient + beta * velocity), velocity


def _uphill(parameter, gradient, velocity, lr, beta):
    velocity = beta * velocity + gradient
    return parameter + lr * velocity, velocity


def _rate_inside(parameter, gradient, velocity, lr, beta):
    velocity = beta * velocity + lr * gradient
    return parameter - velocity, velocity


MOMENTUM_STEP = Exercise(
    id="12.momentum_step",
    cases=(
        (torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0]), 0.1, 0.5),
        (torch.tensor([1.0, -2.0]), torch.tensor([4.0, -1.0]), torch.zeros(2), 0.1, 0.9),
        (
            torch.tensor([[0.5, 3.0], [-1.0, 0.0]]),
            torch.tensor([[1.0, -2.0], [0.0, 0.5]]),
            torch.tensor([[3.0, 2.0], [-1.0, 4.0]]),
            0.01,
            0.9,
        ),
    ),
    reference=_momentum_step,
    wrong_answers=(
        WrongAnswer(
            _averaging_step,
            "This averages, with (1 - beta) times the gradient: here the velocity is a plain sum.",
        ),
        WrongAnswer(
            _late_step,
            "The step uses the old velocity: update the velocity first.",
        ),
        WrongAnswer(
            _looking_ahead,
            "This is Nesterov momentum: plain momentum steps by the velocity itself.",
        ),
        WrongAnswer(_uphill, "This goes uphill: the step is taken against the velocity."),
        WrongAnswer(
            _rate_inside,
            "The rate is inside the velocity: it would not follow a later change of the rate.",
        ),
        WrongAnswer(
            lambda parameter, gradient, velocity, lr, beta: _momentum_step(
                parameter, gradient, 0 * velocity, lr, beta
            ),
            "The old velocity is not used: this is plain gradient descent.",
        ),
    ),
    hints=(
        "Two lines: first the velocity, then the parameter, with the new velocity.",
        "In the first case the new velocity is 0.5 * 1 + 2 = 2.5, and the parameter moves by 0.25.",
    ),
)


def _adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step with betas 0.9 and 0.999 and eps 1e-8; `step` counts from 1."""
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
    size = (square / (1 - 0.999**step)).sqrt() + 1e-8
    moved = (1 - lr * decay) * parameter - lr * mean / (1 - 0.9**step) / size
    return moved, mean, square


def _adam_with_l2(parameter, gradient, mean, square, step, lr, decay):
    slope = gradient + decay * parameter
    return _adamw_step(parameter, slope, mean, square, step, lr, 0.0)


def _adam_uncorrected(parameter, gradient, mean, square, step, lr, decay):
    # In the limit of many steps, nothing is left to correct.
    return _adamw_step(parameter, gradient, mean, square, 10**9, lr, decay)


def _adam_half_corrected(parameter, gradient, mean, square, step, lr, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
    size = square.sqrt() + 1e-8
    return (1 - lr * decay) * parameter - lr * mean / (1 - 0.9**step) / size, mean, square


def _adam_keeps_corrected(parameter, gradient, mean, square, step, lr, decay):
    moved, mean, square = _adamw_step(parameter, gradient, mean, square, step, lr, decay)
    return moved, mean / (1 - 0.9**step), square / (1 - 0.999**step)


def _adam_without_root(parameter, gradient, mean, square, step, lr, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
    size = square / (1 - 0.999**step) + 1e-8
    return (1 - lr * decay) * parameter - lr * mean / (1 - 0.9**step) / size, mean, square


def _adam_eps_inside(parameter, gradient, mean, square, step, lr, decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
    size = (square / (1 - 0.999**step) + 1e-8).sqrt()
    return (1 - lr * decay) * parameter - lr * mean / (1 - 0.9**step) / size, mean, square


def _adam_full_decay(parameter, gradient, mean, square, step, lr, decay):
    return _adamw_step(parameter, gradient, mean, square, step, lr, decay / lr)


_ONE = torch.tensor([1.0])
_ZERO = torch.tensor([0.0])

ADAMW_STEP = Exercise(
    id="12.adamw_step",
    cases=(
        (_ONE, torch.tensor([20.0]), _ZERO, _ZERO, 1, 0.1, 0.0),
        (2 * _ONE, torch.tensor([-3.0]), _ZERO, _ZERO, 1, 0.1, 0.5),
        (
            torch.tensor([1.0, -2.0]),
            torch.tensor([0.5, 4.0]),
            torch.tensor([0.1, -1.0]),
            torch.tensor([0.01, 2.0]),
            5,
            0.01,
            0.1,
        ),
        (_ONE, torch.tensor([1e-5]), _ZERO, _ZERO, 1, 0.1, 0.0),
    ),
    reference=_adamw_step,
    wrong_answers=(
        WrongAnswer(
            _adam_uncorrected,
            "Both averages start at 0 and are too small at first: correct them, using the step.",
        ),
        WrongAnswer(
            _adam_half_corrected,
            "Only the mean is corrected: the square starts at 0 as well.",
        ),
        WrongAnswer(
            _adam_with_l2,
            "The decay goes through the averages: that is L2. Apply it to the parameter directly.",
        ),
        WrongAnswer(
            _adam_full_decay,
            "The decay is not multiplied by the rate: the weight shrinks by lr * decay a step.",
        ),
        WrongAnswer(
            _adam_without_root,
            "The root is missing: the size has the unit of the gradient, not of its square.",
        ),
        WrongAnswer(
            _adam_keeps_corrected,
            "You return the corrected averages: the next step would correct them again.",
        ),
        WrongAnswer(
            _adam_eps_inside,
            "eps is inside the root: add it after the root, or small gradients hardly count.",
        ),
    ),
    hints=(
        "Four lines: the mean, the square, the size (with its correction), the parameter.",
        "Return the averages as they are, and correct copies: by hand, 2 / 0.1 and 0.4 / 0.001.",
    ),
)


def _length(gradients: list[Tensor]) -> float:
    return math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))


def _clip(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    """All gradients times min(1, max_norm / their length together)."""
    length = _length(gradients)
    factor = min(1.0, max_norm / length) if length else 1.0
    return [gradient * factor for gradient in gradients]


CLIP = Exercise(
    id="12.clip",
    cases=(
        ([torch.tensor([3.0]), torch.tensor([4.0])], 1.0),
        ([torch.tensor([0.3, 0.0]), torch.tensor([[0.4]])], 1.0),
        ([torch.tensor([0.5, -0.1]), torch.tensor([[2.0, -6.0], [3.0, 0.0]])], 2.0),
    ),
    reference=_clip,
    wrong_answers=(
        WrongAnswer(
            lambda gradients, max_norm: [_clip([g], max_norm)[0] for g in gradients],
            "Each gradient is clipped on its own: that changes the direction. Clip all together.",
        ),
        WrongAnswer(
            lambda gradients, max_norm: [g * (max_norm / _length(gradients)) for g in gradients],
            "Small gradients are made larger: the factor must never be above 1.",
        ),
        WrongAnswer(
            lambda gradients, max_norm: [g.clamp(-max_norm, max_norm) for g in gradients],
            "Every number is clipped on its own: that changes the direction. Use one factor.",
        ),
        WrongAnswer(
            lambda gradients, max_norm: [
                g * min(1.0, max_norm / sum(_length([h]) for h in gradients)) for g in gradients
            ],
            "The norms are added: add their squares instead, as in the theorem of Pythagoras.",
        ),
        WrongAnswer(
            lambda gradients, max_norm: [
                g * min(1.0, max_norm / _length(gradients) ** 2) for g in gradients
            ],
            "The root is missing: the norm is the root of the sum of the squares.",
        ),
    ),
    hints=(
        "One norm for the whole list, and one factor. (3) and (4) together have the norm 5.",
        "By how much is the norm too large? If it is not, the factor is 1.",
    ),
)


def _cosine(step: int, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of `step`, counted from 0: straight up, then half a cosine down."""
    if step < warmup_steps:
        return max_lr * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / (total_steps - 1 - warmup_steps)
    return _fall(min(progress, 1.0), max_lr, min_lr)


def _fall(progress: float, max_lr: float, min_lr: float) -> float:
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def _after_climb(step: int, value: float, *plan: Any) -> float:
    """The right answer while climbing, `value` after it."""
    return _cosine(step, *plan) if step < plan[2] else value


COSINE = Exercise(
    id="12.cosine",
    cases=tuple(
        (step, 1.0, 0.2, warmup_steps, total_steps)
        for warmup_steps, total_steps, steps in ((2, 5, range(5)), (4, 24, (0, 3, 4, 11, 23)))
        for step in steps
    ),
    reference=_cosine,
    wrong_answers=(
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: (
                max_lr * step / warmup_steps
                if step < warmup_steps
                else _cosine(step, max_lr, min_lr, warmup_steps, total_steps)
            ),
            "The warm-up starts at 0, so the first batch changes nothing: use (step + 1).",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: (
                max_lr * (step + 1) / warmup_steps
                if step < warmup_steps
                else _cosine(step, max_lr, min_lr, warmup_steps, total_steps)
            ),
            "The peak is reached twice, at steps warmup_steps - 1 and warmup_steps: rise by "
            "max_lr / (warmup_steps + 1) per step.",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: _after_climb(
                step,
                _fall((step - warmup_steps) / (total_steps - warmup_steps), max_lr, min_lr),
                max_lr,
                min_lr,
                warmup_steps,
                total_steps,
            ),
            "The end is off by one: the last step is total_steps - 1, counted from 0.",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: _after_climb(
                step,
                _fall(step / (total_steps - 1), max_lr, min_lr),
                max_lr,
                min_lr,
                warmup_steps,
                total_steps,
            ),
            "Your cosine starts at step 0: it should start when the warm-up is over.",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: _after_climb(
                step,
                _cosine(step, max_lr, 0.0, warmup_steps, total_steps),
                max_lr,
                min_lr,
                warmup_steps,
                total_steps,
            ),
            "It falls to 0: the last step should be at min_lr.",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: _after_climb(
                step,
                min_lr + max_lr * _cosine(step, 1.0, 0.0, warmup_steps, total_steps),
                max_lr,
                min_lr,
                warmup_steps,
                total_steps,
            ),
            "min_lr is added on top, so the peak is too high: the fall is only max_lr - min_lr.",
        ),
        WrongAnswer(
            lambda step, max_lr, min_lr, warmup_steps, total_steps: _after_climb(
                step,
                max_lr
                + (min_lr - max_lr) * (step - warmup_steps) / (total_steps - 1 - warmup_steps),
                max_lr,
                min_lr,
                warmup_steps,
                total_steps,
            ),
            "This falls in a straight line: half a cosine is flat at both ends.",
        ),
    ),
    hints=(
        "Two cases. After the warm-up, progress goes from 0 at warmup_steps to 1 at the last step.",
        "(1 + cos(pi * progress)) / 2 goes from 1 to 0; stretch it from max_lr to min_lr.",
    ),
)


def _orthogonal(matrix: Tensor, n_rounds: int) -> Tensor:
    """`n_rounds` of X <- 3/2 X - 1/2 X Xᵀ X, from the matrix over its Frobenius norm."""
    x = matrix / matrix.norm()
    for _ in range(n_rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def _by_numbers(matrix, n_rounds):
    x = matrix / matrix.norm()
    for _ in range(n_rounds):
        x = 1.5 * x - 0.5 * x**3
    return x


def _rounds(x, n_rounds):
    for _ in range(n_rounds):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


def _plus(matrix, n_rounds):
    x = matrix / matrix.norm()
    for _ in range(n_rounds):
        x = 1.5 * x + 0.5 * x @ x.T @ x
    return x


def _first_power(matrix, n_rounds):
    x = start = matrix / matrix.norm()
    for _ in range(n_rounds):
        x = 1.5 * x - 0.5 * start @ start.T @ x
    return x


ORTHOGONAL = Exercise(
    id="12.orthogonal",
    cases=(
        (torch.tensor([[3.0, 0.0], [0.0, 4.0]]), 1),
        (torch.tensor([[1.0, 1.0], [0.0, 2.0]]), 3),
        (torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]]), 2),
        (torch.tensor([[0.2, 0.5], [1.0, -0.3], [0.0, 0.7]]), 12),
    ),
    reference=_orthogonal,
    wrong_answers=(
        WrongAnswer(
            _by_numbers,
            "Every number is cubed on its own: X Xᵀ X is a product of matrices.",
        ),
        WrongAnswer(
            _rounds,
            "The matrix is not scaled down first: a singular value above 1.7 diverges.",
        ),
        WrongAnswer(
            lambda matrix, n_rounds: _rounds(matrix / matrix.abs().max(), n_rounds),
            "Divide by the Frobenius norm, not by the largest number: that bounds every direction.",
        ),
        WrongAnswer(
            _plus,
            "The sign is wrong: 3/2 - 1/2 leaves a value of 1 as it is, and 3/2 + 1/2 doubles it.",
        ),
        WrongAnswer(
            lambda matrix, n_rounds: _orthogonal(matrix, min(n_rounds, 1)),
            "This does one round: each round works on the result of the last.",
        ),
        WrongAnswer(
            _first_power,
            "You use X Xᵀ of the first X every time: compute it again in every round.",
        ),
    ),
    hints=(
        "In the first case both singular values, 0.6 and 0.8, can be followed by hand.",
        "`@` from left to right: x @ x.T @ x. For (2, 3) that is (2, 2) @ (2, 3).",
    ),
)

EXERCISES = (LOSS_GRADIENT, MOMENTUM_STEP, ADAMW_STEP, CLIP, COSINE, ORTHOGONAL)
