"""Beam search: looking for the most likely text, not the most likely next token. Lesson 17."""

import math
from collections.abc import Collection, Sequence

from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Decoding
from transformer_lessons.generation.generate import _check_count, _check_prompts, _only
from transformer_lessons.generation.sampling import _check_scores
from transformer_lessons.model.decoder import Decoder

Beam = tuple[list[int], float]  # new tokens, and the sum of their log probabilities


def beam_search(
    model: Decoder,
    prompt: Sequence[int],
    n_beams: int,
    max_new_tokens: int,
    stop: Collection[int] = (),
    length_penalty: float = 0.0,
    allowed: Tensor | None = None,
) -> list[Beam]:
    """At most `n_beams` likely continuations of `prompt`, and ln p of each, the best first.

    The score of n new tokens is ln p / n ** length_penalty. At 0 the sum decides, which only falls
    as a text grows, so short texts win; at 1 it is the mean. A text that has made a token of `stop`
    is finished, and is kept apart while the others go on. `allowed` (V,) is as in `generate`.
    Sources: Lowerre 1976, "The HARPY Speech Recognition System"; for lengths, Wu et al. 2016,
    "Google's Neural Machine Translation System", section 7, in the simpler form of `transformers`.
    """
    prompts = _check_prompts(model, [prompt])
    _check_count("max_new_tokens", max_new_tokens, 0)
    _check_count("n_beams", n_beams, 1)
    if not 0 <= length_penalty < math.inf:
        what = f"length_penalty = {length_penalty} is not from 0 (the sum) on, and finite"
        raise LessonsError(what, where="beam_search", remedy="Use 0 to 2.")

    def score(beam: Beam) -> float:
        return beam[1] / max(len(beam[0]), 1) ** length_penalty

    decoding = Decoding(model, prompts, max_new_tokens)
    alive: list[Beam] = [([], 0.0)]
    finished: list[Beam] = []
    for n_left in reversed(range(max_new_tokens)):
        n_tried = n_beams * (1 + len(set(stop)))  # so that `n_beams` go on, whatever ends
        best = best_extensions(alive, _only(decoding.logits, allowed), n_tried)
        ended = [beam for _, beam in best if beam[0][-1] in stop]
        finished = sorted(finished + ended, key=score, reverse=True)[:n_beams]
        going_on = [(row, beam) for row, beam in best if beam[0][-1] not in stop][:n_beams]
        alive = [beam for _, beam in going_on]
        if not alive or not n_left:
            break
        hope = alive[0][1] / max_new_tokens**length_penalty  # longer, at no further cost
        if len(finished) == n_beams and hope <= score(finished[-1]):
            break
        decoding.select_rows([row for row, _ in going_on])
        decoding.append([beam[0][-1] for beam in alive])
    return sorted(finished + alive, key=score, reverse=True)[:n_beams]


def best_extensions(beams: Sequence[Beam], logits: Tensor, n: int) -> list[tuple[int, Beam]]:
    """The `n` most likely ways to add a token to one of `beams`, the best first.

    `logits` (B, V) are the scores after each of the B beams. Each way comes with the number of the
    beam that it extends: several may extend the same one, and another may be given up.

    >>> shares = Tensor([[0.6, 0.4], [0.1, 0.9]])
    >>> ways = best_extensions([([3], math.log(0.4)), ([4], math.log(0.6))], shares.log(), n=2)
    >>> [(row, tokens, round(math.exp(total), 2)) for row, (tokens, total) in ways]
    [(1, [4, 1], 0.54), (0, [3, 0], 0.24)]
    """
    _check_scores(logits)
    sums = logits.double().log_softmax(dim=-1).cpu()
    sums += sums.new_tensor([total for _, total in beams])[:, None]
    best = sums.flatten().topk(min(n, sums.numel()))
    ways = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    pairs = [(total, *divmod(i, logits.shape[-1])) for total, i in ways if total > -math.inf]
    return [(row, ([*beams[row][0], token], total)) for total, row, token in pairs]
