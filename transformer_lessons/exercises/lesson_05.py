"""The exercises of lesson 05: rows of a table, and positions.

Shapes: T tokens, V different tokens, D numbers per token.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _one_hot_lookup(table: Tensor, ids: Tensor) -> Tensor:
    """(T, D): the rows `ids` of `table` (V, D), by a product with one-hot vectors."""
    return one_hot(ids, len(table)).to(table.dtype) @ table


def _add_rows(table: Tensor, ids: Tensor) -> Tensor:
    return _one_hot_lookup(table, ids).sum(dim=0)


def _ids_as_quantities(table: Tensor, ids: Tensor) -> Tensor:
    return ids[:, None] * table[:1]


SMALL_TABLE = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])

ONE_HOT_LOOKUP = Exercise(
    id="05.one_hot_lookup",
    cases=(
        (SMALL_TABLE, torch.tensor([1])),
        (SMALL_TABLE, torch.tensor([2, 0, 2])),
        (torch.arange(20.0).view(5, 4), torch.tensor([4, 1, 1, 0, 3, 2])),
    ),
    reference=_one_hot_lookup,
    wrong_answers=(
        WrongAnswer(
            lambda table, ids: _one_hot_lookup(table, (ids - 1) % len(table)),
            "Each row is the one before the right one: ids count from 0.",
        ),
        WrongAnswer(
            _add_rows,
            "The rows are added up: every id keeps a row of its own in the result.",
        ),
        WrongAnswer(
            _ids_as_quantities,
            "The id is used as a quantity: id 2 is not twice id 1, it is another row.",
        ),
        WrongAnswer(
            lambda table, ids: _one_hot_lookup(table, ids).T,
            "Rows and columns are swapped: the result has a row for each id, (T, D).",
        ),
        WrongAnswer(
            lambda table, ids: one_hot(ids, len(table)).to(table.dtype),
            "These are the one-hot vectors: the product with the table is still missing.",
        ),
    ),
    hints=(
        "Which vector, multiplied from the left, picks the second of three rows? Write it down.",
        "Compare the ids as a column with the numbers of all rows as a row: that gives (T, V).",
    ),
)


def _table_gradient(n_rows: int, ids: Tensor, upstream: Tensor) -> Tensor:
    """(V, D): the gradient of a table whose looked-up rows `ids` have the gradients `upstream`."""
    return torch.zeros(n_rows, upstream.shape[1]).index_add(0, ids, upstream)


def _last_one_wins(n_rows: int, ids: Tensor, upstream: Tensor) -> Tensor:
    gradient = torch.zeros(n_rows, upstream.shape[1])
    for token, row in zip(ids.tolist(), upstream, strict=True):
        gradient[token] = row
    return gradient


def _mean_per_row(n_rows: int, ids: Tensor, upstream: Tensor) -> Tensor:
    counts = torch.bincount(ids, minlength=n_rows).clamp(min=1)
    return _table_gradient(n_rows, ids, upstream) / counts[:, None]


def _presence_only(n_rows: int, ids: Tensor, upstream: Tensor) -> Tensor:
    return _table_gradient(n_rows, ids, torch.ones_like(upstream))


TABLE_GRADIENT = Exercise(
    id="05.table_gradient",
    cases=(
        (2, torch.tensor([1]), torch.tensor([[3.0, 4.0]])),
        (3, torch.tensor([2, 0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])),
        (4, torch.tensor([3, 3, 1, 3]), torch.arange(12.0).view(4, 3)),
    ),
    reference=_table_gradient,
    wrong_answers=(
        WrongAnswer(
            _last_one_wins,
            "A token that occurs twice keeps only its last gradient: those of one row add up.",
        ),
        WrongAnswer(
            _mean_per_row,
            "A token that occurs twice gets the mean of its gradients, not their sum.",
        ),
        WrongAnswer(
            lambda n_rows, ids, upstream: upstream.sum(dim=0).expand(n_rows, -1),
            "Every row gets the gradients of all tokens: only a row that was looked up gets any.",
        ),
        WrongAnswer(
            lambda n_rows, ids, upstream: upstream,
            "There is a row per token of the text, not per row of the table.",
        ),
        WrongAnswer(
            _presence_only,
            "This counts how often each row was used: the gradients are missing.",
        ),
    ),
    hints=(
        "Begin with zeros, one row for each row of the table. Which of them can have changed?",
        "Go through ids and gradients together. What if an id comes a second time?",
    ),
)


def _sinusoidal(position: int, d_model: int) -> list[float]:
    """The D numbers of one position: sine and cosine of an angle for each pair."""
    angles = [position / 10_000 ** (2 * j / d_model) for j in range(d_model // 2)]
    return [wave(angle) for angle in angles for wave in (math.sin, math.cos)]


def _waves(angles: list[float]) -> list[float]:
    return [wave(angle) for angle in angles for wave in (math.sin, math.cos)]


SINUSOIDAL = Exercise(
    id="05.sinusoidal",
    cases=((0, 2), (1, 2), (1, 4), (7, 4), (3, 8)),
    reference=_sinusoidal,
    wrong_answers=(
        WrongAnswer(
            lambda p, d: (
                [math.sin(p / 10_000 ** (2 * j / d)) for j in range(d // 2)]
                + [math.cos(p / 10_000 ** (2 * j / d)) for j in range(d // 2)]
            ),
            "All sines come first, then all cosines: the two of a pair are neighbours here.",
        ),
        WrongAnswer(
            lambda p, d: [
                (math.cos if i % 2 else math.sin)(p / 10_000 ** (i / d)) for i in range(d)
            ],
            "Each number has a speed of its own: the two numbers of a pair share one angle.",
        ),
        WrongAnswer(
            lambda p, d: [
                wave(p / 10_000 ** (2 * j / d))
                for j in range(d // 2)
                for wave in (math.cos, math.sin)
            ],
            "The cosine comes first: position 0 begins with sin(0) = 0, then cos(0) = 1.",
        ),
        WrongAnswer(
            lambda p, d: _waves([p / 10_000 ** (j / d) for j in range(d // 2)]),
            "The speeds fall half as fast as they should: is the 2 in 2j/D there?",
        ),
        WrongAnswer(
            lambda p, d: _waves([p * 10_000 ** (2 * j / d) for j in range(d // 2)]),
            "Later pairs are faster: dividing by the power makes them slower.",
        ),
        WrongAnswer(
            lambda p, d: _sinusoidal(p + 1, d),
            "This is the next position's row: positions count from 0.",
        ),
    ),
    hints=(
        "Begin with D = 2: one pair, one angle, and it is the position itself.",
        "First make a list of D/2 angles, then two numbers from each.",
    ),
)


def _shift(k: int, speed: float) -> Tensor:
    """M (2, 2) with M @ (sin, cos at position p) = (sin, cos at position p + k), for every p."""
    c, s = math.cos(k * speed), math.sin(k * speed)
    return torch.tensor([[c, s], [-s, c]])


SHIFT = Exercise(
    id="05.shift",
    cases=((0, 1.0), (1, 1.0), (1, 0.5), (3, 0.1), (-2, 0.7)),
    reference=_shift,
    wrong_answers=(
        WrongAnswer(
            lambda k, speed: _shift(k, speed).T,
            "This goes k positions back: check the order of the pair, it is (sin, cos).",
        ),
        WrongAnswer(
            lambda k, speed: _shift(k, 1.0),
            "Every pair turns by k radians here: the speed of the pair is not used.",
        ),
        WrongAnswer(
            lambda k, speed: _shift(1, speed),
            "This always goes one position on: k is not used.",
        ),
        WrongAnswer(
            lambda k, speed: torch.tensor(
                [
                    [math.sin(k * speed), math.cos(k * speed)],
                    [math.cos(k * speed), -math.sin(k * speed)],
                ]
            ),
            "Sine and cosine have changed places: for k = 0 nothing may move.",
        ),
        WrongAnswer(
            lambda k, speed: torch.tensor(
                [
                    [math.cos(k * speed), math.sin(k * speed)],
                    [math.sin(k * speed), math.cos(k * speed)],
                ]
            ),
            "The minus sign is missing: cos(a + b) = cos a cos b − sin a sin b.",
        ),
    ),
    hints=(
        "sin(a + b) = sin a cos b + cos a sin b. Take a for the old angle; which part is b?",
        "The first row of M makes the new sine, the second row the new cosine. Look one up too.",
    ),
)


def _tied_count(
    vocab_size: int, context_length: int, d_model: int, tied: bool, learned_positions: bool
) -> int:
    """How many numbers embedding, positions and head (without bias) hold."""
    n_rows = vocab_size if tied else 2 * vocab_size
    return d_model * (n_rows + (context_length if learned_positions else 0))


TIED_COUNT = Exercise(
    id="05.tied_count",
    cases=(
        (3, 2, 2, True, False),
        (3, 2, 2, False, False),
        (3, 2, 2, True, True),
        (50_257, 1024, 768, True, True),
        (256, 64, 32, False, True),
    ),
    reference=_tied_count,
    wrong_answers=(
        WrongAnswer(
            lambda v, t, d, tied, learned: _tied_count(v, t, d, False, learned),
            "A shared matrix is counted twice: it is one tensor with two uses.",
        ),
        WrongAnswer(
            lambda v, t, d, tied, learned: _tied_count(v, t, d, not tied, learned),
            "Tied and untied are swapped: tying makes the model smaller.",
        ),
        WrongAnswer(
            lambda v, t, d, tied, learned: _tied_count(v, t, d, tied, True),
            "Positions are counted though they are not learned: a formula has no parameters.",
        ),
        WrongAnswer(
            lambda v, t, d, tied, learned: _tied_count(v, t, d, tied, False),
            "The table of learned positions is missing: it has context_length rows.",
        ),
        WrongAnswer(
            lambda v, t, d, tied, learned: (
                _tied_count(v, t, d, tied, learned) - (v * d if tied else 0)
            ),
            "Tying shares the matrix of embedding and head, it doesn't remove both: one is left.",
        ),
    ),
    hints=(
        "Count rows first: every table here has rows of d_model numbers.",
        "A head without a bias is a table too, with a row for each token of the vocabulary.",
    ),
)


def _nearest_rows(table: Tensor, row: int, n: int) -> list[int]:
    """The `n` other rows of `table` (V, D) that point most nearly where `row` points."""
    similarity = normalize(table, dim=1) @ normalize(table[row], dim=0)
    return [i for i in similarity.argsort(descending=True).tolist() if i != row][:n]


def _by_score(table: Tensor, row: int, n: int, score: Tensor) -> list[int]:
    return [i for i in score.argsort(descending=True).tolist() if i != row][:n]


COMPASS = torch.tensor([[2.0, 0.0], [1.0, 0.2], [5.0, 5.0], [-2.0, 0.1], [0.0, 0.3], [1.8, 0.9]])

NEAREST_ROWS = Exercise(
    id="05.nearest_rows",
    cases=(
        (torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), 0, 1),
        (COMPASS, 0, 1),
        (COMPASS, 4, 2),
        (COMPASS, 3, 3),
        (torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), 0, 1),
        (torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), 1, 1),
    ),
    reference=_nearest_rows,
    wrong_answers=(
        WrongAnswer(
            lambda table, row, n: _by_score(table, row, n, table @ table[row]),
            "Long rows win: a dot product also grows with length. Divide by both lengths.",
        ),
        WrongAnswer(
            lambda table, row, n: (
                (normalize(table, dim=1) @ normalize(table[row], dim=0))
                .argsort(descending=True)[:n]
                .tolist()
            ),
            "The row itself is among the answers: its similarity with itself is always 1.",
        ),
        WrongAnswer(
            lambda table, row, n: _by_score(table, row, n, -(table - table[row]).norm(dim=1)),
            "This is the distance between the points: the cosine compares directions only.",
        ),
        WrongAnswer(
            lambda table, row, n: _by_score(
                table, row, n, -(normalize(table, dim=1) @ normalize(table[row], dim=0))
            ),
            "These are the least similar rows: the largest cosine comes first.",
        ),
        WrongAnswer(
            lambda table, row, n: _by_score(
                table, row, n, (normalize(table, dim=1) @ normalize(table[row], dim=0)).abs()
            ),
            "A row that points the other way counts as near: −1 is as far as it gets.",
        ),
        WrongAnswer(
            lambda table, row, n: (
                (normalize(table, dim=1) @ normalize(table[row], dim=0))
                .topk(n + 1)
                .indices[1:]
                .tolist()
            ),
            "The first of the list is taken for the row itself: a parallel row can stand there "
            "too. Leave the row out by its number.",
        ),
    ),
    hints=(
        "The cosine of the angle between two rows: their dot product over both lengths.",
        "Sort all rows by it, leave out the row you asked about, and keep the first n.",
    ),
)

EXERCISES = (
    ONE_HOT_LOOKUP,
    TABLE_GRADIENT,
    SINUSOIDAL,
    SHIFT,
    TIED_COUNT,
    NEAREST_ROWS,
)
