"""The exercises of lesson 17: sampling."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _draw(weights: Tensor, u: float) -> int:
    """The token whose part of the line u falls into."""
    ends = weights.double().cumsum(0)
    return int((ends <= u * ends[-1]).sum())


def _draw_without_total(weights: Tensor, u: float) -> int:
    return min(int((weights.double().cumsum(0) <= u).sum()), len(weights) - 1)


def _draw_includes_the_end(weights: Tensor, u: float) -> int:
    ends = weights.double().cumsum(0)
    return int((ends < u * ends[-1]).sum())


def _draw_from_starts(weights: Tensor, u: float) -> int:
    starts = weights.double().cumsum(0) - weights
    return int((starts <= u * weights.double().sum()).sum())


DRAW = Exercise(
    id="17.draw",
    cases=(
        (torch.tensor([0.5, 0.5]), 0.25),
        (torch.tensor([0.5, 0.25, 0.25]), 0.6),
        (torch.tensor([0.5, 0.25, 0.25]), 0.5),
        (torch.tensor([1.0, 2.0, 5.0]), 0.3),
        (torch.tensor([0.0, 1.0, 1.0]), 0.0),
        (torch.tensor([0.25, 0.5, 0.25]), 0.9375),
    ),
    reference=_draw,
    wrong_answers=(
        WrongAnswer(
            _draw_without_total,
            "These weights don't sum to 1, but u is compared with their sums as if they did.",
        ),
        WrongAnswer(
            _draw_includes_the_end,
            "Where one part ends, the next begins. With <= and < exchanged, u = 0 can draw a token "
            "of weight 0.",
        ),
        WrongAnswer(
            _draw_from_starts,
            "This counts the parts that begin before u, which is one too many: ids begin at 0.",
        ),
        WrongAnswer(
            lambda weights, u: int(weights.argmax()),
            "This always returns the token with the largest weight, whatever u is.",
        ),
        WrongAnswer(
            lambda weights, u: int(u * len(weights)),
            "This gives each token a part of the same length, whatever its weight.",
        ),
    ),
    hints=(
        "Walk along the line and add up the weights. At which token do you pass u?",
        "cumsum gives the points where the parts end, and the last one is the length of the whole "
        "line. How many parts end at or before the point of u?",
    ),
)


def _top_k(scores: Sequence[float], k: int) -> list[int]:
    """The ids of the k largest scores, of equal ones those of the lowest ids."""
    return sorted(sorted(range(len(scores)), key=lambda token: (-scores[token], token))[:k])


def _top_k_threshold(scores: Sequence[float], k: int) -> list[int]:
    least = sorted(scores, reverse=True)[k - 1]
    return [token for token, score in enumerate(scores) if score >= least]


def _top_k_strictly(scores: Sequence[float], k: int) -> list[int]:
    least = sorted(scores, reverse=True)[k - 1]
    return [token for token, score in enumerate(scores) if score > least]


def _top_k_last(scores: Sequence[float], k: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda token: (-scores[token], -token))[:k])


TOP_K = Exercise(
    id="17.top_k",
    cases=(
        ([1.0, 3.0, 2.0], 1),
        ([1.0, 3.0, 2.0], 2),
        ([2.0, 2.0, 1.0], 1),
        ([0.5, 2.0, 2.0, 2.0, -1.0], 2),
        ([0.0, 0.0, 0.0, 0.0], 3),
        ([-1.0, 4.0, -1.0, 4.0, 0.0], 4),
    ),
    reference=_top_k,
    wrong_answers=(
        WrongAnswer(
            _top_k_threshold,
            "This keeps all that are equal to the k-th score: with ties, more than k.",
        ),
        WrongAnswer(
            _top_k_strictly,
            "This drops the k-th score itself, and all that are equal to it.",
        ),
        WrongAnswer(
            _top_k_last,
            "These are exactly k, but of equal scores it keeps those with the highest ids.",
        ),
        WrongAnswer(
            lambda scores, k: sorted(range(len(scores)), key=lambda token: scores[token])[-k:],
            "The ids are in the order of their scores. They should be in rising order.",
        ),
        WrongAnswer(
            lambda scores, k: sorted(sorted(range(len(scores)), key=scores.__getitem__)[:k]),
            "These are the k smallest.",
        ),
    ),
    hints=(
        "Sort ids, not scores. Which id should come first when two scores are equal?",
        "sorted takes a key. In a pair, the second part decides where the first parts are equal.",
    ),
)


def _top_p(shares: Tensor, p: float) -> Tensor:
    """The new probabilities: the fewest most likely that sum to p or more."""
    ordered, order = shares.sort(descending=True)
    kept = ordered.cumsum(0) - ordered < p
    result = torch.zeros_like(shares)
    result[order[kept]] = ordered[kept]
    return result / result.sum()


def _top_p_too_few(shares: Tensor, p: float) -> Tensor:
    ordered, order = shares.sort(descending=True)
    kept = ordered.cumsum(0) <= p
    result = torch.zeros_like(shares)
    result[order[kept]] = ordered[kept]
    return result / result.sum().clamp(min=1e-9)


def _top_p_nan(shares: Tensor, p: float) -> Tensor:
    ordered, order = shares.sort(descending=True)
    result = torch.zeros_like(shares)
    result[order] = ordered * (ordered.cumsum(0) <= p)
    return result / result.sum()


def _top_p_unsorted(shares: Tensor, p: float) -> Tensor:
    result = shares * (shares.cumsum(0) - shares < p)
    return result / result.sum()


def _top_p_wrong_places(shares: Tensor, p: float) -> Tensor:
    ordered = shares.sort(descending=True).values
    result = ordered * (ordered.cumsum(0) - ordered < p)
    return result / result.sum()


def _top_p_not_shared_out(shares: Tensor, p: float) -> Tensor:
    return shares * (_top_p(shares, p) > 0)


def _top_p_is_min_p(shares: Tensor, p: float) -> Tensor:
    result = shares * (shares >= p * shares.max())
    return result / result.sum()


TOP_P = Exercise(
    id="17.top_p",
    cases=(
        (torch.tensor([0.75, 0.25]), 0.5),
        (torch.tensor([0.5, 0.25, 0.125, 0.125]), 0.6),
        (torch.tensor([0.2, 0.5, 0.3]), 0.7),
        (torch.tensor([0.1, 0.2, 0.4, 0.3]), 0.65),
        (torch.tensor([0.2, 0.5, 0.3]), 0.99),
    ),
    reference=_top_p,
    wrong_answers=(
        WrongAnswer(
            _top_p_too_few,
            "The token that crosses p is dropped. Where the first alone has more than p, none is "
            "left.",
        ),
        WrongAnswer(
            _top_p_nan,
            "cumsum <= p drops the token that crosses p. Where the first alone has more than p, "
            "none is left, and 0 / 0 is nan.",
        ),
        WrongAnswer(
            _top_p_unsorted,
            "The sum runs in the order of the ids: sort by probability first.",
        ),
        WrongAnswer(
            _top_p_wrong_places,
            "The right probabilities are at the wrong ids: after sorting, each has to go back to "
            "its own.",
        ),
        WrongAnswer(
            _top_p_not_shared_out,
            "The right tokens are kept, but their probabilities do not sum to 1.",
        ),
        WrongAnswer(
            _top_p_is_min_p,
            "This compares each token with the best one: that is min-p.",
        ),
    ),
    hints=(
        "A token stays if the tokens more likely than it sum to less than p.",
        "The running sum minus the token's own probability is the sum before it. Sorting also "
        "gives you the ids in their new order, with which you can write the results back.",
    ),
)


def _min_p(logits: Tensor, p: float) -> Tensor:
    """-inf for scores of tokens less than p times as likely as the best."""
    return logits.masked_fill(logits < logits.max() + math.log(p), -math.inf)


MIN_P = Exercise(
    id="17.min_p",
    cases=(
        (torch.tensor([2.0, 1.0]), 0.1),
        (torch.tensor([2.0, 1.0, -2.0]), 0.1),
        (torch.tensor([8.0, 1.0, 0.5]), 0.1),
        (torch.tensor([-3.0, -3.2, -5.0, -9.0]), 0.2),
        (torch.tensor([0.4, 0.1, -0.5, -1.4]), 0.3),
        (torch.tensor([1.0, 1.0, 0.9]), 1.0),
    ),
    reference=_min_p,
    wrong_answers=(
        WrongAnswer(
            lambda logits, p: logits.masked_fill(logits < p * logits.max(), -math.inf),
            "p times as likely isn't p times the score: scores are logarithms, and may be negative "
            "as well.",
        ),
        WrongAnswer(
            lambda logits, p: logits.masked_fill(logits.softmax(-1) < p, -math.inf),
            "This compares with p itself, and not with p times the best probability.",
        ),
        WrongAnswer(
            lambda logits, p: logits.masked_fill(logits < logits.max() - p, -math.inf),
            "The difference of two scores is a logarithm: compare it with ln p, not with p.",
        ),
        WrongAnswer(
            lambda logits, p: logits.masked_fill(logits < logits.max() + math.log10(p), -math.inf),
            "Scores are natural logarithms; this is one to the base 10.",
        ),
        WrongAnswer(
            lambda logits, p: logits.masked_fill(logits <= logits.max() + math.log(p), -math.inf),
            "With p = 1 the best token itself is dropped: what is exactly p times as likely stays.",
        ),
    ),
    hints=(
        "Write 'less than p times the best' with probabilities, and take logarithms of both sides.",
        "The common denominator of the probabilities cancels. Two scores and ln p are left.",
    ),
)


def _penalty(scores: Sequence[float], history: Sequence[int], penalty: float) -> list[float]:
    """Scores of tokens in the history: divided above 0, multiplied below."""
    lowered = list(scores)
    for token in set(history):
        score = scores[token]
        lowered[token] = score / penalty if score > 0 else score * penalty
    return lowered


def _penalty_always_divides(
    scores: Sequence[float], history: Sequence[int], penalty: float
) -> list[float]:
    return [s / penalty if token in history else s for token, s in enumerate(scores)]


def _penalty_each_time(
    scores: Sequence[float], history: Sequence[int], penalty: float
) -> list[float]:
    lowered = list(scores)
    for token in history:
        lowered[token] *= 1 / penalty if lowered[token] > 0 else penalty
    return lowered


def _penalty_subtracts(
    scores: Sequence[float], history: Sequence[int], penalty: float
) -> list[float]:
    return [s - penalty if token in history else s for token, s in enumerate(scores)]


def _penalty_on_others(
    scores: Sequence[float], history: Sequence[int], penalty: float
) -> list[float]:
    rest = [token for token in range(len(scores)) if token not in history]
    return _penalty(scores, rest, penalty)


PENALTY = Exercise(
    id="17.penalty",
    cases=(
        ([2.0, 2.0], [0], 2.0),
        ([4.0, -4.0, 1.0], [1, 0], 2.0),
        ([3.0, 3.0, 0.0], [0, 0, 2], 1.5),
        ([-1.0, -1.0, 6.0], [0, 2, 0, 2], 1.2),
        ([1.0, 2.0], [], 3.0),
    ),
    reference=_penalty,
    wrong_answers=(
        WrongAnswer(
            _penalty_always_divides,
            "Dividing a negative score raises it, so the repeated token becomes more likely.",
        ),
        WrongAnswer(
            _penalty_each_time,
            "A token that occurred twice is lowered twice, but this penalty does not count.",
        ),
        WrongAnswer(
            _penalty_subtracts,
            "This subtracts. That is a penalty too, but not the one that divides and multiplies.",
        ),
        WrongAnswer(
            _penalty_on_others,
            "This lowers the tokens that have not occurred, and not the others.",
        ),
    ),
    hints=(
        "What does dividing by 2 do to a score of -4? Does the token become less likely?",
        "Go through the tokens of the history, each once, and treat the two signs separately.",
    ),
)


def _beam(
    first: Sequence[float], follows: Sequence[Sequence[float]], length: int, n_beams: int
) -> list[int]:
    """The most likely sequence that a search with n_beams beams finds."""
    beams = [([token], share) for token, share in enumerate(first)]
    beams = sorted(beams, key=lambda beam: -beam[1])[:n_beams]
    for _ in range(length - 1):
        beams = [
            ([*tokens, token], total * share)
            for tokens, total in beams
            for token, share in enumerate(follows[tokens[-1]])
        ]
        beams = sorted(beams, key=lambda beam: -beam[1])[:n_beams]
    return beams[0][0]


def _beam_is_exhaustive(
    first: Sequence[float], follows: Sequence[Sequence[float]], length: int, n_beams: int
) -> list[int]:
    return _beam(first, follows, length, len(first) ** length)


def _beam_is_greedy(
    first: Sequence[float], follows: Sequence[Sequence[float]], length: int, n_beams: int
) -> list[int]:
    return _beam(first, follows, length, 1)


def _beam_by_last_step(
    first: Sequence[float], follows: Sequence[Sequence[float]], length: int, n_beams: int
) -> list[int]:
    beams = sorted((([token], s) for token, s in enumerate(first)), key=lambda beam: -beam[1])
    for _ in range(length - 1):
        ways = [
            ([*tokens, token], share)
            for tokens, _ in beams[:n_beams]
            for token, share in enumerate(follows[tokens[-1]])
        ]
        beams = sorted(ways, key=lambda beam: -beam[1])
    return beams[0][0]


def _beam_one_each(
    first: Sequence[float], follows: Sequence[Sequence[float]], length: int, n_beams: int
) -> list[int]:
    beams = sorted((([token], s) for token, s in enumerate(first)), key=lambda beam: -beam[1])
    beams = beams[:n_beams]
    for _ in range(length - 1):
        for place, (tokens, total) in enumerate(beams):
            ways = follows[tokens[-1]]
            best = max(range(len(ways)), key=ways.__getitem__)
            beams[place] = ([*tokens, best], total * ways[best])
    return max(beams, key=lambda beam: beam[1])[0]


GARDEN = ([0.6, 0.4, 0.0], [[0.4, 0.35, 0.25], [0.05, 0.05, 0.9], [1 / 3, 1 / 3, 1 / 3]])
FORKED = (
    [0.5, 0.3, 0.2],
    [[0.34, 0.33, 0.33], [0.1, 0.45, 0.45], [0.02, 0.02, 0.96]],
)
BRANCHES = ([0.9, 0.1], [[0.52, 0.48], [0.01, 0.99]])

BEAM = Exercise(
    id="17.beam",
    cases=(
        (*GARDEN, 1, 1),
        (*GARDEN, 2, 1),
        (*GARDEN, 2, 2),
        (*FORKED, 3, 1),
        (*FORKED, 3, 2),
        (*FORKED, 3, 3),
        (*BRANCHES, 4, 2),
        (*BRANCHES, 4, 4),
    ),
    reference=_beam,
    wrong_answers=(
        WrongAnswer(
            _beam_is_exhaustive,
            "This finds the best of all sequences, even where a narrow beam misses it. After each "
            "step only n_beams may stay.",
        ),
        WrongAnswer(
            _beam_is_greedy,
            "This is greedy: it keeps one sequence, whatever n_beams is.",
        ),
        WrongAnswer(
            _beam_by_last_step,
            "This ranks sequences by the probability of their last token. It is the product of all "
            "probabilities that counts.",
        ),
        WrongAnswer(
            _beam_one_each,
            "Each sequence keeps its own best continuation. Two continuations of one sequence must "
            "be able to displace another sequence.",
        ),
    ),
    hints=(
        "A beam is a list of tokens and the probability of the whole list. One step makes every "
        "pair of a beam and a next token, and keeps the best of all of them.",
        "Start with a beam for each first token, and keep the best n_beams. They have one token "
        "each, so how many steps are left? Sort by the product in each step.",
    ),
)

EXERCISES = (DRAW, TOP_K, TOP_P, MIN_P, PENALTY, BEAM)
