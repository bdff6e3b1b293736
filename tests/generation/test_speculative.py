"""Speculative decoding changes nothing: every path counted, draws counted, greedy token by token.

SPEC G10.
"""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product

import pytest
import torch

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import speculative
from transformer_lessons.generation.decoding import prefill
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.speculative import (
    DraftModel,
    PromptLookup,
    accept,
    crop_rows,
    residual_distribution,
    speculate,
)
from transformer_lessons.model.cache import KVCache
from transformer_lessons.weights.shipped import load_shipped

GREEDY = Sampler(temperature=0)
V = 20
BASE = ModelConfig(V, 32, d_model=24, n_layers=2, n_heads=4, d_ff=7)
LONG = {"factor": 3.0, "original_context_length": 10}
CHANGES = {
    "base": {},
    "grouped": {"n_kv_heads": 2},
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "no positions": {"position": "none"},
    "rms, swiglu, no biases": {"norm": "rms", "ffn": "swiglu", "bias": False},
    "post": {"norm_placement": "post"},
    "normed queries": {"qk_norm": True},
    "tied, scaled": {"tie_embeddings": True, "scale_embeddings": True},
    "window": {"sliding_window": 3},
    "dynamic": {"rope_scaling": RopeScaling("dynamic", **LONG)},
    "yarn": {"rope_scaling": RopeScaling("yarn", **LONG)},
}
CONFIGS = {name: replace(BASE, **change) for name, change in CHANGES.items()}
SAMPLERS = {
    "plain": Sampler(),
    "warm": Sampler(1.7),
    "top-k": Sampler(0.8, top_k=3),
    "top-p": Sampler(1.3, top_p=0.8),
    "min-p": Sampler(1.2, min_p=0.3),
    "penalties": Sampler(repetition_penalty=1.5, frequency_penalty=0.7),
    "greedy": GREEDY,
}


def good_draft(model, seed=1):
    """A draft that is right now and then: the model, with some noise in its weights."""
    from copy import deepcopy

    noisy, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in noisy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.08 * noise)
    return DraftModel(noisy)


def written(steps, n=1):
    """The tokens of each sequence, and (passes, guesses, guesses that were kept) of all."""
    tokens, counts = [[] for _ in range(n)], [0, 0, 0]
    for number, new, n_drafted in steps:
        tokens[number] += new
        counts = [a + b for a, b in zip(counts, (1, n_drafted, len(new) - 1), strict=True)]
    return tokens, counts


# ---- Every path ----------------------------------------------------------------------------------


class Branches:
    """In place of `torch` inside of the module: each random choice goes every way, one way a run.

    `share` is the probability of the way that was taken.
    """

    def __init__(self):
        self.script, self.place, self.share = [], 0, 1.0

    def __getattr__(self, name):
        return getattr(torch, name)

    def choose(self, shares):
        ways = [i for i, share in enumerate(shares) if share > 0]
        if self.place == len(self.script):
            self.script.append((0, len(ways)))
        taken = ways[self.script[self.place][0]]
        self.place += 1
        self.share *= shares[taken]
        return taken

    def multinomial(self, p, n, generator):
        return torch.tensor(self.choose(p.tolist()))

    def rand(self, *shape, generator, dtype):
        return Coin(self)

    def next_run(self):
        """On to the next way; False when there is none left."""
        while self.script and self.script[-1][0] + 1 == self.script[-1][1]:
            self.script.pop()
        if self.script:
            way, n_ways = self.script.pop()
            self.script.append((way + 1, n_ways))
        self.place, self.share = 0, 1.0
        return bool(self.script)


class Coin:
    """u, of which is asked whether u * q >= p: with probability 1 - min(1, p / q)."""

    def __init__(self, branches, q=None):
        self.branches, self.q = branches, q

    def __mul__(self, q):
        return Coin(self.branches, q.item())

    def __ge__(self, p):
        kept = min(1.0, p.item() / self.q)
        return self.branches.choose([kept, 1 - kept]) == 1


def all_paths(monkeypatch, run):
    """What `run()` returns, on all paths, with the probability of each result; and their number."""
    branches, found, n_paths = Branches(), defaultdict(float), 0
    monkeypatch.setattr(speculative, "torch", branches)
    more = True
    while more:
        found[run()] += branches.share
        n_paths += 1
        more = branches.next_run()
    monkeypatch.undo()
    return found, n_paths


P = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.5, 0.1], dtype=torch.float64)


def one_token(p, q):
    """`accept` for one guess, of which only the first token is looked at."""
    drafted = int(speculative.torch.multinomial(q, 1, generator=None))
    n_kept, token = accept(torch.stack([p, p]), q[None], [drafted], None)
    return drafted if n_kept else token


@pytest.mark.parametrize(
    "q", [Q, P, P.flip(0), torch.eye(4).double()[2], torch.ones(4).double() / 4]
)
def test_one_token_is_distributed_as_the_models(monkeypatch, q):
    found, _ = all_paths(monkeypatch, lambda: one_token(P, q))
    assert [found[token] for token in range(4)] == pytest.approx(P.tolist(), abs=1e-15)


def test_a_guess_is_kept_with_the_probability_of_the_overlap(monkeypatch):
    def is_kept():
        drafted = int(speculative.torch.multinomial(Q, 1, generator=None))
        return accept(torch.stack([P, P]), Q[None], [drafted], None)[0]

    found, _ = all_paths(monkeypatch, is_kept)
    assert found[1] == pytest.approx(torch.minimum(P, Q).sum().item(), abs=1e-15)


TINY = ModelConfig(3, 12, d_model=4, n_layers=1, n_heads=2, d_ff=4)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("draft", ["model", "look up"])
def test_three_tokens_are_distributed_as_the_models_on_all_paths(
    monkeypatch, random_model, name, draft
):
    model, sampler = random_model(TINY), SAMPLERS[name]
    prompt, length = [1, 2, 0, 1], 3
    expected = {}
    for tokens in product(range(3), repeat=length):
        share = 1.0
        for i, token in enumerate(tokens):
            text = [*prompt, *tokens[:i]]
            with torch.inference_mode():
                share *= sampler.probabilities(model(torch.tensor([text]))[0, -1], text)[token]
        expected[tokens] = float(share)

    def run():
        drafts = [DraftModel(random_model(TINY, seed=3)) if draft == "model" else PromptLookup(3)]
        return tuple(written(speculate(model, [prompt], length, drafts, 2, sampler))[0][0])

    found, n_paths = all_paths(monkeypatch, run)
    assert n_paths >= sum(share > 0 for share in expected.values())
    for tokens, share in expected.items():
        assert found[tokens] == pytest.approx(share, abs=1e-14), tokens


# ---- Draws ---------------------------------------------------------------------------------------


def chi_squared(counts, p):
    n = sum(counts)
    return sum(
        (count - n * share) ** 2 / (n * share) for count, share in zip(counts, p, strict=True)
    )


def test_a_hundred_thousand_draws():
    p, q = torch.tensor([0.5, 0.3, 0.15, 0.05]), torch.tensor([0.2, 0.2, 0.5, 0.1])
    generator, n = torch.Generator().manual_seed(0), 100_000
    first, second = Counter(), Counter()
    drafted = torch.multinomial(q, n, replacement=True, generator=generator).tolist()
    rows = torch.stack([p, p])
    for guess in drafted:
        n_kept, token = accept(rows, q[None], [guess], generator)
        first[guess if n_kept else token] += 1
        second[token] += n_kept
    assert chi_squared([first[i] for i in range(4)], p.tolist()) < 16.27  # 3 freedoms: 1 in 1,000
    assert chi_squared([second[i] for i in range(4)], p.tolist()) < 16.27
    assert sum(second.values()) / n == pytest.approx(torch.minimum(p, q).sum().item(), abs=0.006)
    # The test can fail: a token whose draft was refused is drawn from p again.
    wrong = torch.minimum(p, q) + (1 - torch.minimum(p, q).sum()) * p
    assert chi_squared((n * wrong).tolist(), p.tolist()) > 1_000


def test_the_residual_where_nothing_is_left_is_p():
    """Two distributions that are the same up to rounding can differ in one direction only."""
    p = torch.tensor([0.5, 0.5])
    assert torch.equal(residual_distribution(p, p * (1 + 1e-7)), p)


# ---- Greedy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_greedy_token_for_token(random_model, name):
    """In float64, where the best two scores are never as close as rounding: to the end of the
    context, and beyond it, where the window slides.
    """
    model = random_model(CONFIGS[name], seed=5)
    prompts = [[3, 7, 3, 7], [1], list(range(12))]
    for prompt in prompts:
        [expected] = generate(model, [prompt], 36, GREEDY)
        for draft, k in ((PromptLookup(V), 7), (good_draft(model), 2), (DraftModel(model), 4)):
            steps = speculate(model, [prompt], 36, [draft], k, GREEDY)
            [got], (_, n_drafted, n_kept) = written(steps)
            assert got == expected
        assert n_kept >= 0.9 * n_drafted  # the model itself is a perfect draft


def test_fewer_passes_than_tokens(random_model):
    model = random_model(BASE, seed=5)
    steps = speculate(model, [[3, 7]], 20, [DraftModel(model)], 4, GREEDY)
    assert written(steps)[1] == [5, 15, 15]  # the prompt's, 4 * (4 + 1) - 1 tokens: 3 at the end


def test_in_float32_it_differs_only_where_two_scores_tie():
    model, tokenizer = load_shipped()
    prompt = tokenizer.encode_ordinary("class Point:\n    def __init__(self, x, y):\n")
    [expected] = generate(model, [prompt], 100, GREEDY)
    [got], (n_passes, _, _) = written(
        speculate(model, [prompt], 100, [PromptLookup(4096)], 4, GREEDY)
    )
    assert n_passes < 80
    if got != expected:
        first = next(
            i for i, pair in enumerate(zip(got, expected, strict=True)) if len(set(pair)) > 1
        )
        with torch.inference_mode():
            best = model(torch.tensor([prompt + got[:first]]))[0, -1].topk(2).values
        assert best[0] - best[1] < 1e-4


def test_the_draft_model_reads_only_what_is_new(random_model):
    model = random_model(BASE)
    draft, generator = DraftModel(model), torch.Generator().manual_seed(0)
    read = []
    model.embedding.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].numel()))
    drafted, _ = draft([1, 2, 3, 4], 3, Sampler(), generator)
    other = (drafted[1] + 1) % V  # the first guess was kept, the second replaced
    draft([1, 2, 3, 4, drafted[0], other], 2, Sampler(), generator)
    assert read == [4, 1, 1, 1, 1]


def test_the_drafts_own_distribution_is_a_fresh_models(random_model):
    """Penalties see the guesses before; a cache that was cropped is as good as a new one."""
    model, generator = random_model(BASE), torch.Generator().manual_seed(0)
    draft, sampler = DraftModel(model), Sampler(0.9, top_k=7, repetition_penalty=1.4)
    for text in ([1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, 9], [1, 2, 9, 9, 9, 9, 9]):
        drafted, q = draft(text, 4, sampler, generator)
        for i in range(4):
            before = text + drafted[:i]
            with torch.inference_mode():
                fresh = sampler.probabilities(model(torch.tensor([before]))[0, -1], before)
            torch.testing.assert_close(q[i], fresh, rtol=0, atol=1e-12)


# ---- Batches and stops ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base", "learned", "window", "grouped"])
@pytest.mark.parametrize("sampler", ["plain", "penalties", "greedy"])
def test_in_a_batch_each_comes_out_as_if_alone(random_model, name, sampler):
    """Some guesses are kept and others not, so the sequences get ahead of each other. SPEC G7."""
    model = random_model(CONFIGS[name], seed=5, size=0.5)
    prompts = [[3, 7, 3, 7], [1], [4, 4, 4, 4, 4, 2], [9, 8]]
    stop = {11}
    sampler = SAMPLERS[sampler]

    def drafts():
        return [good_draft(model, seed) for seed in range(3)] + [PromptLookup(V)]

    steps = list(speculate(model, prompts, 18, drafts(), 3, sampler, 40, stop))
    together = written(steps, 4)[0]
    assert len({len(new) for _, new, _ in steps}) > 1  # ragged
    for number, prompt in enumerate(prompts):
        steps = speculate(model, [prompt], 18, [drafts()[number]], 3, sampler, 40 + number, stop)
        assert together[number] == written(steps)[0][0]
    if sampler == GREEDY:
        assert together == generate(model, prompts, 18, sampler, stop=stop)


@pytest.mark.parametrize("name", ["base", "window", "learned"])
def test_greedy_batches_go_on_beyond_the_context(random_model, name):
    """The padding that ragged rows get fills the cache before the sequences do."""
    model = random_model(CONFIGS[name], seed=5)
    prompts = [[3, 7, 3, 7], [1], list(range(14)), [9, 8]]
    drafts = [DraftModel(model), PromptLookup(V), PromptLookup(V), good_draft(model)]
    got = written(speculate(model, prompts, 30, drafts, 5, GREEDY), 4)[0]
    assert got == generate(model, prompts, 30, GREEDY)


@pytest.mark.parametrize("window", [None, 3])
def test_rows_cropped_to_different_lengths_are_as_read_afresh(random_model, window):
    model = random_model(replace(BASE, sliding_window=window))
    texts = torch.randint(V, (3, 12), generator=torch.Generator().manual_seed(0))
    cache = KVCache(model.config, 3, 20, chunk=8, dtype=torch.float64)
    prefill(model, texts.tolist(), cache)
    crop_rows(cache, [9, 12, 10])
    with torch.inference_mode():
        model(texts[:, :3], cache)  # once more, on top of the padding
    crop_rows(cache, [14, 13, 15])
    next_tokens = torch.tensor([[5], [6], [7]])
    with torch.inference_mode():
        got = model(next_tokens, cache)[:, -1]
    # What is kept: 9 + 2, 12 - ..., each without its padding.
    kept = [
        [*texts[0, :9].tolist(), *texts[0, :2].tolist()],
        [*texts[1, :12].tolist(), *texts[1, :1].tolist()],
        [*texts[2, :10].tolist(), *texts[2, :3].tolist()],
    ]
    for row, text in enumerate(kept):
        with torch.inference_mode():
            alone = model(torch.tensor([[*text, int(next_tokens[row])]]))[0, -1]
        torch.testing.assert_close(got[row], alone, rtol=0, atol=1e-12)


def test_a_ring_says_when_it_has_lost_what_a_crop_needs():
    """Row 0 moves 2 to the right, and so do the positions that were written over: 0-3, now 2-5."""
    cache = KVCache(replace(BASE, sliding_window=3), 2, 20, chunk=4)
    cache.length += 10
    crop_rows(cache, [8, 10])
    with pytest.raises(LessonsError, match="It can keep 8"):
        cache.crop(7)  # the next token looks back to position 5
    cache.crop(8)


def test_a_text_ends_at_a_stop_among_the_guesses(random_model):
    model = random_model(BASE, seed=5)
    [whole] = generate(model, [[3, 7]], 20, GREEDY)
    stop = whole[6]
    expected = whole[: whole.index(stop) + 1]
    got, _ = written(speculate(model, [[3, 7]], 20, [DraftModel(model)], 8, GREEDY, stop=[stop]))
    assert got == [expected]


def test_tokens_that_are_not_allowed_are_never_kept(random_model):
    model, allowed = random_model(BASE), torch.arange(V) % 2 == 0
    steps = speculate(model, [[1, 2]], 25, [DraftModel(model)], allowed=allowed)
    assert all(token % 2 == 0 for token in written(steps)[0][0])


# ---- Drafts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "k", "expected"),
    [
        ([5, 6, 7, 8, 5, 6], 3, [7, 8, 5]),
        ([5, 6, 7, 8, 5, 6], 9, [7, 8, 5, 6]),
        ([1, 2, 3], 4, []),  # nothing repeats
        ([4], 4, []),
        ([1, 9, 5, 2, 9, 6, 9], 1, [6]),  # the last one, not the first
        ([1, 2, 3, 7, 2, 3, 8, 1, 2, 3], 1, [7]),  # three tokens before two
        ([4, 4, 4, 4], 2, [4]),  # an overlap; what follows ends there
    ],
)
def test_look_up(text, k, expected):
    drafted, q = PromptLookup(V)(text, k, Sampler(), torch.Generator())
    assert drafted == expected
    assert q.shape == (len(expected), V)
    assert [row.nonzero().flatten().tolist() for row in q] == [[token] for token in expected]


def test_a_draft_with_a_shorter_context_guesses_while_it_can(random_model):
    model = random_model(BASE, seed=5)
    short = random_model(replace(BASE, context_length=10), seed=5)
    steps = list(speculate(model, [[3, 7]], 28, [DraftModel(short)], 4, GREEDY))
    [got], _ = written(steps)
    assert got == generate(model, [[3, 7]], 28, GREEDY)[0]
    assert steps[1][2] == 4
    assert steps[-1][2] == 0


# ---- Bad input -----------------------------------------------------------------------------------


def steps_of(model, **changes):
    given = {"prompts": [[1, 2]], "max_new_tokens": 5, "drafts": [PromptLookup(V)]} | changes
    return list(speculate(model, **given))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 2.5}, "k = 2.5"),
        ({"k": 32}, "the model sees 32"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"prompts": [[]]}, "empty"),
        ({"prompts": [[20]]}, "token 20"),
        ({"stop": [99]}, "token 99"),
        ({"drafts": []}, "0 drafts for 1 prompts"),
        ({"drafts": [PromptLookup(30)]}, "the same tokenizer"),
    ],
)
def test_bad_input_is_named(random_model, changes, words):
    with pytest.raises(LessonsError, match=words):
        steps_of(random_model(BASE), **changes)


def test_a_draft_model_with_another_vocabulary_is_refused(random_model):
    model = random_model(BASE, seed=5)
    for vocab_size in (7, 30):
        other = DraftModel(random_model(replace(BASE, vocab_size=vocab_size)))
        with pytest.raises(LessonsError, match="tokenizer"):
            steps_of(model, drafts=[other], max_new_tokens=20)


def test_nothing_to_write(random_model):
    model = random_model(BASE)
    assert steps_of(model, max_new_tokens=0) == []
    assert steps_of(model, prompts=[], drafts=[]) == []
