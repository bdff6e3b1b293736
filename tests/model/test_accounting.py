"""Counting against the real thing: parameters, operations and bytes of real models and tensors."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.model.accounting import (
    count_parameters,
    flops_per_token,
    kv_bytes,
    parameter_counts,
    training_bytes,
)
from transformer_lessons.model.decoder import Decoder, attention_inputs
from transformer_lessons.presets import PRESETS, preset

PUBLISHED = {
    "fluctlight": 2_656,
    "gpt2": 124_439_808,
    "smollm2-135m": 134_515_008,
    "llama3.2-1b": 1_235_814_400,
}


def on_meta(config):
    """A decoder with the shapes of its tensors, and without their numbers."""
    with torch.device("meta"):
        return Decoder(config)


CHOICES = {
    "position": ["rope", "learned", "sinusoidal", "none"],
    "norm": ["layer", "rms"],
    "norm_placement": ["pre", "post"],
    "ffn": ["relu", "gelu", "swiglu"],
}
SWITCHES = ["adaptive_norm", "bias", "head_bias", "qk_norm", "tie_embeddings", "scale_embeddings"]


@st.composite
def configs(draw):
    """Every field of `ModelConfig` takes many values, together, as far as they go together."""
    small = st.integers(1, 5)
    position = draw(st.sampled_from(CHOICES["position"]))
    n_kv_heads, n_shared = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_heads, d_model = n_kv_heads * n_shared, draw(st.integers(1, 9)) * 2
    head_dim = 2 * draw(small) if position == "rope" else draw(small)
    if d_model % (n_heads * (2 if position == "rope" else 1)) == 0:
        head_dim = draw(st.sampled_from([None, head_dim]))
    scaling = st.sampled_from([None, RopeScaling("linear", 2.0), RopeScaling("llama3", 2.0, 8)])
    rope = position == "rope"
    return ModelConfig(
        vocab_size=draw(st.integers(1, 12)),
        context_length=draw(st.integers(2, 9)),
        d_model=d_model,
        n_layers=draw(st.integers(1, 3)),
        n_heads=n_heads,
        d_ff=draw(st.integers(1, 11)),
        n_kv_heads=draw(st.sampled_from([n_kv_heads, None])),
        head_dim=head_dim,
        position=position,
        rope_theta=draw(st.sampled_from([10.0, 10_000.0])),
        rope_scaling=draw(scaling) if rope else None,
        rope_v_scale=draw(st.sampled_from([0.0, 0.5])) if rope else 0.0,
        norm_eps=draw(st.sampled_from([1e-5, 1e-6])),
        sliding_window=draw(st.none() | st.integers(1, 9)),
        qkv_bias=draw(st.sampled_from([None, False, True])),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        **{name: draw(st.sampled_from(CHOICES[name])) for name in CHOICES if name != "position"},
        **{name: draw(st.booleans()) for name in SWITCHES},
    )


def test_the_configs_above_draw_every_field():
    drawn = {*CHOICES, *SWITCHES, "vocab_size", "context_length", "d_model", "n_layers", "n_heads"}
    drawn |= {"d_ff", "n_kv_heads", "head_dim", "qkv_bias", "dropout", "sliding_window"}
    drawn |= {"rope_theta", "rope_scaling", "rope_v_scale", "norm_eps"}
    assert {field.name for field in fields(ModelConfig)} == drawn


# --- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_counts(name, count):  # SPEC F1, E2, A3, G5
    assert count_parameters(on_meta(preset(name))) == count
    assert sum(parameter_counts(preset(name)).values()) == count


LLAMA_STYLE = {"context_length": 4096, "norm": "rms", "ffn": "swiglu", "bias": False}
LLAMA_STYLE |= {"head_bias": False}
SEVEN_BILLION = {"vocab_size": 32_000, "d_model": 4096, "n_layers": 32, "n_heads": 32}
QWEN2 = {"vocab_size": 151_936, "d_model": 896, "n_layers": 24, "n_heads": 14, "n_kv_heads": 2}
QWEN3 = {"vocab_size": 151_936, "d_model": 1024, "n_layers": 28, "n_heads": 16, "n_kv_heads": 8}
OTHERS = {  # the counts of transformers' own models with the published configurations
    "Llama 2 7B": (6_738_415_616, SEVEN_BILLION | {"d_ff": 11_008}),
    "Mistral 7B": (7_241_732_096, SEVEN_BILLION | {"d_ff": 14_336, "n_kv_heads": 8}),
    "Qwen2 0.5B": (494_032_768, QWEN2 | {"d_ff": 4864, "qkv_bias": True, "tie_embeddings": True}),
    "Qwen3 0.6B": (
        596_049_920,
        QWEN3 | {"d_ff": 3072, "head_dim": 128, "qk_norm": True, "tie_embeddings": True},
    ),
}


@pytest.mark.parametrize(("count", "values"), OTHERS.values(), ids=OTHERS)
def test_counts_of_models_that_are_not_presets(count, values):  # SPEC G5
    config = ModelConfig(**LLAMA_STYLE, **values)
    assert sum(parameter_counts(config).values()) == count
    assert count_parameters(on_meta(config)) == count


def test_where_the_2656_are():  # SPEC F1
    model = Decoder(preset("fluctlight"))
    assert count_parameters(model.embedding) == 256 * 4 == 1024
    for block in model.blocks:
        assert count_parameters(block.attention) == 4 * 12 + 12 + 4 * 4 + 4 == 80
        assert count_parameters(block.feedforward) == 4 * 8 + 8 + 8 * 4 + 4 == 76
        norms = [block.attention_norm, block.feedforward_norm]
        assert [count_parameters(norm) for norm in norms] == [8, 8]
    assert count_parameters(model.final_norm) == 4 + 4
    assert count_parameters(model.head) == 4 * 256 + 256 == 1280
    assert 1024 + 2 * (80 + 76 + 16) + 8 + 1280 == 2_656


def counts_by_name(model):
    """The parameters of a real model, each once, sorted into parts by the names they go by."""
    counts = dict.fromkeys(["embedding", "attention", "feed-forward", "norms", "head"], 0)
    for name, parameter in model.named_parameters():
        words = name.split(".")
        if any("norm" in word for word in words):
            part = "norms"  # those of queries and keys, inside of attention, too
        elif words[0] in ("embedding", "position_embedding"):
            part = "embedding"
        elif words[0] == "head":
            part = "head"
        else:
            part = {"attention": "attention", "feedforward": "feed-forward"}[words[2]]
        counts[part] += parameter.numel()
    return counts


@given(config=configs())
def test_every_part_of_every_config(config):  # SPEC F1, E1, E2, A3
    model = on_meta(config)
    assert parameter_counts(config) == counts_by_name(model)
    assert sum(parameter_counts(config).values()) == count_parameters(model)


@pytest.mark.parametrize("name", PRESETS)
def test_every_part_of_every_preset(name):  # SPEC F1, E1, E2, A3
    assert parameter_counts(preset(name)) == counts_by_name(on_meta(preset(name)))


def test_a_shared_tensor_counts_once():  # SPEC E2
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    assert count_parameters(model) == 40 + 36
    model[1].bias = nn.Parameter(model[1].bias.detach().clone())
    tied = nn.ModuleList([nn.Embedding(10, 4), nn.Linear(4, 10)])
    assert count_parameters(tied) == 40 + 50
    tied[1].weight = tied[0].weight
    assert count_parameters(tied) == 50


def test_tying_saves_one_matrix():  # SPEC E2
    tied = preset("gpt")
    untied = replace(tied, tie_embeddings=False)
    matrix = 100_277 * 256  # 25.7 million
    assert count_parameters(on_meta(untied)) - count_parameters(on_meta(tied)) == matrix
    assert parameter_counts(untied)["head"] == matrix
    assert parameter_counts(tied)["head"] == 0
    assert parameter_counts(tied)["embedding"] == matrix + 5000 * 256


# --- operations ------------------------------------------------------------------------------


def counted_flops(model, tokens, train=False):
    """What PyTorch counts while `model` runs: 2 n m k for each product that really happens."""
    with FlopCounterMode(display=False) as counter:
        logits = model(tokens)
        if train:
            logits.logsumexp(dim=-1).sum().backward()
    return counter.get_total_flops()


@given(config=configs(), batch=st.integers(1, 3), n_tokens=st.integers(2, 9))
def test_flops_are_those_of_a_real_forward_pass(config, batch, n_tokens):  # SPEC F1, A3
    # Plain attention multiplies all pairs and hides some afterwards, so its window saves nothing.
    config = replace(config, sliding_window=None)
    n_tokens = min(n_tokens, config.context_length)
    tokens = torch.zeros(batch, n_tokens, dtype=torch.long)
    expected = batch * n_tokens * sum(flops_per_token(config, n_tokens).values())
    assert counted_flops(Decoder(config), tokens) == expected


@pytest.mark.parametrize("name", ["fluctlight", "bytes-1m", "llama", "gpt2", "llama3.2-1b"])
def test_flops_of_presets_and_of_training_them(name):  # SPEC F1, E1, A3
    config = preset(name)
    tokens = torch.zeros(2, 16, dtype=torch.long, device="meta")
    model, expected = on_meta(config), 2 * 16 * sum(flops_per_token(config, 16).values())
    assert counted_flops(model, tokens) == expected
    assert counted_flops(model, tokens, train=True) == 3 * expected


def test_flops_part_by_part():
    sizes = {"d_model": 6, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 2, "d_ff": 5}
    config = ModelConfig(10, 8, **sizes, position="none", ffn="swiglu", tie_embeddings=True)
    assert flops_per_token(config, n_context=7) == {
        # per layer: 6 -> 8 queries, 6 -> 4 keys, 6 -> 4 values, 8 -> 6 out
        "attention matrices": 3 * 2 * (6 * 8 + 6 * 4 + 6 * 4 + 8 * 6),
        # per head 7 dot products of width 2, and 7 values of width 2 times their weight
        "scores and mixing": 3 * 4 * (2 * 7 * 2 + 2 * 7 * 2),
        "feed-forward": 3 * 2 * (6 * 5 + 6 * 5 + 5 * 6),
        "head": 2 * 6 * 10,
    }


def test_only_the_scores_depend_on_the_context_and_a_window_caps_them():
    config = replace(preset("llama"), sliding_window=100)
    at = {n: flops_per_token(config, n) for n in (1, 99, 100, 101, 5000)}
    for part in ("attention matrices", "feed-forward", "head"):
        assert len({counts[part] for counts in at.values()}) == 1
    one = at[1]["scores and mixing"]
    scores = [counts["scores and mixing"] for counts in at.values()]
    assert scores == [one, 99 * one, 100 * one, 100 * one, 100 * one]


# --- bytes -----------------------------------------------------------------------------------


@given(config=configs(), n_tokens=st.integers(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kv_bytes_are_those_of_real_keys_and_values(config, n_tokens, dtype):  # SPEC E3, A3
    config = replace(config, sliding_window=None)
    n_tokens = min(n_tokens, config.context_length)
    model = Decoder(config).to(dtype)
    tokens = torch.zeros(1, n_tokens, dtype=torch.long)
    positions, _, rope = attention_inputs(config, tokens)
    x, n_bytes = model.embed(tokens, positions).to(dtype), 0
    for block in model.blocks:
        _, k, v = block.attention.project(x, rope)
        n_bytes += k.numel() * k.element_size() + v.numel() * v.element_size()
    assert kv_bytes(config, n_tokens, dtype.itemsize) == n_bytes


def test_kv_bytes_by_hand():  # SPEC E3
    # 12 layers, a key and a value, 12 heads of 64 numbers, 2 bytes each
    assert kv_bytes(preset("gpt2"), n_tokens=1) == 12 * 2 * 12 * 64 * 2 == 36_864
    assert kv_bytes(preset("gpt2"), n_tokens=1024) == 1024 * 36_864
    # 16 layers, but only 8 heads keep keys and values
    assert kv_bytes(preset("llama3.2-1b"), n_tokens=1) == 16 * 2 * 8 * 64 * 2 == 32_768
    assert kv_bytes(preset("llama3.2-1b"), 1, bytes_per_number=4) == 65_536


def test_a_window_caps_what_is_kept():  # SPEC E3
    config = replace(preset("gpt2"), sliding_window=256)
    kept = [kv_bytes(config, n) // 36_864 for n in (1, 255, 256, 257, 1024)]
    assert kept == [1, 255, 256, 256, 256]


@pytest.mark.parametrize("name", ["fluctlight", "bytes-1m", "llama"])
def test_training_bytes_are_those_of_real_tensors(name):  # SPEC F1, A3
    model = Decoder(preset(name))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 2, dtype=torch.long)).logsumexp(dim=-1).sum().backward()
    optimizer.step()

    def n_bytes(tensors):
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    states = optimizer.state.values()
    averages = [state[key] for state in states for key in ("exp_avg", "exp_avg_sq")]
    assert training_bytes(preset(name)) == {
        "weights": n_bytes(model.parameters()),
        "gradients": n_bytes(p.grad for p in model.parameters()),
        "Adam's two averages": n_bytes(averages),
    }


def test_gpt2_needs_two_gigabytes_to_train():
    total = sum(training_bytes(preset("gpt2")).values())
    assert total == 16 * PUBLISHED["gpt2"]
    assert math.isclose(total, 1.99e9, rel_tol=0.01)
