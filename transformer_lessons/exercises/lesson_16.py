"""The exercises of lesson 16: a scaling law on a laptop."""

import math

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _training_flops(
    d_model: int, n_layers: int, vocab_size: int, n_seen: int, n_tokens: int
) -> int:
    """Forward and backward: 24 D² a block, 4 D for each token seen, 2 D V for the head."""
    block = 24 * d_model**2 + 4 * d_model * n_seen
    return 3 * (n_layers * block + 2 * d_model * vocab_size) * n_tokens


TRAINING_FLOPS = Exercise(
    id="16.training_flops",
    cases=((1, 1, 2, 1, 1), (8, 2, 256, 32, 10), (16, 2, 256, 32, 1000), (64, 4, 512, 128, 2048)),
    reference=_training_flops,
    wrong_answers=(
        WrongAnswer(
            lambda d_model, n_layers, vocab_size, n_seen, n_tokens: (
                _training_flops(d_model, n_layers, vocab_size, n_seen, n_tokens) / 3
            ),
            "That is the forward pass alone. Backward has two products for each one of forward.",
        ),
        WrongAnswer(
            lambda d_model, n_layers, vocab_size, n_seen, n_tokens: _training_flops(
                d_model, n_layers, 2 * vocab_size, n_seen, n_tokens
            ),
            "The embedding is counted as a product, like the head. It only looks up a row.",
        ),
        WrongAnswer(
            lambda d_model, n_layers, vocab_size, n_seen, n_tokens: _training_flops(
                d_model, n_layers, 0, n_seen, n_tokens
            ),
            "The head is missing. In a small model it is a large part of the work.",
        ),
        WrongAnswer(
            lambda d_model, n_layers, vocab_size, n_seen, n_tokens: (
                _training_flops(d_model, n_layers, vocab_size, n_seen, n_tokens) / 2
            ),
            "A weight costs a multiplication and an addition: two operations, not one.",
        ),
        WrongAnswer(
            lambda d_model, n_layers, vocab_size, n_seen, n_tokens: _training_flops(
                d_model, n_layers, vocab_size, 0, n_tokens
            ),
            "Scores and mixing are missing: two products of width D for each token seen.",
        ),
    ),
    hints=(
        "How many weights does a token meet on its way, and what does each of them cost?",
        "A block has 12 D² weights, the head D V. Forward takes two operations a weight, and 4 D "
        "for each token seen in each block; training takes three times as many.",
    ),
)


def _exponent(x1: float, y1: float, x2: float, y2: float) -> float:
    """p of y = k x^p through two points."""
    return math.log(y2 / y1) / math.log(x2 / x1)


EXPONENT = Exercise(
    id="16.exponent",
    cases=((1.0, 3.0, 2.0, 12.0), (2.0, 8.0, 8.0, 4.0), (100.0, 7.0, 1000.0, 70.0)),
    reference=_exponent,
    wrong_answers=(
        WrongAnswer(
            lambda x1, y1, x2, y2: (y2 / y1) / (x2 / x1),
            "Ratios are divided. Of a power law, the *logarithms* lie on a straight line.",
        ),
        WrongAnswer(
            lambda x1, y1, x2, y2: (y2 - y1) / (x2 - x1),
            "That is how steep the straight line through the points themselves is.",
        ),
        WrongAnswer(
            lambda x1, y1, x2, y2: math.log(x2 / x1) / math.log(y2 / y1),
            "Upside down: the exponent says how log y changes with log x.",
        ),
        WrongAnswer(
            lambda x1, y1, x2, y2: math.log(y2 / y1) / (x2 - x1),
            "Only y is in logarithms; that fits k e^(p x), which grows much faster.",
        ),
    ),
    hints=(
        "Take the logarithm of y = k x^p. Which line is it, and how steep?",
        "log y = log k + p log x, so p is the difference of the two log y by that of the log x.",
    ),
)


def _best_size(A: float, alpha: float, B: float, beta: float, flops: float) -> float:
    """The N that minimizes A / N^alpha + B / D^beta with 6 N D = flops."""
    scale = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    return scale * (flops / 6) ** (beta / (alpha + beta))


BEST_SIZE = Exercise(
    id="16.best_size",
    cases=(
        (1.0, 0.5, 2.0, 0.5, 600.0),
        (10.0, 0.5, 10.0, 0.25, 6e6),
        (400.0, 0.4, 800.0, 0.3, 6e9),
        (50.0, 0.3, 2000.0, 0.45, 1e12),
    ),
    reference=_best_size,
    wrong_answers=(
        WrongAnswer(
            lambda A, alpha, B, beta, flops: _best_size(A, alpha, B, beta, 6 * flops),
            "The budget is taken as N D. It is 6 N D, so N D is a sixth of it.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: _best_size(A, alpha, B, beta, 36 * flops),
            "The 6 is on the wrong side: N D is a sixth of the budget, not six times it.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: flops / 6 / _best_size(A, alpha, B, beta, flops),
            "That is D, the number of tokens.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: (
                (alpha * A / (beta * B)) ** (1 / (alpha + beta))
                * (flops / 6) ** (alpha / (alpha + beta))
            ),
            "alpha and beta are exchanged in the exponent: the size grows with beta / (alpha + "
            "beta). The slower a term falls, the more it gets of the budget.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: (
                (A / B) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
            ),
            "There the two terms are equal. At the minimum their *derivatives* are: alpha times "
            "the one is beta times the other.",
        ),
    ),
    hints=(
        "Put D = flops / (6 N) into the loss and set its derivative with respect to N to 0.",
        "alpha A / N^alpha = beta B / D^beta. Now write D in terms of N, and solve for N.",
    ),
)


def _lost(A: float, alpha: float, B: float, beta: float, flops: float) -> float:
    """How much the loss rises if N is a quarter of the best one, at the same budget."""
    N = _best_size(A, alpha, B, beta, flops)
    D = flops / 6 / N
    return A / (N / 4) ** alpha + B / (4 * D) ** beta - A / N**alpha - B / D**beta


LOST = Exercise(
    id="16.lost",
    cases=(
        (1.0, 0.5, 2.0, 0.5, 600.0),
        (10.0, 0.5, 10.0, 0.25, 6e6),
        (400.0, 0.4, 800.0, 0.3, 6e9),
        (50.0, 0.3, 2000.0, 0.45, 1e12),
    ),
    reference=_lost,
    wrong_answers=(
        WrongAnswer(
            lambda A, alpha, B, beta, flops: (
                A * (4**alpha - 1) / _best_size(A, alpha, B, beta, flops) ** alpha
            ),
            "The number of tokens stayed the same, and three quarters of the budget are left over.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: (
                A * (0.25**alpha - 1) / _best_size(A, alpha, B, beta, flops) ** alpha
                + B * (4**beta - 1) / (flops / 6 / _best_size(A, alpha, B, beta, flops)) ** beta
            ),
            "That is a model four times too *large*, trained on a quarter of the tokens.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: -_lost(A, alpha, B, beta, flops),
            "The sign: at the best size the loss is lower, so what is lost is above 0.",
        ),
        WrongAnswer(
            lambda A, alpha, B, beta, flops: (
                A * (4**alpha - 1) / _best_size(A, alpha, B, beta, flops) ** alpha
                + B * (2**-beta - 1) / (flops / 6 / _best_size(A, alpha, B, beta, flops)) ** beta
            ),
            "At the same budget a quarter of the size allows four times the tokens, not twice.",
        ),
    ),
    hints=(
        "Which N and D does the small model have? Its FLOPs are the same.",
        "A quarter of the best N, and four times its D: the loss there, less that at the best one; "
        "E cancels.",
    ),
)


def _predict(
    E: float, A: float, alpha: float, B: float, beta: float, N: float, flops: float
) -> float:
    """The loss of N parameters trained for `flops`."""
    return E + A / N**alpha + B / (flops / (6 * N)) ** beta


PREDICT = Exercise(
    id="16.predict",
    cases=(
        (1.0, 1.0, 0.5, 3.0, 0.5, 4.0, 96.0),
        (0.5, 10.0, 0.5, 10.0, 0.25, 100.0, 6e6),
        (0.8, 40.0, 0.4, 800.0, 0.5, 1e5, 6e12),
    ),
    reference=_predict,
    wrong_answers=(
        WrongAnswer(
            lambda E, A, alpha, B, beta, N, flops: _predict(E, A, alpha, B, beta, N, 6 * flops),
            "D is flops / N here. Each token costs six operations a parameter.",
        ),
        WrongAnswer(
            lambda E, A, alpha, B, beta, N, flops: _predict(0.0, A, alpha, B, beta, N, flops),
            "E is missing: what no model and no amount of data removes.",
        ),
        WrongAnswer(
            lambda E, A, alpha, B, beta, N, flops: E + A / N**alpha + B / flops**beta,
            "The second term falls with the tokens, not with the budget.",
        ),
        WrongAnswer(
            lambda E, A, alpha, B, beta, N, flops: _predict(E, A, beta, B, alpha, N, flops),
            "alpha and beta are exchanged: alpha belongs to the size, beta to the data.",
        ),
    ),
    hints=(
        "How many tokens does the budget pay for at this size?",
        "Divide the budget by what one token costs: six operations a parameter. Then use L(N, D).",
    ),
)


def _valley(sizes: list[float], losses: list[float]) -> float:
    """The lowest point of the parabola in log N through three runs, evenly spaced in log N."""
    step = math.log(sizes[1] / sizes[0])
    left, middle, right = losses
    return sizes[1] * math.exp(step * (left - right) / (2 * (left - 2 * middle + right)))


VALLEY = Exercise(
    id="16.valley",
    cases=(
        ([1.0, 10.0, 100.0], [2.0, 1.0, 2.5]),
        ([10.0, 20.0, 40.0], [3.0, 2.0, 2.5]),
        ([1e4, 2e4, 4e4], [1.7, 1.5, 1.6]),
        ([100.0, 300.0, 900.0], [2.0, 1.8, 1.9]),
    ),
    reference=_valley,
    wrong_answers=(
        WrongAnswer(
            lambda sizes, losses: sizes[losses.index(min(losses))],
            "That is the best of the three. The valley's lowest point lies between two sizes.",
        ),
        WrongAnswer(
            lambda sizes, losses: sizes[1] ** 2 / _valley(sizes, losses),
            "On the wrong side of the middle: the lowest point is towards the lower neighbour.",
        ),
        WrongAnswer(
            lambda sizes, losses: sizes[1] * (_valley(sizes, losses) / sizes[1]) ** 2,
            "Twice as far from the middle as it should be: the minimum of a x² + b x is at "
            "-b / (2 a).",
        ),
        WrongAnswer(
            lambda sizes, losses: math.log(_valley(sizes, losses)),
            "That is the logarithm of the size.",
        ),
    ),
    hints=(
        "With x = log N, the three points are evenly spaced: take x = -1, 0 and 1 steps.",
        "The parabola a x² + b x + c has b = (right - left) / 2 and a = (left + right) / 2 - "
        "middle. Its minimum is at x = -b / (2 a) steps from the middle one.",
    ),
)

EXERCISES = (TRAINING_FLOPS, EXPONENT, BEST_SIZE, LOST, PREDICT, VALLEY)
