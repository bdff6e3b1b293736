"""A cached model computes what the whole text gives: any pieces, any architecture, any padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import fused_attend
from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset

N_TOKENS = 14
BASE = ModelConfig(20, N_TOKENS, d_model=24, n_layers=2, n_heads=4, d_ff=7)
WINDOW = replace(BASE, sliding_window=3)
LONG = {"original_context_length": 6}
CHANGES = {
    "base": {},
    "grouped": {"n_kv_heads": 2},
    "one kv head": {"n_kv_heads": 1},
    "wide heads": {"head_dim": 10},
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "no positions": {"position": "none"},
    "values turned": {"rope_v_scale": 0.4},
    "rms, swiglu, no biases": {"norm": "rms", "ffn": "swiglu", "bias": False},
    "post": {"norm_placement": "post"},
    "normed queries": {"qk_norm": True},
    "tied, scaled": {"tie_embeddings": True, "scale_embeddings": True},
    "window": {"sliding_window": 3},
    "window of one": {"sliding_window": 1},
    "window, grouped, learned": {"sliding_window": 4, "n_kv_heads": 2, "position": "learned"},
    "linear": {"rope_scaling": RopeScaling("linear", factor=3.0)},
    "llama3": {"rope_scaling": RopeScaling("llama3", factor=3.0, **LONG)},
    "yarn": {"rope_scaling": RopeScaling("yarn", factor=3.0, **LONG)},
}
CONFIGS = {name: replace(BASE, **change) for name, change in CHANGES.items()}
CONFIGS["fluctlight"] = preset("fluctlight")


def texts(n_texts, n_tokens=N_TOKENS, vocab_size=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (n_texts, n_tokens), generator=generator)


def read_in_pieces(model, tokens, sizes, **options):
    """The logits of all positions, `sizes` tokens at a time."""
    cache = KVCache(model.config, len(tokens), dtype=torch.float64, **options)
    return torch.cat([model(piece, cache) for piece in tokens.split(sizes, dim=1)], dim=1), cache


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_token_by_token_equals_the_whole_text(random_model, config, static):  # SPEC E3, G3
    model, tokens = random_model(config), texts(2)
    got, cache = read_in_pieces(model, tokens, 1, static=static)
    torch.testing.assert_close(got, model(tokens), rtol=1e-11, atol=1e-11)
    assert len(cache) == N_TOKENS


@given(
    cuts=st.lists(st.integers(1, N_TOKENS - 1), unique=True).map(sorted),
    name=st.sampled_from(["grouped", "learned", "window", "window of one", "yarn"]),
    chunk=st.integers(1, N_TOKENS),
    static=st.booleans(),
)
def test_any_pieces_equal_the_whole_text(random_model, cuts, name, chunk, static):  # SPEC E3
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, N_TOKENS], strict=True)]
    sizes = [min(chunk, size - done) for size in sizes for done in range(0, size, chunk)]
    model, tokens = random_model(CONFIGS[name]), texts(2, seed=chunk)
    got, _ = read_in_pieces(model, tokens, sizes, chunk=chunk, static=static)
    torch.testing.assert_close(got, model(tokens), rtol=1e-10, atol=1e-10)


def test_it_is_the_tokens_before_that_count(random_model):
    # A cache that were ignored, or read from the wrong text, would not be noticed otherwise.
    model, tokens = random_model(BASE), texts(2)
    whole = model(tokens)
    alone = model(tokens[:, 7:])
    swapped, cache = tokens[:, :7].flip(0), KVCache(BASE, 2, dtype=torch.float64)
    model(swapped, cache)
    for wrong in (alone, model(tokens[:, 7:], cache)):
        assert (wrong - whole[:, 7:]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["fluctlight", "gpt2", "smollm2-135m", "python-small"])
def test_in_float32_too(name):  # SPEC E3
    torch.manual_seed(0)
    config = replace(preset(name), vocab_size=300, n_layers=2, context_length=16, dropout=0.0)
    model, tokens = Decoder(config).eval(), texts(3, 16, 300)
    cache = KVCache(config, 3)
    with torch.inference_mode():
        got = torch.cat([model(piece, cache) for piece in tokens.split(5, dim=1)], dim=1)
        torch.testing.assert_close(got, model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(
    "name", ["base", "grouped", "learned", "sinusoidal", "window", "no positions", "llama3"]
)
def test_padding_at_the_front_changes_nothing(random_model, name, static):  # SPEC G7
    model, tokens, n_padding = random_model(CONFIGS[name]), texts(3), [0, 5, 9]
    cache = KVCache(model.config, 3, chunk=4, static=static, dtype=torch.float64)
    cache.left_padding = torch.tensor(n_padding)
    got = torch.cat([model(piece, cache) for piece in tokens.split([4, 4, 1, 1, 4], 1)], dim=1)
    assert got.isfinite().all()  # in the padding, too
    for row, n in enumerate(n_padding):
        alone = model(tokens[row : row + 1, n:])[0]
        torch.testing.assert_close(got[row, n:], alone, rtol=1e-11, atol=1e-11)


def test_padding_of_another_kind_would_change_something(random_model):
    model, tokens, cache = random_model(BASE), texts(1), KVCache(BASE, dtype=torch.float64)
    cache.left_padding = torch.tensor([4])
    right = model(tokens, cache)[0, 4:]
    assert (model(tokens)[0, 4:] - right).abs().max() > 0.1  # padding seen
    shifted = model(tokens[:, 4:], positions=torch.arange(4, N_TOKENS))[0]
    # With RoPE only distances count; its angles are float32 here, and rounded.
    torch.testing.assert_close(shifted, right, rtol=0, atol=1e-5)
    learned = random_model(CONFIGS["learned"])
    cache = KVCache(learned.config, dtype=torch.float64)
    cache.left_padding = torch.tensor([4])
    shifted = learned(tokens[:, 4:], positions=torch.arange(4, N_TOKENS))[0]
    assert (shifted - learned(tokens, cache)[0, 4:]).abs().max() > 0.1  # positions not shifted


@pytest.mark.parametrize("name", ["base", "window", "window of one"])
@pytest.mark.parametrize("n_back", [0, 1, 3])
def test_going_back(random_model, name, n_back):
    model, tokens, other = random_model(CONFIGS[name]), texts(1), texts(1, seed=1)
    cache = KVCache(model.config, chunk=4, dtype=torch.float64)
    kept = 10 - n_back
    for piece in (tokens[:, :4], tokens[:, 4:7], tokens[:, 7:10]):
        model(piece, cache)
    cache.crop(len(cache) - n_back)
    assert len(cache) == kept
    got = torch.cat([model(piece, cache) for piece in other[:, kept:].split(2, dim=1)], dim=1)
    whole = model(torch.cat([tokens[:, :kept], other[:, kept:]], dim=1))
    torch.testing.assert_close(got, whole[:, kept:], rtol=1e-11, atol=1e-11)


def test_a_window_can_only_go_back_as_far_as_nothing_was_overwritten(random_model):
    model, cache = random_model(WINDOW), KVCache(WINDOW, chunk=4, dtype=torch.float64)
    for piece in texts(1, 12).split(4, dim=1):
        model(piece, cache)
    with pytest.raises(LessonsError, match=r"^can't crop 12 places to 7 .* place 8 the ring"):
        cache.crop(len(cache) - 5)
    cache.crop(len(cache) - 4)
    with pytest.raises(LessonsError, match=r"can't crop 8 places to 7 .* place 8 the ring"):
        cache.crop(len(cache) - 1)
    tokens = texts(1, 12)
    torch.testing.assert_close(model(tokens[:, 8:], cache), model(tokens)[:, 8:])


@given(
    steps=st.lists(st.integers(-8, 4).filter(bool), min_size=1, max_size=12),
    name=st.sampled_from(["base", "window", "window of one", "window, grouped, learned"]),
)
def test_going_back_again_and_again(random_model, steps, name):
    # Each step reads some tokens or goes back by some; whatever is allowed is right.
    model, text = random_model(CONFIGS[name]), texts(1)[:, :0]
    cache = KVCache(model.config, chunk=4, dtype=torch.float64)
    for number, step in enumerate(steps):
        if step < 0:
            try:
                cache.crop(len(cache) + step)
            except LessonsError:
                continue
            text = text[:, :step]
        elif text.shape[1] + step <= N_TOKENS:
            text = torch.cat([text, texts(1, step, seed=number)], dim=1)
            expected = model(text)[:, -step:]
            got = model(text[:, -step:], cache)
            torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
        assert len(cache) == text.shape[1]


@pytest.mark.parametrize("n_back", [-1, 4])
def test_going_back_too_far_is_refused(random_model, n_back):
    model, cache = random_model(BASE), KVCache(BASE, dtype=torch.float64)
    model(texts(1, 3), cache)
    with pytest.raises(LessonsError, match=rf"can't crop 3 places to {3 - n_back}"):
        cache.crop(len(cache) - n_back)
    assert len(cache) == 3


def test_rows_leave_change_places_and_are_repeated(random_model):
    model, tokens = random_model(CONFIGS["grouped"]), texts(3)
    cache = KVCache(model.config, 3, dtype=torch.float64)
    cache.left_padding = torch.tensor([0, 2, 3])
    model(tokens[:, :9], cache)
    rows = torch.tensor([2, 0, 2])
    cache.select_rows(rows)
    more = texts(3, 5, seed=2)
    got = model(more, cache)
    for i, row in enumerate(rows):
        start = [0, 2, 3][row]
        whole = torch.cat([tokens[row, start:9], more[i]])[None]
        torch.testing.assert_close(got[i], model(whole)[0, -5:], rtol=1e-11, atol=1e-11)


def test_fused_attention_reads_the_cache_too(random_model):
    model, tokens = random_model(BASE), texts(2)
    fused = Decoder(BASE, attend=fused_attend).double().eval()
    fused.load_state_dict(model.state_dict())
    got, _ = read_in_pieces(fused, tokens, [5, 1, 8])
    torch.testing.assert_close(got, model(tokens), rtol=1e-10, atol=1e-10)


def test_memory():
    # By hand: 2 tensors x 3 layers x 5 texts x 2 heads x slots x 8 numbers x 4 bytes.
    config = ModelConfig(20, 100, d_model=32, n_layers=3, n_heads=4, d_ff=7, n_kv_heads=2)
    assert KVCache(config, 5).n_bytes == 2 * 3 * 5 * 2 * 100 * 8 * 4
    assert KVCache(config, 5, capacity=7, dtype=torch.bfloat16).n_bytes == 2 * 3 * 5 * 2 * 7 * 8 * 2
    window = replace(config, sliding_window=10)
    assert KVCache(window, 5, chunk=6).n_bytes == 2 * 3 * 5 * 2 * 15 * 8 * 4
    assert KVCache(window, 5, chunk=600).n_bytes == 2 * 3 * 5 * 2 * 100 * 8 * 4
    assert sum(t.nbytes for t in (*KVCache(config).keys, *KVCache(config).values)) == 38_400


def test_no_gradient_flows_through_what_is_kept(random_model):
    model, tokens = random_model(BASE), texts(1)
    cache = KVCache(BASE, dtype=torch.float64)
    model(tokens[:, :5], cache)
    assert not any(tensor.requires_grad for tensor in (*cache.keys, *cache.values))


def test_dynamic_scaling_is_cached_as_long_as_the_angles_stay(random_model):
    scaling = RopeScaling("dynamic", factor=3.0, **LONG)
    config = replace(BASE, rope_scaling=scaling)
    assert longest_cached(config) == 6
    assert longest_cached(BASE) == N_TOKENS
    model, tokens = random_model(config), texts(1)
    got, _ = read_in_pieces(model, tokens[:, :6], 1)
    torch.testing.assert_close(got, model(tokens[:, :6]), rtol=1e-11, atol=1e-11)
    with pytest.raises(LessonsError, match="capacity = 7, but this model's cache serves 6"):
        KVCache(config, capacity=7)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 15), r"^15 tokens, but this model looks at 1 to 14 \(context_length\)"),
        ({"capacity": 4}, (1, 5), r"^5 more tokens, but the cache holds 0 of 4 \(KVCache\)"),
        ({"batch_size": 2}, (1, 3), r"^1 texts, but the cache was made for 2"),
        ({}, (1, 0), "^0 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(random_model, options, shape, message):
    model, cache = random_model(BASE), KVCache(BASE, dtype=torch.float64, **options)
    with pytest.raises(LessonsError, match=message):
        model(torch.zeros(shape, dtype=torch.long), cache)
    assert len(cache) == 0


def test_a_full_cache_is_refused(random_model):
    model, cache = random_model(BASE), KVCache(BASE, capacity=5, dtype=torch.float64)
    model(texts(1, 4), cache)
    with pytest.raises(LessonsError, match="2 more tokens, but the cache holds 4 of 5"):
        model(texts(1, 2), cache)
    model(texts(1, 1), cache)  # the refusal did no harm


def test_pieces_larger_than_the_ring_was_made_for_are_refused(random_model):
    model, cache = random_model(WINDOW), KVCache(WINDOW, chunk=2, dtype=torch.float64)
    with pytest.raises(LessonsError, match="3 tokens at once into a cache made for chunks of 2"):
        model(texts(1, 3), cache)


@pytest.mark.parametrize("given", ["positions", "mask"])
def test_positions_and_mask_are_the_caches(random_model, given):
    values = {"positions": torch.arange(3), "mask": torch.ones(3, 3, dtype=torch.bool)}
    cache = KVCache(BASE, dtype=torch.float64)
    with pytest.raises(LessonsError, match="positions and mask are the cache's own"):
        random_model(BASE)(texts(1, 3), cache, **{given: values[given]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0 is below 1"),
        ({"capacity": 0}, "capacity = 0 is below 1"),
        ({"capacity": 15}, "capacity = 15, but this model's cache serves 14"),
        ({"chunk": 0}, "chunk = 0 is below 1"),
    ],
)
def test_a_cache_that_can_not_be_is_refused(options, message):
    with pytest.raises(LessonsError, match=message):
        KVCache(BASE, **options)
