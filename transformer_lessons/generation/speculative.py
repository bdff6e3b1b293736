"""Speculative decoding: tokens are guessed cheaply, and one pass checks them. Lesson 19.

Shapes: B sequences, k guessed tokens, V tokens of the vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Decoding, prefill
from transformer_lessons.generation.generate import _check_count, _check_prompts, _only
from transformer_lessons.generation.sampling import Sampler, _check_ids
from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference

# A draft guesses how a sequence goes on: (sequence, k, sampler, generator) -> at most k tokens, and
# the distributions (k, V) that they were drawn from. Any will do, if the tokens were drawn from it.
Proposal = tuple[list[int], Tensor]
Draft = Callable[[Sequence[int], int, Sampler, Generator], Proposal]


def residual_distribution(p: Tensor, q: Tensor) -> Tensor:
    """max(p - q, 0), divided by its sum: where p has more than q. (V,), (V,) -> (V,).

    >>> residual_distribution(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    excess = (p - q).clamp(min=0)
    return excess / excess.sum() if excess.any() else p  # none: p = q, up to rounding


def accept(p: Tensor, q: Tensor, drafted: Sequence[int], generator: Generator) -> tuple[int, int]:
    """How many of the k drafted tokens are kept, and the token that follows these.

    Token i was drawn from q[i] and is kept with probability min(1, p[i] / q[i]). `p` (k + 1, V) is
    what the model would draw from, `q` is (k, V). The first token that is refused is replaced by a
    draw from `residual_distribution`; if none is, one more is drawn, from p[k]. Whatever q is, the
    tokens that come out are distributed as if they had been drawn from p.
    Sources: Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2.
    """
    for i, token in enumerate(drafted):
        if torch.rand((), generator=generator, dtype=p.dtype) * q[i, token] >= p[i, token]:
            rest = residual_distribution(p[i], q[i])
            return i, int(torch.multinomial(rest, 1, generator=generator))
    return len(drafted), int(torch.multinomial(p[len(drafted)], 1, generator=generator))


@dataclass(frozen=True)
class PromptLookup:
    """A draft without a model: what followed when the last tokens of the sequence last occurred.

    First the last `longest` tokens are looked for; if they are new, one fewer, down to one. What
    is found is certain: q is 1 for it, and 0 for all other tokens.
    Source: Saxena 2023, "Prompt Lookup Decoding".

    >>> PromptLookup(vocab_size=9)([5, 6, 7, 8, 5, 6], 3, Sampler(), torch.Generator())[0]
    [7, 8, 5]
    """

    vocab_size: int
    longest: int = 3

    def __call__(
        self, sequence: Sequence[int], k: int, sampler: Sampler, generator: Generator
    ) -> Proposal:
        found = (
            start + n
            for n in range(self.longest, 0, -1)
            for start in range(len(sequence) - n - 1, -1, -1)
            if sequence[start : start + n] == sequence[-n:]
        )
        after = next(found, len(sequence))
        drafted = list(sequence[after : after + k])
        return drafted, one_hot(torch.tensor(drafted).long(), self.vocab_size).float()


class DraftModel:
    """A draft by a smaller model with the same vocabulary, which draws with the same sampler.

    It keeps a cache for its whole context, and reads what is new since it was last asked. Where a
    sequence is longer than its context, it guesses nothing.
    """

    def __init__(self, model: Decoder) -> None:
        limit, like = longest_cached(model.config), model.embedding.weight
        # A chunk of this size: even with a window, nothing is written over that a crop needs.
        self.cache = KVCache(model.config, 1, limit, limit, device=like.device, dtype=like.dtype)
        self.model, self.read = model, list[int]()

    def __call__(
        self, sequence: Sequence[int], k: int, sampler: Sampler, generator: Generator
    ) -> Proposal:
        pairs = zip(self.read, sequence[:-1], strict=False)  # the last token is always read
        self.read = [old for old, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        self.cache.crop(len(self.read))
        drafted, q = list[int](), [torch.zeros(0, self.model.config.vocab_size)]
        for _ in range(min(k, self.cache.capacity + 1 - len(sequence))):
            new = [*sequence, *drafted][len(self.read) :]
            logits = _as_floats(prefill(self.model, [new], self.cache)[0])
            self.read += new
            q.append(sampler.probabilities(logits, self.read)[None])
            drafted.append(int(torch.multinomial(q[-1][0], 1, generator=generator)))
        return drafted, torch.cat(q)


def crop_rows(cache: KVCache, lengths: Sequence[int]) -> None:
    """Keep the first lengths[i] tokens of sequence i, padding counted.

    All end at the same place, as before: the shorter ones move to the right and are padded more.
    """
    shifts = [max(lengths) - length for length in lengths]
    cache.crop(min(lengths))
    if not any(shifts):
        return
    cache.length += max(shifts)
    cache.longest += max(shifts)
    for tensor in (*cache.keys, *cache.values):
        for row, shift in enumerate(shifts):  # round the end: position p is in slot p mod C again
            tensor[row] = tensor[row].roll(shift, dims=1)
    padding = torch.tensor(shifts, device=cache.length.device)
    cache.left_padding = padding if cache.left_padding is None else padding + cache.left_padding


def speculate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    drafts: Sequence[Draft],
    k: int = 4,
    sampler: Sampler | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    allowed: Tensor | None = None,
) -> Iterator[tuple[int, list[int], int]]:
    """After each pass, for each sequence: its number, its new tokens, and how many were guessed.

    drafts[i] guesses up to k tokens a pass for prompts[i]; all new tokens but the last are guesses
    that were kept. What comes out is distributed as with `generate`, and the same at temperature 0,
    up to rounding. Sequence i draws with seed + i, as if alone, until one comes within k tokens of
    the end of the context. Where the window slides, nothing is guessed.
    """
    prompts, sampler = _check(model, prompts, max_new_tokens, drafts, k, stop), sampler or Sampler()
    if not prompts or max_new_tokens == 0:
        return
    alive = list(range(len(prompts)))  # the number of the sequence in each row
    generators = [Generator().manual_seed(seed + number) for number in alive]
    ends = [len(prompt) + max_new_tokens for prompt in prompts]
    decoding = Decoding(model, prompts, max_new_tokens)
    logits, V = decoding.logits[:, None], model.config.vocab_size
    proposals: list[Proposal] = [([], torch.zeros(0, V)) for _ in alive]
    while True:
        kept, logits = [], _only(_as_floats(logits), allowed)
        for row, number in enumerate(alive):
            sequence, given = decoding.sequences[row], (sampler, generators[number], stop)
            new = verify(logits[row], sequence, proposals[row], *given)
            sequence += new
            yield number, new, len(proposals[row][0])
            kept += [row] if new[-1] not in stop and len(sequence) < ends[number] else []
        if not kept:
            return
        if len(kept) < len(alive):
            decoding.select_rows(kept)
        alive = [alive[row] for row in kept]
        room, proposals = longest_cached(model.config) - max(map(len, decoding.sequences)), []
        for number, sequence in zip(alive, decoding.sequences, strict=True):
            n = max(min(k, room, ends[number] - len(sequence) - 1), 0)
            proposals.append(drafts[number](sequence, n, sampler, generators[number]))
        logits = score_drafted(decoding, [drafted for drafted, _ in proposals])


def verify(
    logits: Tensor,
    sequence: list[int],
    proposal: Proposal,
    sampler: Sampler,
    generator: Generator,
    stop: Collection[int],
) -> list[int]:
    """What follows `sequence`, by the model's scores (k + 1, V): the guesses kept, and one token.

    The sampler sees each guess's own history, with the guesses before it. After a token of `stop`
    nothing follows. A q of another vocabulary raises `LessonsError`.
    """
    drafted, q = proposal
    if q.shape != (len(drafted), V := logits.shape[-1]):
        what = f"q {tuple(q.shape)} for {len(drafted)} tokens; the model's vocabulary has {V}"
        raise LessonsError(what, where="draft", remedy="Both need the same tokenizer.")
    histories = [sequence + drafted[:i] for i in range(len(drafted) + 1)]
    p = [sampler.probabilities(*pair) for pair in zip(logits, histories, strict=False)]
    n_kept, token = accept(torch.stack(p), q, drafted, generator)
    new = [*drafted[:n_kept], token]
    return new[: min((i for i, t in enumerate(new, 1) if t in stop), default=len(new))]


def score_drafted(decoding: Decoding, drafted: list[list[int]]) -> Tensor:
    """One pass: scores (B, 1 + k, V) after the last token of each sequence, and after each guess.

    First the cache loses what was refused. `drafted` may have different lengths; shorter ones are
    filled up with zeros, of which the scores mean nothing.
    """
    sequences, n = decoding.sequences, max(map(len, drafted))
    if max(map(len, sequences)) > longest_cached(decoding.model.config):
        decoding.read_again()  # the window slides
        return decoding.logits[:, None]
    if (cache := decoding.cache) is not None:  # it still holds what was refused
        padding = [0] * len(sequences) if cache.left_padding is None else cache.left_padding
        crop_rows(cache, [len(s) - 1 + int(m) for s, m in zip(sequences, padding, strict=True)])
    if cache is None or len(cache) + 1 + n > cache.capacity:  # full of padding
        shorter = [sequence[:-1] for sequence in sequences]
        cache = decoding.cache = Decoding(decoding.model, shorter, decoding.n_left).cache
    assert cache is not None  # they fit
    rows = [[s[-1], *d, *[0] * (n - len(d))] for s, d in zip(sequences, drafted, strict=True)]
    with inference(decoding.model):
        return decoding.model(torch.tensor(rows, device=cache.length.device), cache)


def _check(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    drafts: Sequence[Draft],
    k: int,
    stop: Collection[int],
) -> list[list[int]]:
    """The prompts as lists of integers; what `speculate` can't use raises `LessonsError`."""
    if len(drafts) != len(prompts):
        what = f"{len(drafts)} drafts for {len(prompts)} prompts"
        raise LessonsError(what, where="drafts", remedy="Give each prompt its own.")
    _check_ids(stop, model.config.vocab_size, "stop")
    _check_count("max_new_tokens", max_new_tokens, 0)
    _check_count("k", k, 1)
    if k >= model.config.context_length:
        what = f"k = {k} tokens, but the model sees {model.config.context_length}"
        raise LessonsError(what, where="k", remedy="Use a smaller k: 4 is a good start.")
    return _check_prompts(model, prompts)


def _as_floats(logits: Tensor) -> Tensor:
    """On the CPU, in float32, or in float64 if they were."""
    return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))
