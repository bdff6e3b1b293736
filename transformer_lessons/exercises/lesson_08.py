"""The exercises of lesson 08: shared heads, merged blocks, windows.

Shapes: T queries, S keys, d numbers per head.
"""

import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _kv_head(query_head: int, n_heads: int, n_kv_heads: int) -> int:
    """Which head of keys and values serves the query head `query_head`."""
    return query_head // (n_heads // n_kv_heads)


KV_HEAD = Exercise(
    id="08.kv_head",
    cases=((1, 2, 1), (1, 2, 2), (1, 4, 2), (2, 8, 2), (5, 9, 3), (30, 32, 8)),
    reference=_kv_head,
    wrong_answers=(
        WrongAnswer(
            lambda query_head, n_heads, n_kv_heads: query_head % n_kv_heads,
            "The heads are dealt out in turn, 0 1 0 1: neighbours share a head, 0 0 1 1.",
        ),
        WrongAnswer(
            lambda query_head, n_heads, n_kv_heads: query_head // n_kv_heads,
            "You divide by the number of groups: divide by how many query heads are in one group.",
        ),
        WrongAnswer(
            lambda query_head, n_heads, n_kv_heads: query_head % (n_heads // n_kv_heads),
            "This is the place of the query head within its group, not the number of the group.",
        ),
        WrongAnswer(
            lambda query_head, n_heads, n_kv_heads: query_head,
            "Each query head gets keys of its own: that is multi-head attention, no sharing.",
        ),
    ),
    hints=(
        "Write the query heads 0 to 7 in a row and draw a box around each group for 2 key heads.",
        "First find how many query heads share one. Which kind of division numbers the boxes?",
    ),
)


def _kv_bytes_per_token(
    n_layers: int, n_heads: int, n_kv_heads: int, head_dim: int, bytes_per_number: int
) -> int:
    """What one more token of text costs while a model writes."""
    return n_layers * 2 * n_kv_heads * head_dim * bytes_per_number


KV_BYTES_PER_TOKEN = Exercise(
    id="08.kv_bytes_per_token",
    cases=((1, 2, 1, 4, 1), (2, 4, 2, 8, 2), (30, 9, 3, 64, 4), (16, 32, 8, 64, 2)),
    reference=_kv_bytes_per_token,
    wrong_answers=(
        WrongAnswer(
            lambda layers, heads, n_kv_heads, d, size: layers * 2 * heads * d * size,
            "You count query heads: queries are used once and dropped, only keys and values stay.",
        ),
        WrongAnswer(
            lambda layers, heads, n_kv_heads, d, size: layers * n_kv_heads * d * size,
            "One of two is missing: keys and values are both kept.",
        ),
        WrongAnswer(
            lambda layers, heads, n_kv_heads, d, size: layers * (2 * n_kv_heads + heads) * d * size,
            "You keep the queries too: nobody looks at an old query again.",
        ),
        WrongAnswer(
            lambda layers, heads, n_kv_heads, d, size: 2 * n_kv_heads * d * size,
            "This is one layer: every layer keeps keys and values of its own.",
        ),
        WrongAnswer(
            lambda layers, heads, n_kv_heads, d, size: layers * 2 * n_kv_heads * d,
            "These are numbers, not bytes: how many bytes does one number take?",
        ),
    ),
    hints=(
        "Start with one head of keys in one layer: how many numbers does it make for one token?",
        "Now multiply: for the values too, for each head that makes them, for each layer.",
    ),
)


def _merge_sums(
    largest_a: float, total_a: float, largest_b: float, total_b: float
) -> tuple[float, float]:
    """(largest, total) of two blocks of scores together, from those of each."""
    largest = max(largest_a, largest_b)
    total = total_a * math.exp(largest_a - largest) + total_b * math.exp(largest_b - largest)
    return largest, total


MERGE_SUMS = Exercise(
    id="08.merge_sums",
    cases=(
        (0.0, 1.0, 0.0, 1.0),
        (2.0, 1.5, 3.0, 1.25),
        (3.0, 1.25, 2.0, 1.5),
        (-1000.0, 3.0, -1001.0, 2.0),
        (1001.0, 1.5, 1000.0, 4.0),
        (-math.inf, 0.0, 5.0, 1.0),
    ),
    reference=_merge_sums,
    wrong_answers=(
        WrongAnswer(
            lambda ma, ta, mb, tb: (max(ma, mb), ta + tb),
            "The sums are added as they are, though each is relative to another largest score.",
        ),
        WrongAnswer(
            lambda ma, ta, mb, tb: (max(ma, mb), ta * math.exp(ma - max(ma, mb)) + tb),
            "Only the first sum shrinks: the second must too when its largest score is smaller.",
        ),
        WrongAnswer(
            lambda ma, ta, mb, tb: (mb, ta * math.exp(ma - mb) + tb),
            "The second block's largest score is taken even when the first one's is larger.",
        ),
        WrongAnswer(
            lambda ma, ta, mb, tb: (
                max(ma, mb),
                (0.0 if ta == 0 else ta * math.exp(max(ma, mb) - ma))
                + tb * math.exp(max(ma, mb) - mb),
            ),
            "The sums grow instead of shrinking: the exponent is old largest minus new largest.",
        ),
        WrongAnswer(
            lambda ma, ta, mb, tb: (
                max(ma, mb),
                ta * math.exp(mb - max(ma, mb)) + tb * math.exp(ma - max(ma, mb)),
            ),
            "The factors are exchanged: each sum shrinks by its own block's largest score.",
        ),
    ),
    hints=(
        "A sum of exp(score - 2) becomes one of exp(score - 3) when multiplied by what?",
        "First find the larger of the two. Then bring both sums to it; one factor is always 1.",
    ),
)


def _merge_outputs(output_a: Tensor, lse_a: Tensor, output_b: Tensor, lse_b: Tensor) -> Tensor:
    """Attention over two sets of keys, from the output and log-sum-exp over each."""
    shares = torch.stack([lse_a, lse_b]).softmax(dim=0)[..., None]  # (2, T, 1)
    return shares[0] * output_a + shares[1] * output_b


def _by(shares_a: Tensor, a: Tensor, shares_b: Tensor, b: Tensor) -> Tensor:
    return shares_a[:, None] * a + shares_b[:, None] * b


def _tensors(*parts: list) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(part) for part in parts)


MERGE_OUTPUTS = Exercise(
    id="08.merge_outputs",
    cases=(
        _tensors([[8.0]], [math.log(3)], [[4.0]], [0.0]),
        _tensors([[1.0, 0], [0, 2]], [0.5, 2.0], [[0.0, 4], [6, 0]], [1.0, -1.0]),
        _tensors([[1.0, 0], [0, 2]], [200.0, -200.0], [[0.0, 4], [6, 0]], [201.0, -200.0]),
    ),
    reference=_merge_outputs,
    wrong_answers=(
        WrongAnswer(
            lambda a, lse_a, b, lse_b: (a + b) / 2,
            "A plain mean: a block whose keys match better must count for more.",
        ),
        WrongAnswer(
            lambda a, lse_a, b, lse_b: a + b,
            "The outputs are added: each is already an average whose weights sum to 1.",
        ),
        WrongAnswer(
            lambda a, lse_a, b, lse_b: _merge_outputs(a, lse_b, b, lse_a),
            "The shares are exchanged: the first output got the share of the second block.",
        ),
        WrongAnswer(
            lambda a, lse_a, b, lse_b: _by(lse_a, a, lse_b, b) / (lse_a + lse_b)[:, None],
            "The shares are made from logarithms: an lse is the logarithm of a sum of exps.",
        ),
        WrongAnswer(
            lambda a, lse_a, b, lse_b: (
                _by(lse_a.exp(), a, lse_b.exp(), b) / (lse_a.exp() + lse_b.exp())[:, None]
            ),
            "The exp of a large lse overflows: take the larger off both first, as softmax does.",
        ),
        WrongAnswer(
            lambda a, lse_a, b, lse_b: _by(lse_a.softmax(0), a, lse_b.softmax(0), b),
            "The softmax runs over the queries: the two blocks of one query compete, not queries.",
        ),
    ),
    hints=(
        "Each output is a sum divided by its block's total. Undo the division, add, divide again.",
        "The total is the exp of the lse. Which function makes shares of two logarithms safely?",
    ),
)


def _window_mask(n_queries: int, n_keys: int, window: int) -> Tensor:
    """(T, S) booleans: the queries are the last T of S positions; each sees `window` at most."""
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]
    distance = query - torch.arange(n_keys)
    return (distance >= 0) & (distance < window)


def _distance(n_queries: int, n_keys: int, first: int) -> Tensor:
    return torch.arange(first, first + n_queries)[:, None] - torch.arange(n_keys)


WINDOW_MASK = Exercise(
    id="08.window_mask",
    cases=((1, 1, 1), (3, 3, 2), (1, 4, 2), (2, 5, 3), (4, 4, 9)),
    reference=_window_mask,
    wrong_answers=(
        WrongAnswer(
            lambda t, s, w: (_distance(t, s, 0) >= 0) & (_distance(t, s, 0) < w),
            "The first query is lined up with the first key: with more keys, it stands further on.",
        ),
        WrongAnswer(
            lambda t, s, w: (_distance(t, s, s - t) >= 0) & (_distance(t, s, s - t) <= w),
            "One key too many is seen: the token itself counts as one of the window.",
        ),
        WrongAnswer(
            lambda t, s, w: (_distance(t, s, s - t) > 0) & (_distance(t, s, s - t) <= w),
            "The window holds only tokens before the query: the token itself is missing.",
        ),
        WrongAnswer(
            lambda t, s, w: _distance(t, s, s - t).abs() < w,
            "The window opens to both sides: tokens after the query must stay hidden.",
        ),
        WrongAnswer(
            lambda t, s, w: _distance(t, s, s - t) >= 0,
            "This is the causal mask: old keys must disappear at the other end of the window.",
        ),
        WrongAnswer(
            lambda t, s, w: ~_window_mask(t, s, w),
            "True marks the hidden keys here: it must mark the ones that may be seen.",
        ),
        WrongAnswer(
            lambda t, s, w: _distance(t, s, s - t) < w,
            "Causality is missing: keys after the query have a negative distance, and pass.",
        ),
    ),
    hints=(
        "Number the keys from 0. At which position does the first of the queries stand?",
        "From a column of query positions and a row of key positions comes a table of distances.",
        "Two conditions on the distance: not negative, and not too large.",
    ),
)


def _reach(n_layers: int, window: int) -> int:
    """How many tokens back a change can lie and still reach the last token's logits."""
    return n_layers * (window - 1)


REACH = Exercise(
    id="08.reach",
    cases=((1, 1), (1, 4), (2, 2), (3, 4), (32, 4096)),
    reference=_reach,
    wrong_answers=(
        WrongAnswer(
            lambda n_layers, window: n_layers * window,
            "A layer looks back one token less than its window holds: the token itself is in it.",
        ),
        WrongAnswer(
            lambda n_layers, window: window - 1,
            "This is one layer's reach: the next layer reads tokens that have already looked back.",
        ),
        WrongAnswer(
            lambda n_layers, window: (window - 1) ** n_layers,
            "The reaches are multiplied: each layer adds its own steps back.",
        ),
        WrongAnswer(
            lambda n_layers, window: n_layers * (window - 1) + 1,
            "This counts the tokens that matter, the last one included, not the steps back.",
        ),
    ),
    hints=(
        "Draw three tokens and a window of 2. How far back can one layer look, in steps?",
        "The second layer starts where the first one's information came to. Add up the steps.",
    ),
)

EXERCISES = (KV_HEAD, KV_BYTES_PER_TOKEN, MERGE_SUMS, MERGE_OUTPUTS, WINDOW_MASK, REACH)
