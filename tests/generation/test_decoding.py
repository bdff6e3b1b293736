"""Texts side by side, with a cache: each goes on as if it were alone, whatever the others do."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import decoding as decoding_module
from transformer_lessons.generation.decoding import (
    Decoding,
    compiled_forward,
    last_logits,
    prefill,
)
from transformer_lessons.generation.generate import generate, stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.cache import KVCache
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import SmallBatchLinear, replace_linear
from transformer_lessons.weights.quantize import Int8Linear

CONTEXT = 12
BASE = ModelConfig(20, CONTEXT, d_model=24, n_layers=2, n_heads=4, d_ff=7)
CONFIGS = {
    "base": BASE,
    "learned, grouped": replace(BASE, position="learned", n_kv_heads=2),
    "sinusoidal": replace(BASE, position="sinusoidal"),
    "window": replace(BASE, sliding_window=3),
    "dynamic": replace(
        BASE, rope_scaling=RopeScaling("dynamic", factor=2.0, original_context_length=6)
    ),
}
TEXTS = st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=16), min_size=1, max_size=4)
GREEDY = Sampler(temperature=0)


def uncached(model, prompt, n_new, sampler, seed, stop=()):
    """The definition: look at the last `context_length` tokens, choose, append."""
    tokens, generator = list(prompt), torch.Generator().manual_seed(seed)
    for _ in range(n_new):
        with torch.no_grad():
            scores = model(torch.tensor([tokens[-CONTEXT:]]))[0, -1].float()
        tokens.append(sampler(scores, generator, tokens))
        if tokens[-1] in stop:
            break
    return tokens[len(prompt) :]


@given(prompts=TEXTS, n_new=st.integers(0, 16), name=st.sampled_from(sorted(CONFIGS)))
def test_a_batch_equals_each_text_alone_and_without_a_cache(random_model, prompts, n_new, name):
    # SPEC G7, E3: ragged prompts, texts that outgrow the context, every kind of position.
    model = random_model(CONFIGS[name])
    for sampler in (GREEDY, Sampler(0.8, top_p=0.9, repetition_penalty=1.3)):
        expected = [
            uncached(model, prompt, n_new, sampler, 5 + row) for row, prompt in enumerate(prompts)
        ]
        assert generate(model, prompts, n_new, sampler, seed=5) == expected


def test_a_model_in_training_decodes_without_dropout_and_goes_on_training():
    torch.manual_seed(0)
    config = replace(BASE, d_model=64, dropout=0.9)  # from a width of 32 on, all of it acts
    model = Decoder(config)
    expected = generate(model.eval(), [[1, 2, 3]], 6, GREEDY)
    assert list(stream(model.train(), [1, 2, 3], 6, GREEDY)) == expected[0]
    assert all(module.training for module in model.modules())
    model.eval().blocks[1].train()  # a part of it, while it is read token by token
    tokens = []
    for token in stream(model, [1, 2, 3], 6, GREEDY):
        assert [block.training for block in model.blocks] == [False, True]
        tokens.append(token)
    assert tokens == expected[0]


@given(prompts=TEXTS, name=st.sampled_from(sorted(CONFIGS)), chunk=st.integers(1, 16))
def test_the_scores_are_those_of_each_text_alone(random_model, prompts, name, chunk):  # SPEC G7
    config = CONFIGS[name]
    if name == "dynamic":
        prompts = [prompt[:6] for prompt in prompts]
    model, prompts = random_model(config), [prompt[:CONTEXT] for prompt in prompts]
    capacity = 6 if name == "dynamic" else CONTEXT
    cache = KVCache(config, len(prompts), capacity, chunk=chunk, dtype=torch.float64)
    got = prefill(model, prompts, cache)
    for scores, prompt in zip(got, prompts, strict=True):
        expected = model(torch.tensor([prompt]))[0, -1]
        torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-10)


def test_a_text_that_made_a_stop_token_leaves_and_costs_nothing(random_model, monkeypatch):
    model, prompts, stop = random_model(BASE, seed=3), [[1], [2, 3], [4, 5, 6], [7]], {0, 9, 13}
    expected = [uncached(model, p, 9, Sampler(), 40 + i, stop) for i, p in enumerate(prompts)]
    lengths = [len(tokens) for tokens in expected]
    assert min(lengths) < 9  # some stop,
    assert len(set(lengths)) > 1  # and not all together
    rows = []

    def counting(model, tokens, cache=None):
        rows.append(len(tokens))
        return last_logits(model, tokens, cache)

    monkeypatch.setattr(decoding_module, "last_logits", counting)
    got = generate(model, prompts, 9, seed=40, stop=stop, forward_fn=counting)
    assert got == expected
    # One reading of all, and from then on the rows that go on.
    alive = [sum(length > n for length in lengths) for n in range(1, max(lengths))]
    assert rows == [4, *alive]


def test_all_stop(random_model):
    model = random_model(BASE)
    assert generate(model, [[1], [2]], 9, stop=range(20)) == [
        uncached(model, [token], 1, Sampler(), i) for i, token in enumerate((1, 2))
    ]


def test_samples_share_the_reading_of_their_prompt(random_model, monkeypatch):  # SPEC E4
    model, prompts, rows = random_model(BASE), [[1, 2], [3, 4, 5]], []
    read = decoding_module.prefill

    def counting(model, texts, cache):
        rows.append(len(texts))
        return read(model, texts, cache)

    monkeypatch.setattr(decoding_module, "prefill", counting)
    got = generate(model, prompts, 5, seed=7, n_samples=3)
    order = [prompt for prompt in prompts for _ in range(3)]
    assert got == [uncached(model, prompt, 5, Sampler(), 7 + i) for i, prompt in enumerate(order)]
    assert len({tuple(tokens) for tokens in got}) == 6
    assert rows == [2]


def test_stream_stops_too(random_model):
    model = random_model(BASE, seed=3)
    for seed in range(8):
        expected = uncached(model, [1, 2], 9, Sampler(), seed, {0, 9, 13})
        assert list(stream(model, [1, 2], 9, seed=seed, stop={0, 9, 13})) == expected


def test_the_cache_saves_work_until_the_context_is_full(random_model, monkeypatch):  # SPEC E3
    model, sizes = random_model(BASE), []
    hidden = type(model).hidden_states

    def counting(self, tokens, *arguments):
        sizes.append(tokens.shape[1])
        return hidden(self, tokens, *arguments)

    monkeypatch.setattr(type(model), "hidden_states", counting)
    generate(model, [[1, 2, 3]], 12)
    assert sizes == [3] + [1] * 9 + [CONTEXT] * 2  # then the window slides and is read again


@pytest.mark.parametrize("layer", [SmallBatchLinear, Int8Linear])
def test_compiled_equals_eager(random_model, layer):
    model, forward = random_model(BASE).float(), compiled_forward()
    replace_linear(model, layer)
    prompts, options = [[1, 2, 3], [4]], {"sampler": Sampler(0.7), "seed": 2}
    expected = generate(model, prompts, 11, **options)
    assert generate(model, prompts, 11, forward_fn=forward, **options) == expected
    for texts in (prompts, prompts[:1]):  # a single row takes another way
        steps = Decoding(model, texts, 5, forward), Decoding(model, texts, 5)
        for token in (3, 1, 2):
            for one in steps:
                one.append([token] * len(texts))
            torch.testing.assert_close(steps[0].logits, steps[1].logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["base", "learned, grouped", "window", "ring"])
@pytest.mark.parametrize("n_prompt", [250, 508])
def test_a_static_cache_grows_and_changes_nothing(random_model, name, n_prompt):
    window = CONFIGS.get(name, replace(BASE, sliding_window=30))
    model, capacities = random_model(replace(window, context_length=600)), []

    def static(model, tokens, cache):
        if cache is not None:
            capacities.append(cache.capacity)
        return last_logits(model, tokens, cache)

    prompts = [[i % 20 for i in range(n_prompt)], [3, 1, 4]]
    steps = Decoding(model, prompts, 15, static), Decoding(model, prompts, 15)
    for token in range(15):
        for one in steps:
            one.append([token, 1])
        torch.testing.assert_close(steps[0].logits, steps[1].logits, rtol=0, atol=1e-10)
    before = {250: 256, 508: 512}[n_prompt]
    assert capacities == [before] * (before - n_prompt) + [min(2 * before, 600)] * (
        15 - before + n_prompt
    )


def test_texts_that_end_leave_a_compiled_batch_as_large_as_it_was(random_model):
    model, sizes = random_model(BASE), []

    def forward(*arguments):
        sizes.append(len(arguments[1]))
        return last_logits(*arguments)

    prompts, stop = [[1, 2, 3], [4], [5, 6]], set(range(8))
    expected = generate(model, prompts, 9, seed=1, stop=stop)
    assert list(map(len, expected)) == [3, 6, 1]  # one after the other
    assert generate(model, prompts, 9, seed=1, stop=stop, forward_fn=forward) == expected
    assert sizes == [3] * 5
    assert len(generate(model, prompts[:1], 3, n_samples=2, forward_fn=forward)) == 2


def test_selecting_texts_goes_on_with_those(random_model):
    model = random_model(BASE)
    decoding = Decoding(model, [[1, 2], [3, 4, 5], [6]], 6)
    decoding.append([7, 8, 9])
    decoding.select_rows([2, 0, 2])
    decoding.append([1, 2, 3])
    assert decoding.sequences == [[6, 9, 1], [1, 2, 7, 2], [6, 9, 3]]
    for scores, text in zip(decoding.logits, decoding.sequences, strict=True):
        expected = model(torch.tensor([text]))[0, -1]
        torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-10)


def test_no_samples_are_refused(random_model):
    with pytest.raises(LessonsError, match="n_samples = 0 is not an integer of at least 1"):
        generate(random_model(BASE), [[1]], 3, n_samples=0)
