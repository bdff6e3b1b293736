"""The exercises of lesson 25: growing a model, and integers only."""

import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).round(decimals=2)


GPT_BLOCK = [
    *("attention_norm.weight", "attention_norm.bias"),
    *("attention.qkv.weight", "attention.qkv.bias", "attention.out.weight", "attention.out.bias"),
    *("feedforward_norm.weight", "feedforward_norm.bias"),
    *("feedforward.up.weight", "feedforward.up.bias"),
    *("feedforward.down.weight", "feedforward.down.bias"),
]
LLAMA_BLOCK = [
    *("attention_norm.weight", "attention.qkv.weight", "attention.out.weight"),
    *("feedforward_norm.weight", "feedforward.gate.weight"),
    *("feedforward.up.weight", "feedforward.down.weight"),
]


def _with(names: list[str], *parts: str) -> list[str]:
    return [name for name in names if any(part in name for part in parts)]


def _silence(names: list[str]) -> list[str]:
    """All that is added to the residual stream: the last layer of attention and of the MLP."""
    return [name for name in names if name.startswith(("attention.out", "feedforward.down"))]


SILENCE = Exercise(
    id="25.silence",
    cases=((LLAMA_BLOCK,), (GPT_BLOCK,)),
    reference=_silence,
    wrong_answers=(
        WrongAnswer(
            lambda names: _with(names, "out.weight", "down.weight"),
            "The biases of `out` and `down` are still added to the stream.",
        ),
        WrongAnswer(
            lambda names: list(names),
            "With everything at zero the block is silent for ever: `out` learns from what the "
            "heads hand over, and that is zero too. Keep what reads.",
        ),
        WrongAnswer(
            lambda names: _with(names, "norm"),
            "Without norms the layers read zeros. Their biases are added all the same, and "
            "nothing but a bias can learn.",
        ),
        WrongAnswer(
            lambda names: _with(names, "qkv", "up", "gate"),
            "These are the layers that read. What is added comes from `out` and `down`.",
        ),
        WrongAnswer(
            lambda names: _with(names, "out"),
            "Attention is silent. The MLP adds to the stream as well.",
        ),
    ),
    hints=(
        "x = x + attention(norm(x)): which layer is the last one inside attention? And which "
        "one is the last of the MLP?",
        "A layer that adds Wx + b is silent when both W and b are zero.",
    ),
)


def _copy_units(up: Tensor, down: Tensor, pick: list[int]) -> tuple[Tensor, Tensor]:
    """New unit i is a copy of unit pick[i]; copies share what their original wrote."""
    counts = torch.tensor([pick.count(unit) for unit in pick])
    return up[pick], down[:, pick] / counts


COPY_UNITS = Exercise(
    id="25.copy_units",
    cases=(
        (_random(2, 3, seed=10), _random(3, 2, seed=11), [0, 1, 0]),
        (_random(3, 2, seed=12), _random(2, 3, seed=13), [0, 1, 2, 2, 2, 0]),
        (_random(4, 4, seed=14), _random(4, 4, seed=15), [3, 1, 2, 0, 1, 1, 3, 1]),
    ),
    reference=_copy_units,
    wrong_answers=(
        WrongAnswer(
            lambda up, down, pick: (up[pick], down[:, pick]),
            "A unit that is there twice is counted twice. Its copies must share what it wrote.",
        ),
        WrongAnswer(
            lambda up, down, pick: (up[pick], down[:, pick] * len(up) / len(pick)),
            "Everything is divided by how much wider the layer is. Units that were copied more "
            "often, or not at all, need factors of their own.",
        ),
        WrongAnswer(
            lambda up, down, pick: (
                up[pick] / torch.tensor([[pick.count(unit)] for unit in pick]),
                down[:, pick],
            ),
            "The rows that read are divided. After a ReLU without biases that is the same, but "
            "not after a GELU: divide what is written.",
        ),
        WrongAnswer(
            lambda up, down, pick: (
                up[pick],
                torch.cat([down, down[:, pick[len(up) :]] * 0], dim=1)
                if pick[: len(up)] == list(range(len(up)))
                else down[:, pick],
            ),
            "The originals write everything and the copies nothing. It is the same function, but "
            "the copies should share equally.",
        ),
    ),
    hints=(
        "A tensor can be indexed by a list of rows, also when a row occurs several times.",
        "How often does unit pick[i] occur in `pick`? That is what column i is divided by.",
    ),
)


def _wider_norm(gain: Tensor, eps: float, width: int) -> tuple[Tensor, float]:
    """Gain times sqrt(D/D'), ones for what is new; eps times D/D'."""
    shrink = len(gain) / width
    return torch.cat([gain * shrink**0.5, torch.ones(width - len(gain))]), eps * shrink


def _norm_with(gain: Tensor, width: int, factor: float) -> Tensor:
    return torch.cat([gain * factor, torch.ones(width - len(gain))])


WIDER_NORM = Exercise(
    id="25.wider_norm",
    cases=(
        (torch.tensor([1.0, 2.0]), 0.08, 8),
        (_random(3, seed=20), 0.03, 4),
        (_random(6, seed=21), 0.05, 9),
    ),
    reference=_wider_norm,
    wrong_answers=(
        WrongAnswer(
            lambda gain, eps, width: (_norm_with(gain, width, (len(gain) / width) ** 0.5), eps),
            "The gain is right. The mean of squares has become smaller, and eps is added to it: "
            "eps has to shrink with it.",
        ),
        WrongAnswer(
            lambda gain, eps, width: (
                _norm_with(gain, width, (width / len(gain)) ** 0.5),
                eps * len(gain) / width,
            ),
            "The wrong way round: the stream is divided by a smaller size than before, so its "
            "numbers come out larger, and the gain must make them smaller.",
        ),
        WrongAnswer(
            lambda gain, eps, width: (
                _norm_with(gain, width, len(gain) / width),
                eps * len(gain) / width,
            ),
            "The mean of squares shrinks by D/D', but the stream is divided by its square root.",
        ),
        WrongAnswer(
            lambda gain, eps, width: (_norm_with(gain, width, 1.0), eps),
            "Nothing is rescaled. Zeros add nothing to the sum of squares, but the mean is "
            "taken over more numbers.",
        ),
        WrongAnswer(
            lambda gain, eps, width: (
                torch.cat([gain, torch.ones(width - len(gain))]) * (len(gain) / width) ** 0.5,
                eps * len(gain) / width,
            ),
            "The old gains are right. The new ones, of numbers that are zero, should start at 1.",
        ),
    ),
    hints=(
        "Take x = (3, 4) and (3, 4, 0, 0). What is the mean of squares of each?",
        "gain' / sqrt(m D/D' + eps') must equal gain / sqrt(m + eps) for every m.",
    ),
)


def _reader_factor(d_model: int, wider: int) -> float:
    """c = (1 - s) / (1 - s')."""
    s, new_s = ((width - 4) / 28 for width in (d_model, wider))
    return (1 - s) / (1 - new_s)


READER_FACTOR = Exercise(
    id="25.reader_factor",
    cases=((4, 18), (4, 5), (8, 31), (11, 25)),
    reference=_reader_factor,
    wrong_answers=(
        WrongAnswer(
            lambda d_model, wider: 1 / _reader_factor(d_model, wider),
            "Upside down: the norm now passes on less of x than before, so its readers must "
            "multiply by more.",
        ),
        WrongAnswer(
            lambda d_model, wider: 1 / (1 - (wider - 4) / 28),
            "This is right where the norm had no effect before. In general it passed on 1 - s.",
        ),
        WrongAnswer(
            lambda d_model, wider: 1 - (wider - 4) / 28,
            "This is how much of x the wider norm passes on. The readers must undo that.",
        ),
        WrongAnswer(
            lambda d_model, wider: (wider - 4) / (d_model - 4) if d_model > 4 else 1.0,
            "This compares s with s', how much of the norm is used. What is passed on unchanged "
            "is 1 - s of x.",
        ),
    ),
    hints=(
        "Which share of an adaptive norm is x itself, before and after?",
        "At width 4 all of x is passed on, at width 18 half of it. What must a reader do?",
    ),
)


def _shift(x: int, bits: int) -> int:
    """x / 2**bits to the nearest integer, halves upwards, with integers alone."""
    return (x + (1 << bits >> 1)) >> bits


SHIFT = Exercise(
    id="25.shift",
    cases=((7, 2), (5, 1), (-7, 2), (-5, 1), (-6, 2), (2**60 + 3, 2), (9, 0), (-(2**61) - 1, 1)),
    reference=_shift,
    wrong_answers=(
        WrongAnswer(
            lambda x, bits: x >> bits,
            "A shift rounds down: every result is too small by half a unit on average. Add half "
            "of 2**bits first.",
        ),
        WrongAnswer(
            lambda x, bits: int(x / 2**bits),
            "This drops the fraction, which rounds towards zero, and it goes through a float.",
        ),
        WrongAnswer(
            lambda x, bits: math.floor(x / 2**bits + 0.5),
            "Right for small numbers. A float has 53 bits, and x may have more: use integers "
            "alone.",
        ),
        WrongAnswer(
            lambda x, bits: _shift(x, bits) if x >= 0 else -_shift(-x, bits),
            "Negative halves are rounded away from zero. Halves go upwards, for both signs.",
        ),
        WrongAnswer(
            lambda x, bits: (x + (1 << (bits - 1 if bits else 0))) >> bits,
            "With bits = 0 there is nothing to round, and 1 is added all the same.",
        ),
    ),
    hints=(
        "x >> bits is x / 2**bits rounded down, for negative x too.",
        "Rounding to the nearest is rounding down after half a unit is added. What is half of "
        "2**bits as an integer, also for bits = 0?",
    ),
    tolerance=0.0,
)


def _largest_sum(weight: list[list[int]], largest: list[int]) -> int:
    """The largest |w x| there can be, for any x with |x_i| <= largest_i."""
    return max(sum(abs(w) * x for w, x in zip(row, largest, strict=True)) for row in weight)


LARGEST_SUM = Exercise(
    id="25.largest_sum",
    cases=(
        ([[3, -2]], [1, 10]),
        ([[1, 2], [-4, 1]], [5, 6]),
        ([[7, -1, 2], [-3, -3, -3], [0, 9, -1]], [2, 4, 1]),
        ([[10**8, -(10**8)], [1, 1]], [2**33, 2**32 + 1]),
    ),
    reference=_largest_sum,
    wrong_answers=(
        WrongAnswer(
            lambda weight, largest: max(
                abs(sum(w * x for w, x in zip(row, largest, strict=True))) for row in weight
            ),
            "Terms of opposite sign cancel here. An input may have any signs, also those with "
            "which all terms add up.",
        ),
        WrongAnswer(
            lambda weight, largest: max(
                max(abs(w) * x for w, x in zip(row, largest, strict=True)) for row in weight
            ),
            "This is the largest product. The sum of a row has one for each input.",
        ),
        WrongAnswer(
            lambda weight, largest: (
                len(largest) * max(abs(w) for row in weight for w in row) * max(largest)
            ),
            "A true bound, but larger than need be: no input reaches it. Use each weight and each "
            "limit.",
        ),
        WrongAnswer(
            lambda weight, largest: sum(
                abs(w) * x for row in weight for w, x in zip(row, largest, strict=True)
            ),
            "All rows are added up. Each row is a sum of its own; look for the largest.",
        ),
    ),
    hints=(
        "Take one row. Which signs must the inputs have to make its sum as large as possible?",
        "Then |w| times the limit, added over the row; and the largest of the rows.",
    ),
    tolerance=0.0,
)

EXERCISES = (SILENCE, COPY_UNITS, WIDER_NORM, READER_FACTOR, SHIFT, LARGEST_SUM)
