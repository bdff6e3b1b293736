"""The exercises of lesson 06: frequencies, rotations in both layouts, and RoPE scaling.

Shapes: T tokens, d numbers per head, D numbers per token, H heads.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _frequencies(head_dim: int, theta: float) -> list[float]:
    """Radians per token of each pair of numbers, the fastest first."""
    return [theta ** (-2 * j / head_dim) for j in range(head_dim // 2)]


FREQUENCIES = Exercise(
    id="06.frequencies",
    cases=((2, 10_000.0), (4, 100.0), (8, 10_000.0), (6, 500_000.0)),
    reference=_frequencies,
    wrong_answers=(
        WrongAnswer(
            lambda head_dim, theta: [theta ** (-j / head_dim) for j in range(head_dim // 2)],
            "The exponent is half of what it should be: it falls by 2/d per pair, not by 1/d.",
        ),
        WrongAnswer(
            lambda head_dim, theta: [theta ** (2 * j / head_dim) for j in range(head_dim // 2)],
            "Your later pairs rotate faster: they should rotate more slowly. Is the sign right?",
        ),
        WrongAnswer(
            lambda head_dim, theta: [
                theta ** (-2 * j / head_dim) for j in range(1, head_dim // 2 + 1)
            ],
            "Your pairs are counted from 1: pair 0 rotates by exactly one radian per token.",
        ),
        WrongAnswer(
            lambda head_dim, theta: [theta ** (-2 * j / head_dim) for j in range(head_dim)],
            "This is one frequency per number: two numbers share one, so a head has d/2 of them.",
        ),
        WrongAnswer(
            lambda head_dim, theta: [theta ** (-2 * (j // 2) / head_dim) for j in range(head_dim)],
            "Each frequency is listed twice, as in some tables: here each pair counts once.",
        ),
    ),
    hints=(
        "How many pairs does a head of width 8 have? Write down the first and the last exponent.",
        "The exponents fall evenly from 0 towards -1 and would reach it one pair after the last.",
    ),
)


def _rotate_split(x: Tensor, angles: Tensor) -> Tensor:
    """`x` (T, d) with the pair (x[j], x[j + d/2]) of each token rotated by `angles` (T, d/2)."""
    first, second = x.chunk(2, dim=-1)
    c, s = angles.cos(), angles.sin()
    return torch.cat([first * c - second * s, second * c + first * s], dim=-1)


def _rotate_interleaved(x: Tensor, angles: Tensor) -> Tensor:
    """`x` (T, d) with the pair (x[2j], x[2j + 1]) of each token rotated by `angles` (T, d/2)."""
    even, odd = x[:, 0::2], x[:, 1::2]
    c, s = angles.cos(), angles.sin()
    return torch.stack([even * c - odd * s, odd * c + even * s], dim=-1).flatten(1)


def _turn_whole_rows(x: Tensor, partner: Tensor, angles: Tensor) -> Tensor:
    return x * angles.cos() + partner * angles.sin()


def _partner_in_other_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _partner_beside(x: Tensor) -> Tensor:
    return torch.stack([-x[:, 1::2], x[:, 0::2]], dim=-1).flatten(1)


def _shear_split(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    c, s = angles.cos(), angles.sin()
    return torch.cat([first * c + second * s, second * c + first * s], dim=-1)


def _one_angle_a_token(
    rotate: Callable[[Tensor, Tensor], Tensor], x: Tensor, angles: Tensor
) -> Tensor:
    return rotate(x, angles[:, :1].expand_as(angles))


TURNS = (
    (torch.tensor([[3.0, 4.0]]), torch.tensor([[math.pi / 2]])),
    (torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 0.1]])),
    (
        torch.tensor([[1.0, 0.0, -2.0, 5.0, 0.5, 1.0], [2.0, -1.0, 0.0, 1.0, 3.0, -4.0]]),
        torch.tensor([[2.0, 0.4, 0.08], [3.0, 0.6, 0.12]]),
    ),
)

ROTATE_SPLIT = Exercise(
    id="06.rotate_split",
    cases=TURNS,
    reference=_rotate_split,
    wrong_answers=(
        WrongAnswer(
            _rotate_interleaved,
            "These are interleaved pairs, x[2j] with x[2j + 1]: here x[j] goes with x[j + d/2].",
        ),
        WrongAnswer(
            lambda x, angles: _rotate_split(x, -angles),
            "Your pairs rotate clockwise, as in some codes: here they rotate counter-clockwise.",
        ),
        WrongAnswer(
            lambda x, angles: _turn_whole_rows(
                x, _partner_in_other_half(x), angles.repeat_interleave(2, dim=-1)
            ),
            "Two conventions are mixed: the numbers are paired by halves, but each angle is "
            "repeated for neighbours. Here the row of angles must be repeated end to end.",
        ),
        WrongAnswer(
            _shear_split,
            "Neither product with a sine has a minus sign: lengths change, so this is no rotation.",
        ),
        WrongAnswer(
            lambda x, angles: _one_angle_a_token(_rotate_split, x, angles),
            "All pairs of a token rotate by its first angle: pair j has the angle of column j.",
        ),
    ),
    hints=(
        "For d = 4, write down which two numbers are the first point, and which the second.",
        "Cut x into two halves. Each half of the result needs both halves of x and all angles.",
    ),
)

ROTATE_INTERLEAVED = Exercise(
    id="06.rotate_interleaved",
    cases=TURNS,
    reference=_rotate_interleaved,
    wrong_answers=(
        WrongAnswer(
            _rotate_split,
            "These are split-half pairs, x[j] with x[j + d/2]: here neighbours make a pair.",
        ),
        WrongAnswer(
            lambda x, angles: _rotate_interleaved(x, -angles),
            "Each point moves clockwise: it should move counter-clockwise, as in lesson 1.",
        ),
        WrongAnswer(
            lambda x, angles: _turn_whole_rows(
                x, _partner_beside(x), torch.cat([angles, angles], dim=-1)
            ),
            "Two conventions are mixed: neighbours are paired, but the row of angles is repeated "
            "end to end. Here each angle must be repeated for its two neighbours.",
        ),
        WrongAnswer(
            lambda x, angles: _rotate_split(torch.cat([x[:, 0::2], x[:, 1::2]], dim=-1), angles),
            "The rotations are right, but the result has all first numbers, then all second ones: "
            "put them back next to each other.",
        ),
        WrongAnswer(
            lambda x, angles: _one_angle_a_token(_rotate_interleaved, x, angles),
            "Only the first angle of each token is used: every pair has an angle of its own.",
        ),
    ),
    hints=(
        "A slice with a step of 2 picks every other number.",
        "Stack the two new numbers of each pair along a new last dimension, then flatten it; or "
        "use torch.view_as_complex.",
    ),
)


def _to_split_rows(weight: Tensor, n_heads: int) -> Tensor:
    """The rows of `weight` (H * d, D) reordered from interleaved heads to split ones."""
    by_pair = weight.unflatten(0, (n_heads, -1, 2))  # (H, d/2, 2, D)
    return by_pair.transpose(1, 2).flatten(0, 2)


def _to_interleaved_rows(weight: Tensor, n_heads: int) -> Tensor:
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


TO_SPLIT_ROWS = Exercise(
    id="06.to_split_rows",
    cases=(
        (torch.arange(16.0).view(4, 4), 1),
        (torch.arange(32.0).view(8, 4), 1),
        (torch.arange(64.0).view(8, 8), 2),
        (torch.arange(64.0).view(16, 4), 2),
    ),
    reference=_to_split_rows,
    wrong_answers=(
        WrongAnswer(
            lambda weight, n_heads: _to_split_rows(weight, 1),
            "The whole matrix is reordered at once, which mixes rows of different heads: "
            "reorder inside each head.",
        ),
        WrongAnswer(
            _to_interleaved_rows,
            "This converts from split to interleaved, the other way. For d = 4 both look the same.",
        ),
        WrongAnswer(
            lambda weight, n_heads: (
                weight.unflatten(0, (n_heads, -1, 2)).flip(2).transpose(1, 2).flatten(0, 2)
            ),
            "The two numbers of each pair are swapped: the first of a pair must stay the first.",
        ),
        WrongAnswer(
            lambda weight, n_heads: _to_split_rows(weight.T, n_heads).T,
            "The columns are reordered: they belong to the input. The numbers of q are the rows.",
        ),
        WrongAnswer(
            lambda weight, n_heads: (
                weight.unflatten(0, (n_heads, -1)).transpose(0, 1).flatten(0, 1)
            ),
            "Rows of different heads alternate: each head must stay together.",
        ),
    ),
    hints=(
        "Number the rows of one head of width 8. Which row of the old order comes second in the "
        "new one?",
        "Give the rows three dimensions: which head, which pair, which of the two. Then swap two.",
    ),
)


def _llama3_frequencies(frequencies: Tensor, trained_length: int, factor: float) -> Tensor:
    """`frequencies` (d/2,), kept above 4 turns in the trained length, slowed below 1."""
    turns = trained_length * frequencies / (2 * math.pi)
    keep = ((turns - 1) / 3).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / factor


def _keep(frequencies: Tensor, trained_length: float) -> Tensor:
    return ((trained_length * frequencies / (2 * math.pi) - 1) / 3).clamp(0, 1)


def _llama3_swapped(frequencies: Tensor, trained_length: int, factor: float) -> Tensor:
    keep = _keep(frequencies, trained_length)
    return (1 - keep) * frequencies + keep * frequencies / factor


def _llama3_by_wavelength(frequencies: Tensor, trained_length: int, factor: float) -> Tensor:
    keep = _keep(frequencies, trained_length)
    return frequencies / (keep + (1 - keep) * factor)


def _llama3_step(
    frequencies: Tensor, trained_length: int, factor: float, turns: float = 1
) -> Tensor:
    slow = trained_length * frequencies / (2 * math.pi) < turns
    return torch.where(slow, frequencies / factor, frequencies)


LLAMA3_FREQUENCIES = Exercise(
    id="06.llama3_frequencies",
    cases=(
        (torch.tensor([1.0, 0.001]), 1000, 8.0),
        (torch.tensor([1.0, 0.1, 0.02, 0.01, 0.001]), 1000, 8.0),
        (10.0 ** (-torch.arange(8) / 2), 640, 4.0),
    ),
    reference=_llama3_frequencies,
    wrong_answers=(
        WrongAnswer(
            lambda frequencies, trained_length, factor: frequencies / factor,
            "Every pair is slowed, which is linear scaling: fast pairs must stay as they are.",
        ),
        WrongAnswer(
            _llama3_swapped,
            "The wrong pairs are slowed: those that make many turns met every angle in training.",
        ),
        WrongAnswer(
            _llama3_step,
            "There is no ramp: from 1 to 4 turns, the share that is kept must grow from 0 to 1.",
        ),
        WrongAnswer(
            lambda frequencies, trained_length, factor: _llama3_step(
                frequencies, trained_length, factor, turns=4
            ),
            "Everything below 4 turns is slowed fully: between 1 and 4 it should be only in part.",
        ),
        WrongAnswer(
            lambda frequencies, trained_length, factor: _llama3_frequencies(
                frequencies, trained_length * 2 * math.pi, factor
            ),
            "Your turns are in radians: a full turn is 2π radians.",
        ),
        WrongAnswer(
            _llama3_by_wavelength,
            "Your ramp mixes the factors: it should mix the two frequencies.",
        ),
    ),
    hints=(
        "First compute how many full turns each pair makes in the trained length.",
        "Make a share from the turns: 0 at one turn and below, 1 at four and above, a straight "
        "line between. Mix the old and the slowed frequency with it.",
    ),
)

EXERCISES = (
    FREQUENCIES,
    ROTATE_SPLIT,
    ROTATE_INTERLEAVED,
    TO_SPLIT_ROWS,
    LLAMA3_FREQUENCIES,
)
