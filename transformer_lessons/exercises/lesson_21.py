"""The exercises of lesson 21: quantization."""

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _symmetric(row: Tensor, most: int) -> Tensor:
    """Round to multiples of max |w| / most."""
    scale = row.abs().max() / most
    return (row / scale).round() * scale


def _int8_row(row: Tensor) -> Tensor:
    """Round to the 255 multiples of max |w| / 127 from -max |w| to max |w|."""
    scale = row.abs().amax() / 127
    return scale * torch.round(row / scale)


def _by_maximum(row: Tensor) -> Tensor:
    scale = row.max() / 127
    return (row / scale).round().clamp(-127, 127) * scale


ROWS = (
    (torch.tensor([1.0, -0.3, 0.05]),),
    (torch.tensor([-2.0, 0.7, 1.3, 0.01]),),
    (torch.tensor([0.11, -0.52, 0.37, 0.29, -0.08, 0.4]),),
)

INT8_ROW = Exercise(
    id="21.int8_row",
    cases=ROWS,
    reference=_int8_row,
    wrong_answers=(
        WrongAnswer(
            lambda row: _symmetric(row, 128),
            "The scale is max / 128. Then the largest weight would be 128, which int8 can't hold.",
        ),
        WrongAnswer(
            lambda row: _symmetric(row, 255),
            "The scale is max / 255: that is for a grid from 0 to max. This one has two sides.",
        ),
        WrongAnswer(
            _by_maximum,
            "The largest weight is taken with its sign. A negative one may be further from 0.",
        ),
        WrongAnswer(
            lambda row: (row / (row.abs().max() / 127)).trunc() * (row.abs().max() / 127),
            "The fractions are cut off. Rounding to the nearest is off by half a step at most.",
        ),
        WrongAnswer(
            lambda row: (row / (row.abs().max() / 127)).round(),
            "These are the integers q. Multiply by the scale to return weights.",
        ),
    ),
    hints=(
        "Which q should the weight that is furthest from 0 get?",
        "Divide by the scale, round, and multiply by the scale again.",
    ),
)


def _range_round(row: Tensor, bits: int) -> Tensor:
    """Round to 2^bits equally spaced numbers from min to max."""
    least, most = row.amin(), row.amax()
    step = (most - least) / (2**bits - 1)
    return least + step * torch.round((row - least) / step)


def _range_by(row: Tensor, n_steps: int) -> Tensor:
    step = (row.max() - row.min()) / n_steps
    return ((row - row.min()) / step).round().clamp(max=n_steps) * step + row.min()


ASYMMETRIC = Exercise(
    id="21.asymmetric",
    cases=(
        (torch.tensor([1.0, 2.0, 4.0]), 2),
        (torch.tensor([-0.3, 0.9, 0.05, 0.41]), 2),
        (torch.tensor([0.11, -0.52, 0.37, 0.29, -0.08, 0.4]), 3),
        (torch.tensor([-2.0, 0.7, 1.3, 0.01, -0.6]), 4),
    ),
    reference=_range_round,
    wrong_answers=(
        WrongAnswer(
            lambda row, bits: _range_by(row, 2**bits),
            "The range is divided by 2^bits. Between 2^bits numbers there is one step fewer.",
        ),
        WrongAnswer(
            lambda row, bits: _range_by(row - row.min(), 2**bits - 1),
            "The least weight is never added back: all results are shifted to begin at 0.",
        ),
        WrongAnswer(
            lambda row, bits: _symmetric(row, 2 ** (bits - 1) - 1),
            "This is the symmetric grid. The asymmetric one goes from min to max.",
        ),
        WrongAnswer(
            lambda row, bits: 2 * row.min() - _range_round(row, bits),
            "The sign is wrong: the numbers go up from the least weight, not down.",
        ),
    ),
    hints=(
        "How many steps are there between the first and the last of 2^bits numbers?",
        "Subtract the least weight first, and add it at the end.",
    ),
)


def _pack(q: list[int]) -> list[int]:
    """Byte j has number j in its low half and number j + n / 2 in its high half."""
    half = len(q) // 2
    return [q[j] + 16 * q[half + j] for j in range(half)]


PACK = Exercise(
    id="21.pack",
    cases=(
        ([1, 2, 3, 4],),
        ([0, 15, 15, 0],),
        ([7, 3, 0, 12, 9, 5],),
        ([11, 0, 2, 14, 8, 1, 6, 13],),
    ),
    reference=_pack,
    wrong_answers=(
        WrongAnswer(
            lambda q: [a + 16 * b for a, b in zip(q[::2], q[1::2], strict=True)],
            "Neighbours share a byte. Here the second half of the list goes into the high halves.",
        ),
        WrongAnswer(
            lambda q: _pack(q[len(q) // 2 :] + q[: len(q) // 2]),
            "Low and high are exchanged: the first half of the list belongs into the low halves.",
        ),
        WrongAnswer(
            lambda q: [a + 15 * b for a, b in zip(q[: len(q) // 2], q[len(q) // 2 :], strict=True)],
            "The high half counts sixteens, not fifteens: some bytes now mean two pairs.",
        ),
        WrongAnswer(
            lambda q: [
                (a + 16 * (15 - b)) for a, b in zip(q[: len(q) // 2], q[len(q) // 2 :], strict=True)
            ],
            "The high halves are turned round: 15 became 0.",
        ),
    ),
    hints=(
        "A byte is low + 16 * high.",
        "With 32 numbers, which two does byte 0 hold? See the listing of two_a_byte.",
    ),
)


def _bits_per_weight(bits: int, group: int, symmetric: bool) -> float:
    """The integers, and 16 bits for a scale (and 16 for the least number) shared by a group."""
    shared = 16 if symmetric else 32
    return bits + shared / group


BITS_PER_WEIGHT = Exercise(
    id="21.bits_per_weight",
    cases=((4, 32, True), (4, 32, False), (3, 64, False), (8, 192, True)),
    reference=_bits_per_weight,
    wrong_answers=(
        WrongAnswer(
            lambda bits, group, symmetric: float(bits),
            "The scales are forgotten. Who states the size of a file must count them.",
        ),
        WrongAnswer(
            lambda bits, group, symmetric: bits + 16 / group,
            "An asymmetric group has two float16 numbers: its scale and its least number.",
        ),
        WrongAnswer(
            lambda bits, group, symmetric: bits + (32 if symmetric else 64) / group,
            "The shared numbers are float16, two bytes each; you counted four.",
        ),
        WrongAnswer(
            lambda bits, group, symmetric: bits * group + (16 if symmetric else 32),
            "These are the bits of a group. Divide by the number of weights in it.",
        ),
    ),
    hints=(
        "How many bits does a whole group take, all in all?",
        "Check yourself: Q4_0, symmetric in groups of 32, takes 18 bytes for a group.",
    ),
)


def _compensate(row: list[float], rounded: float, h: list[list[float]]) -> float:
    """The second weight that makes up for the first one's rounding: minimize e H e^T."""
    return row[1] + (row[0] - rounded) * h[0][1] / h[1][1]


COMPENSATE = Exercise(
    id="21.compensate",
    cases=(
        ([0.4, 1.0], 0.0, [[2.0, 1.0], [1.0, 2.0]]),
        ([0.4, 1.0], 1.0, [[2.0, 1.0], [1.0, 4.0]]),
        ([-1.3, 0.2], -1.0, [[5.0, -2.0], [-2.0, 3.0]]),
    ),
    reference=_compensate,
    wrong_answers=(
        WrongAnswer(
            lambda row, rounded, h: row[1] + (rounded - row[0]) * h[0][1] / h[1][1],
            "The sign is wrong: where the first weight has lost something, the second must gain.",
        ),
        WrongAnswer(
            lambda row, rounded, h: row[1] + (row[0] - rounded) * h[0][1] / h[0][0],
            "You divided by H[0][0]. It is the second weight that moves, so H[1][1] counts.",
        ),
        WrongAnswer(
            lambda row, rounded, h: row[1] + row[0] - rounded,
            "The whole error is handed on. How much of it helps depends on how alike inputs are.",
        ),
        WrongAnswer(
            lambda row, rounded, h: (row[0] - rounded) * h[0][1] / h[1][1],
            "This is the change. Add it to the second weight.",
        ),
    ),
    hints=(
        "Write out e H e^T for e = (e0, e1) with e0 fixed, and set the derivative by e1 to zero.",
        "The derivative is 2 (H01 e0 + H11 e1). Where is it 0? The weight is the old one minus e1.",
    ),
)


def _kv_bytes(n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int) -> int:
    """Keys and values as int8, with a float16 scale for each vector."""
    vectors = 2 * n_layers * n_kv_heads * n_tokens
    return vectors * (head_dim + 2)


KV_BYTES = Exercise(
    id="21.kv_bytes",
    cases=((1, 1, 4, 1), (6, 2, 32, 256), (30, 3, 64, 8192)),
    reference=_kv_bytes,
    wrong_answers=(
        WrongAnswer(
            lambda n_layers, n_kv_heads, head_dim, n_tokens: (
                2 * n_layers * n_kv_heads * n_tokens * head_dim
            ),
            "The scales are forgotten: each vector has one, of two bytes.",
        ),
        WrongAnswer(
            lambda n_layers, n_kv_heads, head_dim, n_tokens: (
                n_layers * n_kv_heads * n_tokens * (head_dim + 2)
            ),
            "There are keys and values: twice as many vectors.",
        ),
        WrongAnswer(
            lambda n_layers, n_kv_heads, head_dim, n_tokens: (
                2 * n_layers * n_kv_heads * n_tokens * (head_dim + 4)
            ),
            "A float16 takes two bytes, not four.",
        ),
        WrongAnswer(
            lambda n_layers, n_kv_heads, head_dim, n_tokens: (
                2 * n_layers * n_tokens * (n_kv_heads * head_dim + 2)
            ),
            "One scale serves all heads here. Each head of each token has a vector, and a scale.",
        ),
    ),
    hints=(
        "How many vectors are there? Keys and values, in every layer, for every head and token.",
        "A vector takes one byte for each number and two for its scale.",
    ),
)

EXERCISES = (INT8_ROW, ASYMMETRIC, PACK, BITS_PER_WEIGHT, COMPENSATE, KV_BYTES)
