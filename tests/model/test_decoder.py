"""The whole model against a second one, written with loops; what it may see; what is idle."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from transformer_lessons.config import ModelConfig, preset
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.loss import cross_entropy

SMALL = {"vocab_size": 20, "context_length": 12, "n_layers": 2, "d_ff": 7}
CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "norms": ModelConfig(**SMALL, d_model=4, n_heads=2),
    "three heads": ModelConfig(**SMALL, d_model=12, n_heads=3, rope_base=77.0),
    "half a norm": ModelConfig(**SMALL, d_model=18, n_heads=1, adaptive_norm=True, norm_eps=0.01),
    "three layers": ModelConfig(**{**SMALL, "n_layers": 3}, d_model=8, n_heads=2),
    "values turned": ModelConfig(**SMALL, d_model=8, n_heads=2, rope_v_scale=0.7),
}


def reference_logits(model, tokens, positions=None, sees=lambda t, s: s <= t):
    """One text (T,) -> (T, V), written from the formulas: loops over heads, queries and keys."""
    config, w = model.config, model.state_dict()
    d_model, d, n_tokens = config.d_model, config.d_model // config.n_heads, len(tokens)
    positions = range(n_tokens) if positions is None else positions
    rates = [config.rope_base ** (-2 * j / d) for j in range(d // 2)]
    rates = torch.tensor(rates, dtype=torch.float64)
    fade = min(max((d_model - 4) / 28, 0), 1) if config.adaptive_norm else 1

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        normed = functional.layer_norm(x, (d_model,), weight, bias, config.norm_eps)
        return fade * normed + (1 - fade) * x

    def turn(x, t):
        turned = torch.complex(x[: d // 2], x[d // 2 :]) * torch.exp(1j * rates * positions[t])
        return torch.cat([turned.real, turned.imag])

    def attention(x, name):
        q, k, v = linear(x, f"{name}.qkv").split(d_model, dim=-1)
        gathered = torch.zeros_like(x)
        for first in range(0, d_model, d):
            head = slice(first, first + d)
            for t in range(n_tokens):
                seen = [s for s in range(n_tokens) if sees(t, s)]
                query = turn(q[t, head], t)
                powers = [(query @ turn(k[s, head], s) / math.sqrt(d)).exp() for s in seen]
                for s, power in zip(seen, powers, strict=True):
                    value = v[s, head]
                    value = value + config.rope_v_scale * (turn(value, s) - value)
                    gathered[t, head] += power / sum(powers) * value
        return linear(gathered, f"{name}.out")

    x = w["embedding.weight"][tokens]
    for i in range(config.n_layers):
        block = f"blocks.{i}"
        x = x + attention(norm(x, f"{block}.attention_norm"), f"{block}.attention")
        hidden = linear(norm(x, f"{block}.feedforward_norm"), f"{block}.feedforward.up")
        x = x + linear(hidden.clamp(min=0), f"{block}.feedforward.down")
    return linear(norm(x, "final_norm"), "head")


def random_tokens(config, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, shape, generator=generator)


def exact_positions(n_tokens, first=0):
    """Positions in float64, so that the angles are, too."""
    return torch.arange(first, first + n_tokens, dtype=torch.float64)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_a_second_implementation(random_model, config):  # SPEC F1, F2, F3
    model = random_model(config)
    tokens = random_tokens(config, 3, config.context_length)
    got = model(tokens, positions=exact_positions(config.context_length))
    for row in range(3):
        expected = reference_logits(model, tokens[row])
        torch.testing.assert_close(got[row], expected, rtol=1e-10, atol=1e-10)
    # Without explicit positions the angles are float32, and the rest is the same.
    torch.testing.assert_close(model(tokens), got, rtol=1e-4, atol=1e-4)


def test_positions_and_mask_are_used(random_model):
    config = CONFIGS["three heads"]
    model = random_model(config)
    tokens = random_tokens(config, 1, 6)
    positions = torch.tensor([3, 0, 8, 8, 1, 20], dtype=torch.float64)
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    mask |= torch.eye(6, dtype=torch.bool)
    got = model(tokens, positions=positions, mask=mask)[0]
    expected = reference_logits(model, tokens[0], positions, lambda t, s: bool(mask[t, s]))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_the_default_mask_and_positions_are_the_causal_ones(random_model):
    model = random_model(CONFIGS["three heads"])
    tokens = random_tokens(model.config, 2, 9)
    expected = model(tokens, positions=torch.arange(9), mask=causal_mask(9))
    assert torch.equal(model(tokens), expected)


@given(seed=st.integers(0, 50), changed=st.integers(0, 11), step=st.integers(1, 19))
def test_a_token_changes_nothing_before_it_and_everything_after(seed, changed, step):
    torch.manual_seed(seed)
    config = CONFIGS["three heads"]
    model = Decoder(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    tokens = random_tokens(config, 1, 12, seed=seed)
    other = tokens.clone()
    other[0, changed] = (other[0, changed] + step) % config.vocab_size
    difference = (model(tokens) - model(other))[0].abs().amax(dim=-1)
    assert difference[:changed].count_nonzero() == 0
    assert bool((difference[changed:] > 1e-9).all())


@pytest.mark.parametrize(("scale", "shift_matters"), [(0.0, False), (0.5, True), (1.0, True)])
def test_only_turned_values_know_where_the_text_starts(random_model, scale, shift_matters):
    # SPEC F2
    config = ModelConfig(**SMALL, d_model=8, n_heads=2, rope_v_scale=scale)
    model = random_model(config)
    tokens = random_tokens(config, 2, 10)
    here = model(tokens, positions=exact_positions(10))
    there = model(tokens, positions=exact_positions(10, first=7))
    difference = (here - there).abs().max().item()
    assert (difference > 0.1) if shift_matters else (difference < 1e-9)


def test_order_matters_to_the_model(random_model):
    model = random_model(CONFIGS["norms"])
    forwards, backwards = model(torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]]))
    assert (forwards[-1] - backwards[-1]).abs().max().item() > 1e-3


def test_a_text_alone_is_as_in_a_batch(random_model):
    model = random_model(CONFIGS["three heads"])
    tokens = random_tokens(model.config, 4, 9)
    for row, alone in enumerate(tokens):
        torch.testing.assert_close(model(tokens)[row], model(alone[None])[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_tokens", [0, 17, 100])
def test_the_context_is_enforced(n_tokens):  # SPEC F5
    model = Decoder(preset("fluctlight"))
    with pytest.raises(LessonsError) as caught:
        model(torch.zeros(1, n_tokens, dtype=torch.long))
    assert caught.value.what == f"{n_tokens} tokens, but this model looks at 1 to 16"
    assert caught.value.where == "context_length"


@pytest.mark.parametrize("n_tokens", [1, 16])
def test_the_whole_context_can_be_used(n_tokens):  # SPEC F5
    model = Decoder(preset("fluctlight"))
    assert model(torch.zeros(2, n_tokens, dtype=torch.long)).shape == (2, n_tokens, 256)


def idle_parameters(model):
    """The names of the parameters that a batch of random text does not move at all."""
    torch.manual_seed(0)
    tokens = random_tokens(model.config, 8, 11)
    cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).backward()
    return {name for name, p in model.named_parameters() if p.grad.count_nonzero() == 0}


def test_only_the_norms_of_fluctlight_are_idle():  # SPEC F3
    torch.manual_seed(0)
    model = Decoder(preset("fluctlight"))
    norms = {"blocks.0.attention_norm", "blocks.0.feedforward_norm", "blocks.1.attention_norm"}
    norms |= {"blocks.1.feedforward_norm", "final_norm"}
    expected = {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    assert idle_parameters(model) == expected
    assert sum(model.get_parameter(name).numel() for name in expected) == 40


def test_with_norms_on_every_parameter_learns():  # SPEC F3
    torch.manual_seed(0)
    assert idle_parameters(Decoder(CONFIGS["norms"])) == set()


def test_dropout_is_for_training_and_for_large_models_only():  # SPEC F4
    tokens = torch.arange(10)[None]
    for d_model, active in [(4, False), (32, True)]:
        torch.manual_seed(0)
        config = ModelConfig(**SMALL, d_model=d_model, n_heads=2, dropout=0.5)
        model = Decoder(config)
        quiet = model.eval()(tokens)
        assert torch.equal(model(tokens), quiet)
        assert torch.equal(model.train()(tokens), quiet) is not active
