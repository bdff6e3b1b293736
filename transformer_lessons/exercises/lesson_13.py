"""The exercises of lesson 13: the training loop."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _piece_weights(counts: Sequence[int]) -> list[float]:
    """By what the mean loss of each piece is multiplied, so that the sum is the mean of all."""
    return [count / sum(counts) for count in counts]


PIECE_WEIGHTS = Exercise(
    id="13.piece_weights",
    cases=(([1, 3],), ([4, 4],), ([26, 1, 1, 4],), ([5],), ([2, 0, 6],)),
    reference=_piece_weights,
    wrong_answers=(
        WrongAnswer(
            lambda counts: [1 / len(counts) for _ in counts],
            "This is the mean of means: a piece with one target counts as much as one with many.",
        ),
        WrongAnswer(
            lambda counts: [1.0 for _ in counts],
            "This adds the means: the gradient grows with the number of pieces.",
        ),
        WrongAnswer(
            lambda counts: [1 / sum(counts) for _ in counts],
            "This would be right for sums of losses; a mean has been divided already.",
        ),
        WrongAnswer(
            lambda counts: [count / max(counts) for count in counts],
            "These shares don't add up to 1: divide by all targets, not by the largest piece.",
        ),
        WrongAnswer(
            lambda counts: [float(count) for count in counts],
            "This gives the sum over all targets. Divide by their number to get the mean.",
        ),
    ),
    hints=(
        "Turn each mean back into a sum. What do you multiply it by?",
        "Then divide by the number of targets in the whole batch, the same for every piece.",
    ),
)


def _clip(gradient: Tensor, limit: float) -> Tensor:
    return gradient * min(1.0, limit / max(gradient.norm().item(), 1e-12))


def _clipped_sum(parts: Sequence[Tensor], limit: float) -> Tensor:
    """The gradients of all pieces added up, shortened to `limit` if they are longer together."""
    gradient = _sum(parts)
    return gradient * min(1.0, limit / max(gradient.norm().item(), 1e-12))


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(parts)).sum(dim=0)


def _clip_while_adding(parts: Sequence[Tensor], limit: float) -> Tensor:
    gradient = torch.zeros_like(parts[0])
    for part in parts:
        gradient = _clip(gradient + part, limit)
    return gradient


CLIPPED_SUM = Exercise(
    id="13.clipped_sum",
    cases=(
        ([torch.tensor([3.0, 4.0])], 1.0),
        ([torch.tensor([30.0, 0.0]), torch.tensor([0.0, 1.0])], 1.0),
        ([torch.tensor([0.3, 0.0]), torch.tensor([0.0, 0.4])], 1.0),
        ([torch.tensor([6.0, 0.0]), torch.tensor([0.0, 8.0]), torch.tensor([6.0, 8.0])], 2.0),
    ),
    reference=_clipped_sum,
    wrong_answers=(
        WrongAnswer(
            lambda parts, limit: _sum([_clip(part, limit) for part in parts]),
            "Each piece is clipped before the sum: that changes the direction, and the sum "
            "can be long.",
        ),
        WrongAnswer(
            _clip_while_adding,
            "The running sum is clipped after each piece: the first pieces are shortened twice.",
        ),
        WrongAnswer(
            lambda parts, limit: _sum(parts) * limit / _sum(parts).norm(),
            "A gradient that is short enough must stay as it is; this makes it longer.",
        ),
        WrongAnswer(
            lambda parts, limit: _sum(parts).clamp(-limit, limit),
            "This limits each number by itself, so the direction changes. Shorten all together.",
        ),
        WrongAnswer(
            lambda parts, limit: _clip(_sum(parts) / len(parts), limit),
            "The pieces are parts of one gradient: they are added, not averaged.",
        ),
    ),
    hints=(
        "First make one gradient out of all pieces. Only then ask how long it is.",
        "All its numbers are multiplied by one factor, which is never above 1.",
    ),
)


def _round_to_bits(x: float, n_bits: int) -> float:
    fraction, exponent = math.frexp(x)  # x = fraction * 2**exponent, with 1/2 <= |fraction| < 1
    return math.ldexp(round(math.ldexp(fraction, n_bits)), exponent - n_bits)


def _to_bfloat16(x: float) -> float:
    """The number nearest to x with 8 significant bits; of two as near, the one with even bits."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(fraction, 8)), exponent - 8)


def _cut_to_bfloat16(x: float) -> float:
    fraction, exponent = math.frexp(x)
    return math.ldexp(math.trunc(math.ldexp(fraction, 8)), exponent - 8)


def _half_away(x: float) -> float:
    fraction, exponent = math.frexp(abs(x))
    return math.copysign(math.ldexp(math.floor(math.ldexp(fraction, 8) + 0.5), exponent - 8), x)


TO_BFLOAT16 = Exercise(
    id="13.to_bfloat16",
    cases=(
        (1.0,),
        (1.003,),
        (1.006,),
        (257.0,),
        (259.0,),
        (math.pi,),
        (-0.1,),
        (1e-20,),
        (0.0,),
    ),
    reference=_to_bfloat16,
    wrong_answers=(
        WrongAnswer(
            _cut_to_bfloat16,
            "The last bits are cut off: bfloat16 products are rounded to the nearest number.",
        ),
        WrongAnswer(
            lambda x: _round_to_bits(x, 7),
            "One bit is missing: 7 bits are stored, and the leading 1 before them is not.",
        ),
        WrongAnswer(
            lambda x: _round_to_bits(x, 11),
            "These are float16's 11 bits: bfloat16 has 8, and a wider range in exchange.",
        ),
        WrongAnswer(
            lambda x: round(x * 128) / 128,
            "The numbers are 1/128 apart only from 1 to 2: closer together below, further "
            "apart above.",
        ),
        WrongAnswer(
            _half_away,
            "Halfway between two numbers the one with an even last bit is taken: 257 becomes 256.",
        ),
    ),
    hints=(
        "math.frexp splits a number into a fraction from 1/2 to 1 and a power of two; math.ldexp "
        "puts them together.",
        "Scale the fraction so that 8 bits are before the point. Python's own round also rounds "
        "halves to even.",
    ),
    tolerance=0.0,
)


def _follow_scale(finite: Sequence[bool], scale: float, patience: int) -> list[float]:
    """The scale after each step: halved by a bad one, doubled by `patience` good ones in a row."""
    scales, good = [], 0
    for is_finite in finite:
        good = good + 1 if is_finite else 0
        if not is_finite:
            scale /= 2
        elif good == patience:
            scale, good = scale * 2, 0
        scales.append(scale)
    return scales


def _follow(
    finite: Sequence[bool],
    scale: float,
    patience: int,
    reset_bad: bool = True,
    reset_doubled: bool = True,
    late: bool = False,
    fall: float = 2,
) -> list[float]:
    scales, good = [], 0
    for is_finite in finite:
        if late:
            scales.append(scale)
        if is_finite:
            good += 1
            if good >= patience:
                scale *= 2
                good = 0 if reset_doubled else good
        else:
            scale /= fall
            good = 0 if reset_bad else good
        if not late:
            scales.append(scale)
    return scales


FOLLOW_SCALE = Exercise(
    id="13.follow_scale",
    cases=(
        ([False], 8.0, 2),
        ([True, True], 8.0, 2),
        ([True, False, True, True], 8.0, 2),
        ([True, True, True, True, True], 1.0, 2),
        ([True, True, True, True, True, True, True, False, True, True, True, True], 16.0, 3),
        ([False, False, True, False, True, True, True], 64.0, 3),
    ),
    reference=_follow_scale,
    wrong_answers=(
        WrongAnswer(
            lambda finite, scale, patience: _follow(finite, scale, patience, reset_bad=False),
            "A bad step must reset the count: the good steps have to be in a row.",
        ),
        WrongAnswer(
            lambda finite, scale, patience: _follow(finite, scale, patience, reset_doubled=False),
            "After doubling, the count starts again; here every further good step doubles "
            "the scale.",
        ),
        WrongAnswer(
            lambda finite, scale, patience: _follow(finite, scale, 1),
            "Every good step doubles the scale: it has to wait for `patience` of them.",
        ),
        WrongAnswer(
            lambda finite, scale, patience: _follow(finite, scale, patience, late=True),
            "These are the scales before each step; the exercise asks for those after it.",
        ),
        WrongAnswer(
            lambda finite, scale, patience: _follow(finite, scale, patience, fall=1),
            "A step that was not finite must halve the scale, or the next one fails as well.",
        ),
    ),
    hints=(
        "Keep two numbers: the scale, and the number of good steps since the last change.",
        "Both kinds of change, halving and doubling, reset the count to 0.",
    ),
)


def _stop_early(losses: Sequence[float], patience: int) -> tuple[int, int]:
    """How many evaluations are made, and which of them, from 0, was the best."""
    best, bad_evals = 0, 0
    for index in range(1, len(losses)):
        is_better = losses[index] < losses[best]
        best, bad_evals = (index, 0) if is_better else (best, bad_evals + 1)
        if bad_evals == patience:
            return index + 1, best
    return len(losses), best


def _compare_with_last(losses: Sequence[float], patience: int) -> tuple[int, int]:
    worse = 0
    for index in range(1, len(losses)):
        worse = 0 if losses[index] < losses[index - 1] else worse + 1
        if worse == patience:
            return index + 1, min(range(index + 1), key=losses.__getitem__)
    return len(losses), min(range(len(losses)), key=losses.__getitem__)


def _count_all_bad(losses: Sequence[float], patience: int) -> tuple[int, int]:
    best, bad = 0, 0
    for index in range(1, len(losses)):
        if losses[index] < losses[best]:
            best = index
        else:
            bad += 1
        if bad == patience:
            return index + 1, best
    return len(losses), best


def _equal_is_better(losses: Sequence[float], patience: int) -> tuple[int, int]:
    best, bad_evals = 0, 0
    for index in range(1, len(losses)):
        best, bad_evals = (index, 0) if losses[index] <= losses[best] else (best, bad_evals + 1)
        if bad_evals == patience:
            return index + 1, best
    return len(losses), best


STOP_EARLY = Exercise(
    id="13.stop_early",
    cases=(
        ([3.0, 2.0, 1.0], 1),
        ([3.0, 2.0, 2.5, 1.0], 1),
        ([3.0, 2.0, 2.5, 2.4, 1.9, 1.0], 2),
        ([3.0, 2.0, 2.5, 1.0, 1.5, 0.5, 0.6, 0.4], 2),
        ([2.0, 2.0, 2.0, 2.0, 1.0], 3),
        ([5.0, 4.0, 4.5, 4.4, 4.3, 4.2, 3.0], 3),
    ),
    reference=_stop_early,
    wrong_answers=(
        WrongAnswer(
            _compare_with_last,
            "Compare with the best loss so far, not with the last: a partial recovery is no "
            "new best.",
        ),
        WrongAnswer(
            _count_all_bad,
            "A new best must reset the count to 0: patience counts evaluations in a row.",
        ),
        WrongAnswer(
            _equal_is_better,
            "An equal loss is no new best: a model that no longer improves would never be stopped.",
        ),
        WrongAnswer(
            lambda losses, patience: _stop_early(losses, patience + 1),
            "One evaluation too late: the run stops after `patience` of them without a new best.",
        ),
        WrongAnswer(
            lambda losses, patience: (
                (n := _stop_early(losses, patience)[0]),
                n - 1,
            ),
            "The last evaluation is not the best: keep the number of the one with the lowest loss.",
        ),
    ),
    hints=(
        "Remember two things: which evaluation was the best, and how many have come since.",
        "When one is not better than the best so far, the count grows. What resets it?",
    ),
)


def _bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """The negative log-likelihood of the text, in bits, for each of its bytes."""
    return loss * n_tokens / (math.log(2) * n_bytes)


BITS_PER_BYTE = Exercise(
    id="13.bits_per_byte",
    cases=(
        (math.log(2), 8, 8),
        (math.log(4), 50, 100),
        (3.9, 20_000, 54_823),
        (2.0, 300, 100),
    ),
    reference=_bits_per_byte,
    wrong_answers=(
        WrongAnswer(
            lambda loss, n_tokens, n_bytes: loss * n_tokens / n_bytes,
            "These are nats for each byte: a bit is ln 2 nats.",
        ),
        WrongAnswer(
            lambda loss, n_tokens, n_bytes: loss / math.log(2),
            "These are bits for each token: tokens are longer than bytes.",
        ),
        WrongAnswer(
            lambda loss, n_tokens, n_bytes: loss * n_bytes / n_tokens / math.log(2),
            "The ratio is upside down: longer tokens would make a model look worse.",
        ),
        WrongAnswer(
            lambda loss, n_tokens, n_bytes: loss * n_tokens * math.log(2) / n_bytes,
            "To get bits from nats, divide by ln 2: there are more bits than nats.",
        ),
        WrongAnswer(
            lambda loss, n_tokens, n_bytes: math.exp(loss) * n_tokens / n_bytes,
            "A perplexity can't be divided among bytes: losses add up, perplexities do not.",
        ),
    ),
    hints=(
        "How large is the loss of the whole text in nats? How many bits is that?",
        "For a model that narrows each byte down to two equally likely ones, the result is 1.",
    ),
)

EXERCISES = (
    PIECE_WEIGHTS,
    CLIPPED_SUM,
    TO_BFLOAT16,
    FOLLOW_SCALE,
    STOP_EARLY,
    BITS_PER_BYTE,
)
