"""The exercises of lesson 19: speculative decoding."""

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """Where p has more than q, as a distribution."""
    excess = (p - q).clamp(min=0)
    return excess / excess.sum()


RESIDUAL = Exercise(
    id="19.residual",
    cases=(
        (torch.tensor([0.75, 0.25]), torch.tensor([0.25, 0.75])),
        (torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])),
        (torch.tensor([0.1, 0.4, 0.4, 0.1]), torch.tensor([0.4, 0.1, 0.3, 0.2])),
        (torch.tensor([0.3, 0.3, 0.4]), torch.tensor([1.0, 0.0, 0.0])),
    ),
    reference=_residual,
    wrong_answers=(
        WrongAnswer(
            lambda p, q: _residual(q, p),
            "p and q are exchanged: this is where the draft has too much. What is drawn must be "
            "what the draft gives too rarely.",
        ),
        WrongAnswer(
            lambda p, q: (p - q).clamp(min=0),
            "This doesn't sum to 1, so it can't be drawn from: divide it by its sum.",
        ),
        WrongAnswer(
            lambda p, q: p,
            "This is p itself. Tokens that the draft proposes too often would then be drawn here "
            "as well, and come out too often.",
        ),
        WrongAnswer(
            lambda p, q: (p - q).abs() / (p - q).abs().sum(),
            "Where q is larger, nothing is missing: such a token must get 0 here, and not the size "
            "of the difference.",
        ),
        WrongAnswer(
            lambda p, q: (p - q).softmax(dim=0),
            "A softmax gives every token something. Set what is below 0 to 0, and divide by the "
            "sum.",
        ),
    ),
    hints=(
        "For each token, how much probability does the draft leave missing?",
        "Negative differences become 0. Then the rest has to sum to 1.",
    ),
)


def _n_kept(p: list[float], q: list[float], u: list[float]) -> int:
    """How many of the guesses are kept before the first that is refused."""
    n = 0
    while n < len(u) and u[n] * q[n] < p[n]:
        n += 1
    return n


N_KEPT = Exercise(
    id="19.n_kept",
    cases=(
        ([0.3], [0.6], [0.4]),
        ([0.3, 0.5], [0.6, 0.2], [0.4, 0.9]),
        ([0.1, 0.5, 0.9], [0.4, 0.5, 0.1], [0.5, 0.1, 0.1]),
        ([0.2, 0.6, 0.1, 0.3], [0.3, 0.4, 0.8, 0.3], [0.6, 0.99, 0.2, 0.5]),
        ([0.5, 0.0, 0.5], [0.1, 0.4, 0.1], [0.7, 0.0, 0.2]),
    ),
    reference=_n_kept,
    wrong_answers=(
        WrongAnswer(
            lambda p, q, u: next(
                (i for i, pair in enumerate(zip(p, q, strict=True)) if pair[0] < pair[1]), len(u)
            ),
            "A token with p below q isn't always refused: it is kept with probability p / q.",
        ),
        WrongAnswer(
            lambda p, q, u: next((i for i, x in enumerate(u) if x >= p[i]), len(u)),
            "This keeps a token with probability p. The draft proposes it with probability q "
            "already; what decides is p / q.",
        ),
        WrongAnswer(
            lambda p, q, u: sum(u[i] * q[i] < p[i] for i in range(len(u))),
            "All guesses that pass are counted. Those after the first refusal were made for "
            "another text, and go with it.",
        ),
        WrongAnswer(
            lambda p, q, u: next((i for i, x in enumerate(u) if x < 1 - p[i] / q[i]), len(u)),
            "This is a fair test as well, but with 1 - u in the place of u. A guess is kept if u "
            "is below p / q.",
        ),
    ),
    hints=(
        "Go through the guesses from the first. When do you stop?",
        "u is below p / q exactly when u times q is below p, and that works for q = 0 too.",
    ),
)


def _expected_tokens(alpha: float, k: int) -> float:
    """1 + alpha + ... + alpha^k: the tokens of a pass."""
    return float(sum(alpha**i for i in range(k + 1)))


EXPECTED_TOKENS = Exercise(
    id="19.expected_tokens",
    cases=((0.5, 1), (0.0, 4), (0.8, 4), (1.0, 3), (0.63, 8)),
    reference=_expected_tokens,
    wrong_answers=(
        WrongAnswer(
            lambda alpha, k: _expected_tokens(alpha, k) - 1,
            "The token of the model's own is missing: even if every guess is refused, a pass makes "
            "one.",
        ),
        WrongAnswer(
            lambda alpha, k: 1 + alpha * k,
            "A guess counts only if all before it were kept too; the i-th is kept with probability "
            "alpha to the i.",
        ),
        WrongAnswer(
            lambda alpha, k: _expected_tokens(alpha, k - 1),
            "This is 1 + alpha + … + alpha^(k - 1): when all k guesses are kept, one more token is "
            "drawn.",
        ),
        WrongAnswer(
            lambda alpha, k: 1 + k * alpha**k,
            "This counts only the case in which all guesses are kept. Two of four count, too.",
        ),
    ),
    hints=(
        "With what probability does a pass make at least one token? At least two? At least three?",
        "A mean is the sum of these probabilities. How many of them are there?",
    ),
)


def _best_k(alpha: float, draft_cost: float, most: int) -> int:
    """The k from 0 to `most` with the most tokens for the time."""
    return max(range(most + 1), key=lambda k: _expected_tokens(alpha, k) / (1 + k * draft_cost))


BEST_K = Exercise(
    id="19.best_k",
    cases=(
        (0.5, 0.6, 4),
        (0.8, 0.1, 8),
        (0.3, 0.6, 8),
        (0.9, 0.02, 12),
        (0.6, 0.2, 8),
        (0.7, 0.0, 6),
    ),
    reference=_best_k,
    wrong_answers=(
        WrongAnswer(
            lambda alpha, draft_cost, most: most,
            "More guesses always make more tokens a pass, but each of them costs time.",
        ),
        WrongAnswer(
            lambda alpha, draft_cost, most: max(
                range(1, most + 1), key=lambda k: _expected_tokens(alpha, k) / (1 + k * draft_cost)
            ),
            "k = 0 is missing, plain decoding. A bad draft that is slow can't beat it.",
        ),
        WrongAnswer(
            lambda alpha, draft_cost, most: max(
                range(most + 1),
                key=lambda k: (_expected_tokens(alpha, k) - 1) / (1 + k * draft_cost),
            ),
            "The token that each pass makes by itself is not counted; this makes long guesses look "
            "better than they are.",
        ),
        WrongAnswer(
            lambda alpha, draft_cost, most: max(
                range(most + 1), key=lambda k: (1 + alpha * k) / (1 + k * draft_cost)
            ),
            "A later guess is kept only if those before it were: the gain of one more shrinks with "
            "k.",
        ),
        WrongAnswer(
            lambda alpha, draft_cost, most: max(
                range(most + 1), key=lambda k: _expected_tokens(alpha, k) - k * draft_cost
            ),
            "Subtracting the cost compares tokens with time. What counts is tokens divided by the "
            "time that they took.",
        ),
    ),
    hints=(
        "Write down the tokens that a pass makes, and the time it takes with its guesses.",
        "Try every k, including plain decoding, and take the one with the best quotient.",
    ),
)


def _look_up(sequence: list[int], n: int, k: int) -> list[int]:
    """What followed the last n tokens when they occurred before, the last time."""
    for start in range(len(sequence) - n - 1, -1, -1):
        if sequence[start : start + n] == sequence[-n:]:
            return sequence[start + n : start + n + k]
    return []


def _first_found(sequence: list[int], n: int, k: int) -> list[int]:
    for start in range(len(sequence) - n):
        if sequence[start : start + n] == sequence[-n:]:
            return sequence[start + n : start + n + k]
    return []


def _with_key(sequence: list[int], n: int, k: int) -> list[int]:
    found = _look_up(sequence, n, len(sequence))
    start = len(sequence) - len(found) - n
    return sequence[start : start + k]


LOOK_UP = Exercise(
    id="19.look_up",
    cases=(
        ([4, 5, 4], 1, 1),
        ([1, 2, 3, 9, 1, 2], 2, 3),
        ([7, 1, 7, 2, 7, 3, 7], 1, 2),
        ([5, 6, 1, 4, 6, 2, 5, 6], 2, 2),
        ([8, 8, 8, 8, 8], 2, 1),
        ([3, 1, 4, 3, 1, 5, 3, 1], 2, 4),
    ),
    reference=_look_up,
    wrong_answers=(
        WrongAnswer(
            _first_found,
            "This is the first place where the tokens occurred. The last one is a better guide: "
            "texts change their subject.",
        ),
        WrongAnswer(
            _with_key,
            "The tokens that were looked for are part of the answer. What is guessed comes after "
            "them.",
        ),
        WrongAnswer(
            lambda sequence, n, k: [],
            "Nothing is found. The last n tokens stand at the end of the sequence, too: there, "
            "nothing follows. Begin one position earlier.",
        ),
        WrongAnswer(
            lambda sequence, n, k: _look_up(sequence, 1, k),
            "Only the last token is looked for, and not the last n of them, in a row.",
        ),
        WrongAnswer(
            lambda sequence, n, k: _look_up(sequence, n, k)[:1],
            "Only one token is guessed, though up to k may be.",
        ),
    ),
    hints=(
        "From which positions can a run of n tokens start, if something must follow it?",
        "Go through these positions from the right. A slice that is too long is cut by Python.",
    ),
)


def _cached_length(n_tokens: int, n_guessed: int, n_kept: int) -> int:
    """The tokens whose keys stay: the sequence before the pass, and the guesses kept."""
    return n_tokens + min(n_kept, n_guessed)


CACHED_LENGTH = Exercise(
    id="19.cached_length",
    cases=((10, 4, 0), (10, 4, 4), (25, 6, 2), (3, 1, 1), (7, 5, 3)),
    reference=_cached_length,
    wrong_answers=(
        WrongAnswer(
            lambda n_tokens, n_guessed, n_kept: n_tokens + n_kept + 1,
            "The last new token is counted. The pass has drawn it and not read it: it has no keys "
            "yet.",
        ),
        WrongAnswer(
            lambda n_tokens, n_guessed, n_kept: n_tokens + n_kept - 1,
            "One too few: the last token before the guesses was read in this pass, so its keys are "
            "there.",
        ),
        WrongAnswer(
            lambda n_tokens, n_guessed, n_kept: n_tokens + n_guessed,
            "The keys of refused guesses stay in the cache, and every later token would look at "
            "them.",
        ),
        WrongAnswer(
            lambda n_tokens, n_guessed, n_kept: n_tokens,
            "The guesses that were kept have been read; throwing their keys away means reading "
            "them again.",
        ),
    ),
    hints=(
        "Which tokens were read in the pass? Which of them are in the text afterwards?",
        "The text has one more token than that: the one the pass has drawn.",
    ),
)

EXERCISES = (RESIDUAL, N_KEPT, EXPECTED_TOKENS, LOOK_UP, CACHED_LENGTH, BEST_K)
