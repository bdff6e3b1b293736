"""The exercises of lesson 24: looking inside."""

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

Pattern = list[list[float]]


def _mean_weight(pattern: Pattern, first: int, distance: int) -> float:
    weights = [pattern[t][t - distance] for t in range(first, len(pattern)) if t >= distance]
    return sum(weights) / len(weights)


def _induction_score(pattern: Pattern, period: int) -> float:
    """The mean weight on what followed the earlier copy of the token, in the later copies."""
    total = 0.0
    for t in range(period, len(pattern)):
        total += pattern[t][t - period + 1]
    return total / (len(pattern) - period)


def _transposed(pattern: Pattern, period: int) -> float:
    return _induction_score([list(column) for column in zip(*pattern, strict=True)], period)


def _pattern(n_tokens: int, seed: int) -> Pattern:
    """Random weights: each row sums to 1, and nobody looks ahead."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(n_tokens, n_tokens, generator=generator).tril()
    return [[round(x, 3) for x in row] for row in (weights / weights.sum(1, True)).tolist()]


INDUCTION_SCORE = Exercise(
    id="24.induction_score",
    cases=(
        (_pattern(4, 0), 2),
        (_pattern(6, 1), 3),
        (_pattern(9, 2), 3),
        (_pattern(7, 3), 5),
    ),
    reference=_induction_score,
    wrong_answers=(
        WrongAnswer(
            lambda pattern, period: _mean_weight(pattern, period, period),
            "This is the weight on the earlier copy of the token itself. What followed it stands "
            "one position later.",
        ),
        WrongAnswer(
            lambda pattern, period: _mean_weight(pattern, period, 1),
            "This is the score of a previous-token head: it looks one position back.",
        ),
        WrongAnswer(
            lambda pattern, period: _mean_weight(pattern, period, period - 2),
            "This looks one position too far to the right: the follower of position t - period "
            "is at t - period + 1.",
        ),
        WrongAnswer(
            lambda pattern, period: _mean_weight(pattern, period - 1, period - 1),
            "The last token of the first copy is counted too; the later copies begin at "
            "position `period`.",
        ),
        WrongAnswer(
            lambda pattern, period: _induction_score(pattern, period) * (len(pattern) - period),
            "This is a sum. The score is the mean over the tokens that were counted.",
        ),
        WrongAnswer(
            _transposed,
            "Rows and columns are exchanged: pattern[t] is the row of the token that looks.",
        ),
    ),
    hints=(
        "Write A B C A B C and number the positions. Where should the token at 4 look?",
        "Which positions t are in the later copies? For each there is one number in row t.",
    ),
)


def _lens(streams: Tensor, gain: Tensor, eps: float, head: Tensor) -> Tensor:
    """head(RMSNorm(stream)) at every depth."""
    size = (streams.square().mean(-1, keepdim=True) + eps).sqrt()
    return streams / size * gain @ head.T


def _last_size(streams: Tensor, gain: Tensor, eps: float, head: Tensor) -> Tensor:
    size = (streams[-1].square().mean() + eps).sqrt()
    return streams / size * gain @ head.T


def _one_size(streams: Tensor, gain: Tensor, eps: float, head: Tensor) -> Tensor:
    return streams / (streams.square().mean() + eps).sqrt() * gain @ head.T


def _centred_lens(streams: Tensor, gain: Tensor, eps: float, head: Tensor) -> Tensor:
    return _lens(streams - streams.mean(-1, keepdim=True), gain, eps, head)


def _random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).round(decimals=2)


def _growing(n_depths: int, width: int, seed: int) -> Tensor:
    """A residual stream that grows from block to block."""
    return _random(n_depths, width, seed=seed).cumsum(0) + 0.3


LOGIT_LENS = Exercise(
    id="24.logit_lens",
    cases=(
        (_growing(2, 2, 0), torch.tensor([1.0, 2.0]), 1e-5, torch.eye(2)),
        (_growing(3, 4, 1), _random(4, seed=2), 1e-5, _random(5, 4, seed=3)),
        (_growing(4, 6, 4), _random(6, seed=5), 0.01, _random(3, 6, seed=6)),
    ),
    reference=_lens,
    wrong_answers=(
        WrongAnswer(
            lambda streams, gain, eps, head: streams @ head.T,
            "The final norm is missing: the head has only learned to read normalized streams.",
        ),
        WrongAnswer(
            _last_size,
            "All depths are divided by the size of the last stream; each has a size of its own.",
        ),
        WrongAnswer(
            _one_size,
            "One size is taken over all depths together: take the mean of squares along D only.",
        ),
        WrongAnswer(
            lambda streams, gain, eps, head: _lens(streams, torch.ones_like(gain), eps, head),
            "The streams are divided by their size, but the norm also multiplies by its gain.",
        ),
        WrongAnswer(
            _centred_lens,
            "The mean is taken off, as LayerNorm does; RMSNorm only divides.",
        ),
    ),
    hints=(
        "What happens to the last stream between the last block and the head?",
        "keepdim=True in the mean of squares leaves one size for each depth.",
    ),
)


def _shares(parts: Tensor, gain: Tensor, eps: float, row: Tensor) -> Tensor:
    """What each part adds to the logit, with the size of their sum held fixed."""
    total = parts.sum(0)
    return parts @ (gain * row) / (total.square().mean() + eps).sqrt()


def _own_sizes(parts: Tensor, gain: Tensor, eps: float, row: Tensor) -> Tensor:
    return parts @ (gain * row) / (parts.square().mean(1) + eps).sqrt()


def _left_out(parts: Tensor, gain: Tensor, eps: float, row: Tensor) -> Tensor:
    whole = _shares(parts, gain, eps, row).sum()
    kept = [torch.cat([parts[:i], parts[i + 1 :]]) for i in range(len(parts))]
    return torch.stack([whole - _shares(rest, gain, eps, row).sum() for rest in kept])


ATTRIBUTION = Exercise(
    id="24.attribution",
    cases=(
        (torch.tensor([[1.0, 0.0], [2.0, 4.0]]), torch.ones(2), 0.0, torch.tensor([1.0, -1.0])),
        (_random(4, 3, seed=10), _random(3, seed=11), 1e-5, _random(3, seed=12)),
        (_random(6, 8, seed=13), _random(8, seed=14), 0.01, _random(8, seed=15)),
    ),
    reference=_shares,
    wrong_answers=(
        WrongAnswer(
            _own_sizes,
            "Each part is divided by its own size. The norm sees only the sum, and divides "
            "everything by the size of that.",
        ),
        WrongAnswer(
            lambda parts, gain, eps, row: parts @ (gain * row),
            "The division by the size of the stream is missing: these don't add up to the logit.",
        ),
        WrongAnswer(
            lambda parts, gain, eps, row: _shares(parts, torch.ones_like(gain), eps, row),
            "The gain of the norm is missing: it multiplies each of the D numbers.",
        ),
        WrongAnswer(
            _left_out,
            "This is how the logit changes when a part is left out and the size changes with it. "
            "Here the size is held fixed.",
        ),
        WrongAnswer(
            lambda parts, gain, eps, row: _shares(parts, gain, eps, row).cumsum(0),
            "These are running totals, the logit after each part. Return each part by itself.",
        ),
    ),
    hints=(
        "With the size held fixed, norm and head together are one dot product with the stream.",
        "Compute the size from the sum of all parts. Your answers must add up to the logit.",
    ),
)


def _mean_ablation(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    """The numbers of one head replaced by their means over the positions."""
    by_head = mixed.clone().unflatten(1, (n_heads, -1))
    by_head[:, head] = by_head[:, head].mean(0)
    return by_head.flatten(1)


def _zeros(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    by_head = mixed.clone().unflatten(1, (n_heads, -1))
    by_head[:, head] = 0
    return by_head.flatten(1)


def _one_number(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    by_head = mixed.clone().unflatten(1, (n_heads, -1))
    by_head[:, head] = by_head[:, head].mean()
    return by_head.flatten(1)


def _over_heads(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    by_head = mixed.clone().unflatten(1, (n_heads, -1))
    by_head[:, head] = by_head.mean(1)
    return by_head.flatten(1)


def _interleaved(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    changed = mixed.clone()
    changed[:, head::n_heads] = mixed[:, head::n_heads].mean(0)
    return changed


def _all_others(mixed: Tensor, n_heads: int, head: int) -> Tensor:
    by_head = mixed.mean(0).expand_as(mixed).clone().unflatten(1, (n_heads, -1))
    by_head[:, head] = mixed.unflatten(1, (n_heads, -1))[:, head]
    return by_head.flatten(1)


MEAN_ABLATION = Exercise(
    id="24.mean_ablation",
    cases=(
        (_random(2, 4, seed=20), 2, 1),
        (_random(3, 6, seed=21), 3, 0),
        (_random(5, 12, seed=22), 3, 2),
        (_random(4, 8, seed=23), 4, 1),
    ),
    reference=_mean_ablation,
    wrong_answers=(
        WrongAnswer(
            _zeros,
            "The head hands over zeros. It should hand over its mean.",
        ),
        WrongAnswer(
            _one_number,
            "One mean is taken over all numbers of the head; each of its d numbers has its own.",
        ),
        WrongAnswer(
            _over_heads,
            "The mean is taken over the heads, position by position. Take it over the positions.",
        ),
        WrongAnswer(
            _interleaved,
            "A head's numbers stand side by side: head h has the columns h * d to (h + 1) * d - 1.",
        ),
        WrongAnswer(
            _all_others,
            "All other heads are silenced, and the one that was meant is kept.",
        ),
    ),
    hints=(
        "How many columns does one head have? Which are those of head number `head`?",
        "The mean over dim 0 has one number for each column; it is the same for all positions.",
    ),
)


def _patch(clean: Tensor, corrupted: Tensor, positions: list[int]) -> Tensor:
    """The corrupted stream with the clean one at `positions`."""
    patched = corrupted.clone()
    for position in positions:
        patched[position] = clean[position]
    return patched


PATCH = Exercise(
    id="24.patch",
    cases=(
        (torch.ones(3, 1), torch.zeros(3, 1), [1]),
        (_random(4, 2, seed=30), _random(4, 2, seed=31), [0, 3]),
        (_random(5, 3, seed=32), _random(5, 3, seed=33), []),
        (_random(6, 3, seed=34), _random(6, 3, seed=35), [4, 1, 2]),
    ),
    reference=_patch,
    wrong_answers=(
        WrongAnswer(
            lambda clean, corrupted, positions: _patch(corrupted, clean, positions),
            "The two runs are exchanged: the corrupted run is patched, with values of the clean.",
        ),
        WrongAnswer(
            lambda clean, corrupted, positions: clean.clone(),
            "Everything is patched, so this is the clean run. Patch only at `positions`.",
        ),
        WrongAnswer(
            lambda clean, corrupted, positions: corrupted + _patch(clean, 0 * clean, positions),
            "The clean values are added to what stood there; they are to take its place.",
        ),
        WrongAnswer(
            lambda clean, corrupted, positions: _patch(
                clean, corrupted, [t for p in positions for t in range(p, len(clean))]
            ),
            "The patch goes on to the end of the text; only the given positions are replaced.",
        ),
    ),
    hints=(
        "Start from the run that is to be changed. Which one is that?",
        "A tensor can be indexed by a list of positions, also on the left of an equals sign.",
    ),
)

Pair = list[float]


def _effect(clean: Pair, corrupted: Pair, patched: Pair) -> float:
    """How far the patch moves the difference of the logits from corrupted (0) to clean (1)."""
    low = corrupted[0] - corrupted[1]
    return (patched[0] - patched[1] - low) / (clean[0] - clean[1] - low)


EFFECT = Exercise(
    id="24.effect",
    cases=(
        ([3.0, 1.0], [1.0, 3.0], [2.0, 2.0]),
        ([8.5, 2.0], [3.0, 7.0], [8.0, 3.0]),
        ([4.0, 4.5], [1.0, 6.0], [0.0, 6.5]),
        ([9.0, 1.0], [2.0, 1.5], [10.0, 0.5]),
    ),
    reference=_effect,
    wrong_answers=(
        WrongAnswer(
            lambda clean, corrupted, patched: 1 - _effect(clean, corrupted, patched),
            "The scale is upside down: 0 is the corrupted run, and 1 is the clean one.",
        ),
        WrongAnswer(
            lambda clean, corrupted, patched: (
                _effect(clean, corrupted, patched)
                * (clean[0] - clean[1] - corrupted[0] + corrupted[1])
            ),
            "This is by how much the difference has changed, in logits. Divide it by the change "
            "from the corrupted run to the clean one.",
        ),
        WrongAnswer(
            lambda clean, corrupted, patched: (patched[0] - patched[1]) / (clean[0] - clean[1]),
            "This compares with 0. The scale begins where the corrupted run is.",
        ),
        WrongAnswer(
            lambda clean, corrupted, patched: (
                (patched[0] - corrupted[0]) / (clean[0] - corrupted[0])
            ),
            "Only the logit of the clean answer is looked at. A patch may raise both logits; "
            "take their difference.",
        ),
        WrongAnswer(
            lambda clean, corrupted, patched: min(
                max(_effect(clean, corrupted, patched), 0.0), 1.0
            ),
            "The effect is cut off at 0 and 1. A patch can overshoot, or push the other way.",
        ),
    ),
    hints=(
        "First the three differences. Two of them are the ends of the scale.",
        "How far is it from the corrupted difference to the patched one, and to the clean one?",
    ),
)

EXERCISES = (INDUCTION_SCORE, LOGIT_LENS, ATTRIBUTION, MEAN_ABLATION, PATCH, EFFECT)
