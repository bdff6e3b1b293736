"""The exercises of lesson 07: attention taken apart, softmax to heads.

Shapes: B batch, H heads, T queries, S keys, d numbers per head, D numbers per token.
"""

import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

NOTHING = -math.inf  # the score of a key that may not be looked at


def _soft_lookup(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The mean of `values` (S, e), weighted by how well `keys` (S, d) match `query` (d,)."""
    return (keys @ query / math.sqrt(len(query))).softmax(dim=0) @ values


SOFT_LOOKUP = Exercise(
    id="07.soft_lookup",
    cases=(
        (
            torch.tensor([2.0, 0, 0, 0]),
            torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]),
            torch.tensor([[4.0], [8.0]]),
        ),
        (
            torch.tensor([1.0, -1]),
            torch.tensor([[1.0, 0], [0, 1], [2, 1]]),
            torch.tensor([[1.0, 0], [0, 1], [5, 5]]),
        ),
    ),
    reference=_soft_lookup,
    wrong_answers=(
        WrongAnswer(
            lambda query, keys, values: values[(keys @ query).argmax()],
            "This returns the best match alone: a soft look-up returns a mean of all values.",
        ),
        WrongAnswer(
            lambda query, keys, values: (keys @ query).softmax(dim=0) @ values,
            "The matches are not divided by the root of the width of the query.",
        ),
        WrongAnswer(
            lambda query, keys, values: (
                (keys @ query / math.sqrt(len(keys))).softmax(dim=0) @ values
            ),
            "The root is taken of the number of keys: it belongs to the width of the query.",
        ),
        WrongAnswer(
            lambda query, keys, values: (keys @ query / math.sqrt(len(query))).exp() @ values,
            "The weights don't sum to 1: divide the exponentials by their sum.",
        ),
        WrongAnswer(
            lambda query, keys, values: (keys @ query / math.sqrt(len(query))) @ values,
            "The matches themselves are used as weights: a softmax makes shares of them.",
        ),
    ),
    hints=(
        "Three steps: one number for each key, shares from these numbers, a mean in these shares.",
        "A matrix times a vector makes one dot product per row; a vector times a matrix adds rows.",
    ),
)


def _softmax_rows(scores: Tensor) -> Tensor:
    """Shares (T, S) from scores (T, S), some of them -inf, without ever overflowing."""
    exponentials = (scores - scores.amax(dim=1, keepdim=True)).exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


def _shares_below_a_maximum(scores: Tensor, maximum: Tensor) -> Tensor:
    exponentials = (scores - maximum).exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


SOFTMAX_ROWS = Exercise(
    id="07.softmax_rows",
    cases=(
        (torch.tensor([[0.0, math.log(3)], [1.0, 1.0]]),),
        (torch.tensor([[1.0, NOTHING, NOTHING], [0.0, 2.0, NOTHING], [0.5, -1.0, 3.0]]),),
        (torch.tensor([[1000.0, 1001.0], [0.0, 1.0]]),),
    ),
    tolerance=1e-4,  # a logarithm of sums near 1000 is exact to 0.00006 in float32
    reference=_softmax_rows,
    wrong_answers=(
        WrongAnswer(
            lambda scores: scores.exp() / scores.exp().sum(dim=1, keepdim=True),
            "exp(1000) is infinite, and inf / inf is nan: take each row's maximum away first.",
        ),
        WrongAnswer(
            lambda scores: _shares_below_a_maximum(scores, scores.max()),
            "One maximum for all rows: a row far below it becomes 0 / 0. Each row needs its own.",
        ),
        WrongAnswer(
            lambda scores: scores.softmax(dim=0),
            "Each column sums to 1: the shares of one query stand in a row.",
        ),
        WrongAnswer(
            lambda scores: (scores - scores.amax(dim=1, keepdim=True)).exp(),
            "The largest number of each row is 1, but the row's sum is not: divide by the sum.",
        ),
        WrongAnswer(
            lambda scores: scores.masked_fill(scores == NOTHING, 0.0).softmax(dim=1),
            "Scores of -inf were replaced by 0: the exponential of -inf is 0 by itself.",
        ),
        WrongAnswer(
            lambda scores: _softmax_rows(scores.abs()),
            "The sign of the scores is lost: a score of -1 has to get less than one of 0.",
        ),
    ),
    hints=(
        "Taking the same number from every score of a row leaves its shares as they are.",
        "Choose that number so that the largest exponential of every row is 1. keepdim helps.",
    ),
)


def _weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.T / math.sqrt(q.shape[1])
    return scores.masked_fill(~mask, NOTHING).softmax(dim=1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Outputs (T, e): each query's mean of the values of the keys that `mask` (T, S) allows."""
    return _weights(q, k, mask) @ v


_SCORED = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
_OFFERED = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
_GIVEN = torch.tensor([[4.0, 0.0], [0.0, 4.0], [8.0, 8.0]])

ATTEND = Exercise(
    id="07.attend",
    cases=(
        (_SCORED[:2], _OFFERED[:2], _GIVEN[:2], torch.tensor([[True, False], [True, True]])),
        (_SCORED, _OFFERED, _GIVEN, torch.ones(3, 3, dtype=torch.bool).tril()),
        (_SCORED[:2], _OFFERED, _GIVEN, torch.tensor([[True, True, False], [False, True, True]])),
    ),
    reference=_attend,
    wrong_answers=(
        WrongAnswer(
            lambda q, k, v, mask: _weights(q, k, ~mask).nan_to_num() @ v,
            "The mask is taken the other way round: True marks a key that may be looked at.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: _weights(q, k, ~mask) @ v,
            "The mask is inverted: masked_fill hides where its argument is True. A row in which "
            "everything is hidden becomes nan.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: (q @ k.T).softmax(dim=1) @ v,
            "The mask is ignored, and the scores aren't divided by the root of the width.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: _weights(q, k, torch.ones_like(mask)) @ v,
            "The mask is not used: hidden keys hand over their values too.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: (_weights(q, k, torch.ones_like(mask)) * mask) @ v,
            "Masked after the softmax: what hidden keys took is lost, and the rest sums below 1.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: (q @ k.T / math.sqrt(q.shape[1]) * mask).softmax(dim=1) @ v,
            "Multiplied by the mask, a hidden score is 0, and 0 still gets a share.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: (q @ k.T).masked_fill(~mask, NOTHING).softmax(dim=1) @ v,
            "These are plain dot products: bring them to a size that doesn't depend on the width.",
        ),
        WrongAnswer(
            lambda q, k, v, mask: (
                (q @ k.T / math.sqrt(q.shape[1])).masked_fill(~mask, NOTHING).softmax(dim=0) @ v
            ),
            "The softmax runs over the queries: later queries then change what earlier ones get.",
        ),
    ),
    hints=(
        "Scores, mask, shares, mean: four steps, and the mask comes before the shares.",
        "~mask is True where a key is hidden: that is where a score has to become -inf.",
    ),
)


def _split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, D / H): head h gets the h-th stretch of each token's numbers."""
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


SPLIT_HEADS = Exercise(
    id="07.split_heads",
    cases=(
        (torch.arange(8.0).view(1, 2, 4), 2),
        (torch.arange(24.0).view(2, 2, 6), 3),
        (torch.arange(24.0).view(2, 3, 4), 1),
    ),
    reference=_split_heads,
    wrong_answers=(
        WrongAnswer(
            lambda x, n_heads: x.view(x.shape[0], n_heads, x.shape[1], -1),
            "The shape is right and the numbers are not: view alone lets a head cut up tokens.",
        ),
        WrongAnswer(
            lambda x, n_heads: x.view(*x.shape[:2], n_heads, -1),
            "Tokens still come before heads: a head's (T, d) table has to be the last two.",
        ),
        WrongAnswer(
            lambda x, n_heads: x.view(*x.shape[:2], -1, n_heads).permute(0, 3, 1, 2),
            "Numbers are dealt to the heads in turn: a head gets a stretch of neighbours.",
        ),
        WrongAnswer(
            lambda x, n_heads: x.view(*x.shape[:2], n_heads, -1).permute(0, 2, 3, 1),
            "Each head has its table on its side: its rows should be tokens.",
        ),
        WrongAnswer(
            lambda x, n_heads: _split_heads(x, n_heads).flip(1),
            "The heads come in reverse: head 0 owns the first numbers of each token.",
        ),
    ),
    hints=(
        "Two steps: cut the last dimension in two, then bring the heads in front of the tokens.",
        "Print the first head of the smallest case: it should be the first half of each token.",
    ),
)


def _leaks(before: Tensor, after: Tensor, changed: int) -> Tensor:
    """(T,) booleans: True where an output, (T, D), moved though it comes before `changed`."""
    return _moved(before, after) & (torch.arange(len(before)) < changed)


def _moved(before: Tensor, after: Tensor) -> Tensor:
    return ((after - before).abs() > 1e-5).any(dim=1)


def _before(changed: int, moved: Tensor) -> Tensor:
    return moved & (torch.arange(len(moved)) < changed)


_OUTPUT = torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, 1.0], [2.0, 2.0], [0.0, 1.0]])


def _plus(*rows: tuple[float, float]) -> Tensor:
    return _OUTPUT[: len(rows)] + torch.tensor(rows)


LEAKS = Exercise(
    id="07.leaks",
    cases=(
        (_OUTPUT[:3], _plus((0, 0), (0, 0), (0.5, 0.25)), 2),
        (_OUTPUT[:4], _plus((0, 0), (0, 0.5), (0.25, 0.5), (0.1, 0.1)), 2),
        (_OUTPUT, _plus((1e-7, -1e-7), (0, 0), (-0.5, 0), (1, 1), (0.2, 0.2)), 3),
        (_OUTPUT, _plus((0.5, 0.5), (-0.5, 0.5), (0, 0), (0, 0), (1, 1)), 4),
        (_OUTPUT[:3], _plus((1.5e-5, 0), (9e-6, 9e-6), (1, 1)), 2),
    ),
    reference=_leaks,
    wrong_answers=(
        WrongAnswer(
            lambda before, after, changed: _moved(before, after),
            "Outputs at and after the changed token may move: only those before it prove a leak.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(changed + 1, _moved(before, after)),
            "The changed token's own output may move: it sees itself.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(changed, (before != after).any(dim=1)),
            "A difference of 0.0000001 is rounding, not a leak: allow for 1e-5.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(changed, (after - before > 1e-5).any(dim=1)),
            "A number that becomes smaller has moved too: compare the size of the difference.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(
                changed, ((after - before).abs() > 1e-5).all(dim=1)
            ),
            "One number of an output is enough: not all of them have to move.",
        ),
        WrongAnswer(
            lambda before, after, changed: (
                _moved(before, after) & (torch.arange(len(before)) > changed)
            ),
            "True stands after the change, where movement proves nothing: look before it.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(
                changed, (after - before).abs().mean(dim=1) > 1e-5
            ),
            "A mean hides a single number that moved: compare each number with 1e-5.",
        ),
        WrongAnswer(
            lambda before, after, changed: _before(changed, (after - before).norm(dim=1) > 1e-5),
            "The norm adds up many tiny differences: compare each number with 1e-5.",
        ),
    ),
    hints=(
        "Whose outputs are allowed to move when token t changes? The others are the answer.",
        "Take the size of each difference, ask each row for a large one, look before `changed`.",
    ),
)


def _score_gradient(weights: Tensor, weight_gradient: Tensor) -> Tensor:
    """The gradient (T, S) of the scores, from softmax's `weights` and their gradient."""
    row_means = (weights * weight_gradient).sum(dim=1, keepdim=True)
    return weights * (weight_gradient - row_means)


SCORE_GRADIENT = Exercise(
    id="07.score_gradient",
    cases=(
        (torch.tensor([[0.75, 0.25]]), torch.tensor([[1.0, 0.0]])),
        (
            torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]]),
            torch.tensor([[2.0, -1.0, 3.0], [1.0, 3.0, 0.5], [4.0, 0.0, -2.0]]),
        ),
    ),
    reference=_score_gradient,
    wrong_answers=(
        WrongAnswer(
            lambda weights, weight_gradient: weights * weight_gradient,
            "The sum is missing: raising one score lowers all other weights of the row.",
        ),
        WrongAnswer(
            lambda weights, weight_gradient: weights * (1 - weights) * weight_gradient,
            "This counts only how a score acts on its own weight: it also acts on the others.",
        ),
        WrongAnswer(
            lambda weights, weight_gradient: (
                weights * (weight_gradient - (weights * weight_gradient).sum(dim=0, keepdim=True))
            ),
            "The sum runs down the columns: weights compete within a row.",
        ),
        WrongAnswer(
            lambda weights, weight_gradient: (
                weights * (weight_gradient - weight_gradient.mean(dim=1, keepdim=True))
            ),
            "The mean of the gradient over a row has to be weighted by the weights.",
        ),
        WrongAnswer(
            lambda weights, weight_gradient: -_score_gradient(weights, weight_gradient),
            "The sign is wrong: a weight with a large gradient gives its score a large gradient.",
        ),
    ),
    hints=(
        "Each row of the answer sums to 0: adding a constant to all scores changes nothing.",
        "Compare each weight's gradient with the row's average, weighted by the weights.",
    ),
)

EXERCISES = (SOFT_LOOKUP, SOFTMAX_ROWS, ATTEND, SPLIT_HEADS, LEAKS, SCORE_GRADIENT)
