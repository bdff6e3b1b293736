"""Beam search against the list of all texts, a search without batches or caches, transformers."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
import transformers

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.beam import beam_search, best_extensions
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler

CONFIG = ModelConfig(5, 8, d_model=16, n_layers=2, n_heads=2, d_ff=16, norm="rms", head_bias=False)
PENALTIES = [0.0, 0.7, 1.0, 2.0]


@pytest.fixture
def model(random_model):
    return random_model(CONFIG, seed=3, size=0.3)


class WholePasses:
    """ln p of texts, from one pass over the whole window for each token; no batch, no cache."""

    def __init__(self, model, prompt):
        self.model, self.prompt, self.known = model, tuple(prompt), {}

    def next_token(self, tokens):
        """ln p of every token after `tokens`, which come after the prompt."""
        if tokens not in self.known:
            window = [*self.prompt, *tokens][-self.model.config.context_length :]
            with torch.no_grad():
                logits = self.model(torch.tensor([window]))[0, -1]
            self.known[tokens] = logits.log_softmax(-1).tolist()
        return self.known[tokens]

    def total(self, tokens):
        pairs = enumerate(tokens)
        return sum(self.next_token(tuple(tokens[:place]))[token] for place, token in pairs)


def is_whole(tokens, n, stop):
    """Whether a text ends where it has to: with its first stop token, or with n tokens."""
    return not set(tokens[:-1]) & set(stop) and (len(tokens) == n or tokens[-1] in stop)


def every_text(model, prompt, n, stop, penalty):
    """All texts of at most n tokens, the best first, with ln p of each."""
    lengths = range(1, n + 1) if stop else [n]
    texts = [list(t) for m in lengths for t in product(range(5), repeat=m) if is_whole(t, n, stop)]
    passes = WholePasses(model, prompt)
    found = [(text, passes.total(text)) for text in texts]
    return sorted(found, key=lambda beam: -beam[1] / len(beam[0]) ** penalty)


def narrow_search(model, prompt, n_beams, n, stop, penalty):
    """The definition of the search, with whole passes; it never ends early."""
    passes = WholePasses(model, prompt)
    alive, finished = [([], 0.0)], []
    for _ in range(n):
        texts = [[*tokens, token] for tokens, _ in alive for token in range(5)]
        ways = [(text, passes.total(text)) for text in texts]
        ways.sort(key=lambda beam: -beam[1])
        ways = ways[: n_beams * (1 + len(stop))]
        finished += [beam for beam in ways if beam[0][-1] in stop]
        alive = [beam for beam in ways if beam[0][-1] not in stop][:n_beams]
    return sorted(finished + alive, key=lambda b: -b[1] / len(b[0]) ** penalty)[:n_beams]


def assert_same(found, expected):
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    totals = [total for _, total in expected]
    assert [total for _, total in found] == pytest.approx(totals, abs=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("stop", [(), (2,), (1, 4)])
def test_wide_enough_it_finds_the_best_of_all_texts(model, stop, penalty):  # SPEC E4
    expected = every_text(model, [3, 1], 4, stop, penalty)
    found = beam_search(model, [3, 1], 125, 4, stop, penalty)
    assert_same(found, expected[:125])


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("stop", [(), (0,), (1, 4)])
@pytest.mark.parametrize("n_beams", [1, 2, 3])
def test_narrow_it_equals_a_search_without_batch_or_cache(model, n_beams, stop, penalty):
    for first in range(5):  # SPEC E3: and beyond the context of 8
        expected = narrow_search(model, [first, 2, 2, 0], n_beams, 6, stop, penalty)
        assert_same(beam_search(model, [first, 2, 2, 0], n_beams, 6, stop, penalty), expected)


def test_one_beam_is_greedy(model):
    for first in range(5):
        [greedy] = generate(model, [[first]], 10, Sampler(temperature=0))
        [(tokens, _)] = beam_search(model, [first], 1, 10)
        assert tokens == greedy


def test_it_finds_what_greedy_passes_by(model):
    gains = []
    for first in range(5):
        [(_, total)] = beam_search(model, [first], 1, 4)
        best = every_text(model, [first], 4, (), 0.0)[0]
        assert beam_search(model, [first], 125, 4)[0][0] == best[0]
        gains.append(best[1] - total)
    assert min(gains) > -1e-12
    assert max(gains) > 0.05


class Wrapped(transformers.PreTrainedModel, transformers.GenerationMixin):
    """Our model, for transformers to search in; without a cache."""

    config_class = transformers.PreTrainedConfig

    def __init__(self, ours):
        config = transformers.PreTrainedConfig(
            vocab_size=ours.config.vocab_size, num_hidden_layers=ours.config.n_layers
        )
        super().__init__(config)
        self.ours = ours
        self.post_init()

    def _init_weights(self, module):
        """Leave the weights as they are."""

    def forward(self, input_ids, **_):
        return transformers.modeling_outputs.CausalLMOutput(logits=self.ours(input_ids))


def search_in_transformers(ours, prompt, stop):
    """Their four best continuations of at most eight tokens, without the padding, and ln p."""
    out = Wrapped(ours).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=8,
        do_sample=False,
        length_penalty=0.0,
        early_stopping="never",
        use_cache=False,
        pad_token_id=0,
        eos_token_id=stop,
        output_scores=True,
        return_dict_in_generate=True,
    )
    rows = out.sequences[:, len(prompt) :].tolist()
    ends = [row.index(stop) + 1 if stop in row else 8 for row in rows]
    texts = [row[:end] for row, end in zip(rows, ends, strict=True)]
    return texts, out.sequences_scores.tolist()


@pytest.fixture
def larger(random_model):
    return random_model(replace(CONFIG, vocab_size=40, context_length=32), seed=4, size=0.35)


def test_equal_to_transformers(larger):  # SPEC G3
    for first in range(10):
        found = beam_search(larger, [first, 7], 4, 8)
        texts, totals = search_in_transformers(larger, [first, 7], stop=None)
        assert [tokens for tokens, _ in found] == texts
        assert [total for _, total in found] == pytest.approx(totals, abs=1e-5)


def test_with_a_stop_token_never_worse_than_transformers(larger):
    # Theirs drops texts that end if they aren't among the best n_beams of their step; ours has more
    # to choose from, and the same texts go on.
    ended = 0
    for first in range(10):
        found = beam_search(larger, [first, 7], 4, 8, stop=(17,))
        _, totals = search_in_transformers(larger, [first, 7], stop=17)
        for (_, ours), theirs in zip(found, totals, strict=True):
            assert ours >= theirs - 1e-5
        ended += sum(tokens[-1] == 17 for tokens, _ in found)
    assert ended > 5


def test_the_ways_by_hand():
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]).double()
    beams = [([3], math.log(0.4)), ([4], math.log(0.6))]
    ways = best_extensions(beams, shares.log(), 3)
    assert [(row, tokens[0]) for row, (tokens, _) in ways] == [(1, 4), (0, 3), (0, 3)]
    assert ways[0][1][0] == [4, 2]
    assert [math.exp(total) for _, (_, total) in ways] == pytest.approx([0.42, 0.2, 0.2])
    assert len(best_extensions(beams, shares.log(), 100)) == 5  # one of the 6 is impossible


def test_tokens_that_are_not_allowed_are_in_no_text(model):
    allowed = torch.tensor([True, False, True, False, True])
    found = beam_search(model, [1], 100, 3, allowed=allowed)
    assert sorted(tokens for tokens, _ in found) == [[*t] for t in product((0, 2, 4), repeat=3)]


def test_no_new_tokens(model):
    assert beam_search(model, [1], 3, 0) == [([], 0.0)]
    assert beam_search(model, [1], 3, 0, length_penalty=1.0) == [([], 0.0)]


def test_when_everything_ends(model):
    found = beam_search(model, [1], 3, 6, stop=range(5))
    expected = every_text(model, [1], 1, (), 0.0)[:3]
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_beams": 0}, r"^n_beams = 0 is not an integer of at least 1 \(n_beams\)"),
        ({"length_penalty": -0.1}, r"^length_penalty = -0\.1 is not from 0 .*Use 0 to 2\."),
        ({"length_penalty": math.nan}, r"^length_penalty = nan is not from 0"),
        ({"length_penalty": math.inf}, r"^length_penalty = inf is not from 0"),
        ({"prompt": []}, r"^the prompt is empty"),
        ({"prompt": [5]}, r"^token 5 is not in the vocabulary of 5"),
        ({"max_new_tokens": -1}, r"^max_new_tokens = -1 is not an integer of at least 0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(model, options, message):  # SPEC S6
    arguments = {"prompt": [1], "n_beams": 2, "max_new_tokens": 3} | options
    with pytest.raises(LessonsError, match=message):
        beam_search(model, **arguments)


def test_a_model_that_has_diverged_is_refused(model):  # SPEC S9
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    with pytest.raises(LessonsError, match=r"^the scores are not all finite"):
        beam_search(model, [1], 2, 3)
