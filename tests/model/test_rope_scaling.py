"""Every kind of RoPE scaling against transformers' own functions, and the properties it is for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import (
    apply_rope,
    dynamic_theta,
    rope_frequencies,
    rope_table,
    scale_like_llama3,
    scale_like_yarn,
)

TRAINED = 64  # original_context_length of most tests
KINDS = ("linear", "dynamic", "llama3", "yarn")


def scaling_of(kind, factor=4.0, trained=TRAINED, **options):
    length = None if kind == "linear" else trained
    return RopeScaling(kind, factor, length, **options)


def llama_config(head_dim, theta, scaling, trained=TRAINED):
    """The same choices as a LlamaConfig. "dynamic" starts from `max_position_embeddings`."""
    fast = scaling.beta_fast
    parameters = {
        "linear": {},
        "dynamic": {},
        "llama3": {"low_freq_factor": scaling.beta_slow, "high_freq_factor": fast or 4.0},
        "yarn": {"beta_slow": scaling.beta_slow, "beta_fast": fast or 32.0},
    }[scaling.kind]
    if scaling.kind in ("llama3", "yarn"):
        parameters["original_max_position_embeddings"] = trained
    if scaling.attention_factor is not None:
        parameters["attention_factor"] = scaling.attention_factor
    longer = trained if scaling.kind == "dynamic" else int(trained * scaling.factor)
    return LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=longer,
        rope_parameters={
            "rope_type": scaling.kind,
            "rope_theta": theta,
            "factor": scaling.factor,
            **parameters,
        },
    )


def by_transformers(head_dim, theta, scaling, n_tokens, trained=TRAINED):
    config = llama_config(head_dim, theta, scaling, trained)
    return ROPE_INIT_FUNCTIONS[scaling.kind](config, seq_len=n_tokens)


def assert_equals_transformers(head_dim, theta, scaling, n_tokens, trained=TRAINED):
    expected, expected_size = by_transformers(head_dim, theta, scaling, n_tokens, trained)
    frequencies, size = rope_frequencies(head_dim, theta, scaling, n_tokens)
    # Both work in float32, and powers of large bases cost it a few of its last digits.
    torch.testing.assert_close(frequencies, expected, rtol=3e-6, atol=0)
    assert size == pytest.approx(expected_size, rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 2.5, 32.0])
@pytest.mark.parametrize("theta", [100.0, 10_000.0, 500_000.0])
@pytest.mark.parametrize("head_dim", [4, 10, 64, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind, head_dim, theta, factor):  # SPEC A3, G5
    scaling = scaling_of(kind, factor, trained=2048)
    for n_tokens in (1, 2048, 2049, 65_536):
        assert_equals_transformers(head_dim, theta, scaling, n_tokens, trained=2048)


@pytest.mark.parametrize("n_tokens", [1, 63, 64, 65, 100, 256, 4096, 1_000_000])
@pytest.mark.parametrize("factor", [1.0, 2.0, 8.0])
def test_dynamic_far_past_the_trained_length(n_tokens, factor):  # SPEC A3
    assert_equals_transformers(32, 10_000.0, scaling_of("dynamic", factor), n_tokens)


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
@pytest.mark.parametrize(("slow", "fast"), [(1.0, 4.0), (0.5, 2.0), (2.0, 64.0), (8.0, 8.5)])
@pytest.mark.parametrize("trained", [64, 8192])
def test_thresholds_equal_transformers(kind, slow, fast, trained):  # SPEC A3
    scaling = scaling_of(kind, 8.0, trained, beta_slow=slow, beta_fast=fast)
    assert_equals_transformers(64, 10_000.0, scaling, trained, trained)


@pytest.mark.parametrize("attention_factor", [None, 0.5, 1.0, 1.7])
def test_attention_factor_equals_transformers(attention_factor):  # SPEC A3
    scaling = scaling_of("yarn", 16.0, attention_factor=attention_factor)
    assert_equals_transformers(64, 10_000.0, scaling, TRAINED)
    _, size = rope_frequencies(64, scaling=scaling)
    assert size == (attention_factor or pytest.approx(0.1 * math.log(16) + 1))


def test_a_yarn_ramp_of_no_width_equals_transformers():  # SPEC A3
    # 6 tokens are a little less than a turn of pair 0: the ramp starts and ends there.
    scaling = scaling_of("yarn", 4.0, trained=6)
    assert_equals_transformers(64, 10_000.0, scaling, 6, trained=6)
    plain, _ = rope_frequencies(64)
    expected = torch.cat([plain[:1], plain[1:] / 4])
    torch.testing.assert_close(rope_frequencies(64, scaling=scaling)[0], expected)


def test_a_yarn_ramp_past_the_last_pair_equals_transformers():  # SPEC A3
    # With theta 2 and 32,768 tokens even the last of 4 pairs makes hundreds of turns.
    scaling = scaling_of("yarn", 4.0, trained=32_768)
    assert_equals_transformers(8, 2.0, scaling, 32_768, trained=32_768)


@given(
    kind=st.sampled_from(KINDS),
    half=st.integers(2, 80),
    theta=st.floats(2.0, 5e6),
    factor=st.floats(1.0, 64.0),
    trained=st.integers(16, 32_768),
    times=st.floats(0.1, 50.0),
)
def test_equals_transformers_everywhere(kind, half, theta, factor, trained, times):  # SPEC A3
    n_tokens = max(1, int(trained * times))
    scaling = scaling_of(kind, factor, trained)
    assert_equals_transformers(2 * half, theta, scaling, n_tokens, trained)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tokens", [TRAINED, 16 * TRAINED])
def test_tables_equal_those_of_transformers_llama(kind, n_tokens):  # SPEC A3, G5
    scaling = scaling_of(kind, 4.0)
    config = llama_config(32, 10_000.0, scaling)
    positions = torch.arange(n_tokens)
    x = torch.zeros(1, n_tokens, 1)
    cos, sin = LlamaRotaryEmbedding(config)(x, positions[None])
    ours = rope_table(positions, 32, 10_000.0, scaling)
    # Hugging Face repeats the table for both halves of a head. 1024 tokens round to about 1e-4.
    for mine, theirs in zip(ours, (cos, sin), strict=True):
        torch.testing.assert_close(torch.cat([mine, mine], -1), theirs[0], rtol=0, atol=3e-4)


def test_by_hand():  # SPEC A3
    # Width 4, theta 10,000: 1 and 0.01 radians per token. Trained on 2π * 100 = 628 tokens, the
    # pairs make 100 turns and 1 turn: one is left alone, one is at the very end of the ramp.
    plain, size = rope_frequencies(4)
    assert plain.tolist() == pytest.approx([1.0, 0.01])
    assert size == 1.0
    assert rope_frequencies(4, scaling=scaling_of("linear", 8.0))[0].tolist() == pytest.approx(
        [1 / 8, 0.01 / 8]
    )
    # 628 tokens make 0.9995 turns: less than one, so fully slowed.
    llama3 = scale_like_llama3(plain, scaling_of("llama3", 8.0, trained=628))
    assert llama3.tolist() == pytest.approx([1.0, 0.01 / 8])
    # Half way between 1 and 4 turns, at 2.5, half is kept: 0.5 + 0.5 / 8 = 0.5625.
    trained = round(2.5 * 2 * math.pi / 0.01)
    llama3 = scale_like_llama3(plain, scaling_of("llama3", 8.0, trained=trained))
    assert llama3.tolist() == pytest.approx([1.0, 0.005625], rel=1e-3)
    # Twice the trained length with factor 1: a theta (2)**(4 / 2) = 4 times as large.
    assert dynamic_theta(10_000.0, 4, scaling_of("dynamic", 1.0), 2 * TRAINED) == 40_000.0
    assert dynamic_theta(10_000.0, 4, scaling_of("dynamic", 1.0), TRAINED) == 10_000.0


def test_llama_3_2_keeps_and_slows_the_pairs_it_should():  # SPEC G5
    # Published: factor 32, thresholds 1 and 4 turns in 8,192 tokens, theta 500,000, width 64.
    plain, _ = rope_frequencies(64, 500_000.0)
    scaled = scale_like_llama3(plain, scaling_of("llama3", 32.0, 8192))
    times_slower = plain / scaled
    turns = 8192 * plain / (2 * math.pi)
    assert torch.equal(scaled[turns > 4], plain[turns > 4])
    assert int((turns > 4).sum()) == 15
    torch.testing.assert_close(times_slower[turns < 1], torch.full([14], 32.0))
    between = times_slower[(turns >= 1) & (turns <= 4)]
    assert bool(((between > 1) & (between < 32)).all())
    assert bool((between.diff() > 0).all())


@given(
    kind=st.sampled_from(KINDS),
    half=st.integers(2, 64),
    theta=st.floats(10.0, 1e6),
    factor=st.floats(1.0, 64.0),
    trained=st.integers(16, 16_384),
    n_tokens=st.integers(1, 200_000),
)
def test_nothing_turns_faster_and_order_stays(
    kind, half, theta, factor, trained, n_tokens
):  # SPEC A3
    plain, _ = rope_frequencies(2 * half, theta, dtype=torch.float64)
    scaled, size = rope_frequencies(
        2 * half, theta, scaling_of(kind, factor, trained), n_tokens, dtype=torch.float64
    )
    assert bool((scaled <= plain * (1 + 1e-12)).all())  # scaling only ever slows
    assert bool((scaled > 0).all())
    assert bool((scaled.diff() <= 1e-15).all())  # earlier pairs stay the faster ones
    assert size >= 1.0
    if kind in ("linear", "llama3", "yarn"):
        assert bool((scaled >= plain / factor * (1 - 1e-12)).all())  # and never by more than that


@given(
    kind=st.sampled_from(["linear", "llama3", "yarn"]),
    half=st.integers(1, 64),
    theta=st.floats(10.0, 1e6),
    n_tokens=st.integers(1, 100_000),
)
def test_a_factor_of_1_changes_nothing(kind, half, theta, n_tokens):  # SPEC A3
    plain, _ = rope_frequencies(2 * half, theta, dtype=torch.float64)
    scaling = scaling_of(kind, 1.0, TRAINED)
    scaled, size = rope_frequencies(2 * half, theta, scaling, n_tokens, dtype=torch.float64)
    torch.testing.assert_close(scaled, plain, rtol=1e-12, atol=0)
    assert size == 1.0


@given(n_tokens=st.integers(1, TRAINED), factor=st.floats(1.0, 64.0))
def test_dynamic_leaves_texts_of_the_trained_length_alone(n_tokens, factor):  # SPEC A3
    scaled, size = rope_frequencies(16, scaling=scaling_of("dynamic", factor), n_tokens=n_tokens)
    assert torch.equal(scaled, rope_frequencies(16)[0])
    assert size == 1.0


@given(n_tokens=st.integers(TRAINED + 1, 100_000))
def test_dynamic_keeps_the_fastest_pair_and_slows_the_slowest_most(n_tokens):  # SPEC A3
    plain, _ = rope_frequencies(16, dtype=torch.float64)
    scaling = scaling_of("dynamic", 1.0)
    scaled, _ = rope_frequencies(16, scaling=scaling, n_tokens=n_tokens, dtype=torch.float64)
    times_slower = plain / scaled
    assert times_slower[0] == 1.0
    assert bool((times_slower.diff() > 0).all())
    # With factor 1 the last pair makes as many turns in the long text as in the trained one.
    assert times_slower[-1].item() == pytest.approx(n_tokens / TRAINED, rel=1e-9)


def test_linear_scaling_is_the_same_as_closer_positions():  # SPEC A3
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=generator, dtype=torch.float64)
    positions = torch.arange(256, dtype=torch.float64)
    scaled = apply_rope(x, positions, scaling=scaling_of("linear", 4.0))
    torch.testing.assert_close(scaled, apply_rope(x, positions / 4), rtol=0, atol=1e-12)


def test_the_attention_factor_multiplies_every_score():  # SPEC A3
    scaling = scaling_of("yarn", 8.0, attention_factor=1.5)
    unscaled = scaling_of("yarn", 8.0, attention_factor=1.0)
    q, k = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = [
        apply_rope(q, torch.arange(5.0), scaling=s) @ apply_rope(k, torch.arange(5.0), scaling=s).T
        for s in (scaling, unscaled)
    ]
    torch.testing.assert_close(scores[0], 1.5**2 * scores[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_uses_its_scaling(kind):  # SPEC A3
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 1, "d_ff": 16}
    tokens = torch.randint(9, (1, 32), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    plain = Decoder(ModelConfig(9, 32, **sizes))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    scaled = Decoder(ModelConfig(9, 32, rope_scaling=scaling_of(kind, 4.0, trained=8), **sizes))
    scaled.load_state_dict(plain.state_dict())
    difference = (scaled(tokens) - plain(tokens)).abs()[0]
    assert difference[-1].max() > 1e-3
    short = (scaled(tokens[:, :8]) - plain(tokens[:, :8])).abs().max()
    assert (short < 1e-6) == (kind == "dynamic")  # the others change short texts as well


def test_dynamic_scaling_refuses_heads_of_one_pair():  # SPEC S7
    with pytest.raises(LessonsError, match="width 2"):
        rope_frequencies(2, scaling=scaling_of("dynamic"), n_tokens=100)


def test_yarn_functions_agree():  # SPEC A3
    plain, _ = rope_frequencies(16)
    scaling = scaling_of("yarn", 4.0)
    expected, size = rope_frequencies(16, scaling=scaling)
    frequencies, attention_factor = scale_like_yarn(plain, 10_000.0, scaling)
    assert torch.equal(frequencies, expected)
    assert attention_factor == size == pytest.approx(0.1 * math.log(4) + 1)
