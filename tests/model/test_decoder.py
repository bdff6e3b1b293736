"""The whole model against a second one, written with loops; what it may see; what is idle."""

import copy
import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.attention import (
    batched_attend,
    blocked_attend,
    causal_mask,
    fused_attend,
)
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.loss import cross_entropy

SMALL = {"vocab_size": 20, "context_length": 12, "n_layers": 2, "d_ff": 7}
CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "norms": ModelConfig(**SMALL, d_model=4, n_heads=2),
    "three heads": ModelConfig(**SMALL, d_model=12, n_heads=3, rope_theta=77.0),
    "half a norm": ModelConfig(**SMALL, d_model=18, n_heads=1, adaptive_norm=True, norm_eps=0.01),
    "three layers": ModelConfig(**{**SMALL, "n_layers": 3}, d_model=8, n_heads=2),
    "values turned": ModelConfig(**SMALL, d_model=8, n_heads=2, rope_v_scale=0.7),
}
# Each line changes one field of the base; test_each_field_is_used proves that none is ignored.
BASE = ModelConfig(**SMALL, d_model=24, n_heads=4)
CHANGES = {
    "n_kv_heads": {"n_kv_heads": 2},
    "one kv head": {"n_kv_heads": 1},
    "head_dim": {"head_dim": 10},
    "rope_theta": {"rope_theta": 77.0},
    "rope_v_scale": {"rope_v_scale": 0.4},
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "none": {"position": "none"},
    "norm": {"norm": "rms"},
    "norm_eps": {"norm_eps": 0.1},
    "norm_placement": {"norm_placement": "post"},
    "adaptive_norm": {"adaptive_norm": True},
    "gelu": {"ffn": "gelu"},
    "swiglu": {"ffn": "swiglu"},
    "bias": {"bias": False},
    "qkv_bias": {"qkv_bias": False},
    "head_bias": {"head_bias": False},
    "qk_norm": {"qk_norm": True},
    "qk_norm, rms": {"qk_norm": True, "norm": "rms"},
    "tie_embeddings": {"tie_embeddings": True},
    "scale_embeddings": {"scale_embeddings": True},
    "sliding_window": {"sliding_window": 3},
    "rope_scaling": {"rope_scaling": RopeScaling("linear", factor=3.0)},
}
CONFIGS |= {name: replace(BASE, **change) for name, change in CHANGES.items()}


def reference_logits(model, tokens, positions=None, sees=None):
    """One text (T,) -> (T, V), written from the formulas: loops over heads, queries and keys."""
    config, w = model.config, model.state_dict()
    n_tokens, d_model = len(tokens), config.d_model
    d = config.head_dim or d_model // config.n_heads
    group = config.n_heads // (config.n_kv_heads or config.n_heads)
    window = config.sliding_window or n_tokens
    sees = sees or (lambda t, s: 0 <= t - s < window)
    positions = range(n_tokens) if positions is None else [float(p) for p in positions]
    rates = [config.rope_theta ** (-2 * j / d) for j in range(d // 2)]
    rates = torch.tensor(rates, dtype=torch.float64)
    fade = min(max((d_model - 4) / 28, 0), 1) if config.adaptive_norm else 1

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def norm(x, name):
        if config.norm == "rms":
            size = (x * x).mean(dim=-1, keepdim=True) + config.norm_eps
            normed = x / size**0.5 * w[f"{name}.weight"]
        else:
            weights = w[f"{name}.weight"], w[f"{name}.bias"]
            normed = functional.layer_norm(x, x.shape[-1:], *weights, config.norm_eps)
        return fade * normed + (1 - fade) * x

    def turn(x, t):
        if config.position != "rope":
            return x
        turned = torch.complex(x[: d // 2], x[d // 2 :]) * torch.exp(1j * rates * positions[t])
        return torch.cat([turned.real, turned.imag])

    def attention(x, name):
        rows = linear(x, f"{name}.qkv")
        n_heads, n_kv = config.n_heads, config.n_heads // group
        heads = [rows[:, d * i : d * (i + 1)] for i in range(n_heads + 2 * n_kv)]
        results = []
        for head in range(n_heads):
            q, k = heads[head], heads[n_heads + head // group]
            v = heads[n_heads + n_kv + head // group]
            if config.qk_norm:
                q, k = norm(q, f"{name}.q_norm"), norm(k, f"{name}.k_norm")
            gathered = torch.zeros_like(q)
            for t in range(n_tokens):
                seen = [s for s in range(n_tokens) if sees(t, s)]
                query = turn(q[t], t)
                scores = [query @ turn(k[s], s) / math.sqrt(d) for s in seen]
                powers = [(score - max(scores)).exp() for score in scores]
                for s, power in zip(seen, powers, strict=True):
                    value = v[s] + config.rope_v_scale * (turn(v[s], s) - v[s])
                    gathered[t] += power / sum(powers) * value
            results.append(gathered)
        return linear(torch.cat(results, dim=-1), f"{name}.out")

    def feedforward(x, name):
        up = linear(x, f"{name}.up")
        if config.ffn == "relu":
            hidden = up.clamp(min=0)
        elif config.ffn == "gelu":
            hidden = up / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        else:
            gate = linear(x, f"{name}.gate")
            hidden = gate / (1 + torch.exp(-gate)) * up
        return linear(hidden, f"{name}.down")

    x = w["embedding.weight"][tokens]
    if config.scale_embeddings:
        x = x * math.sqrt(d_model)
    for t in range(n_tokens):
        if config.position == "learned":
            x[t] = x[t] + w["position_embedding.weight"][int(positions[t])]
        if config.position == "sinusoidal":
            angles = [positions[t] / 10_000 ** (2 * j / d_model) for j in range(d_model // 2)]
            waves = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
            x[t] = x[t] + torch.tensor(waves, dtype=torch.float64)
    for i in range(config.n_layers):
        for layer, name in ((attention, "attention"), (feedforward, "feedforward")):
            place = f"blocks.{i}.{name}"
            if config.norm_placement == "pre":
                x = x + layer(norm(x, f"{place}_norm"), place)
            else:
                x = norm(x + layer(x, place), f"{place}_norm")
    if config.norm_placement == "pre":
        x = norm(x, "final_norm")
    head = w["embedding.weight"] if config.tie_embeddings else w["head.weight"]
    return x @ head.T + w.get("head.bias", 0)


def random_tokens(config, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, shape, generator=generator)


def exact_positions(n_tokens, first=0):
    """Positions in float64, so that the angles are, too."""
    return torch.arange(first, first + n_tokens, dtype=torch.float64)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_a_second_implementation(random_model, config):  # SPEC F1, F2, F3, A3, E1
    model = random_model(config)
    tokens = random_tokens(config, 2, config.context_length)
    positions = exact_positions(config.context_length)
    if config.position == "learned":
        positions = positions.long()
    got = model(tokens, positions=positions)
    # The second implementation knows no scaling: linear scaling is a division of positions.
    divided = positions / (config.rope_scaling.factor if config.rope_scaling else 1)
    for row in range(2):
        expected = reference_logits(model, tokens[row], divided)
        torch.testing.assert_close(got[row], expected, rtol=1e-10, atol=1e-10)
    # Without explicit positions the angles are float32, and the rest is the same.
    torch.testing.assert_close(model(tokens), got, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_field_is_used(random_model, change):
    """The same numbers under a changed field: other logits, or other tensors."""
    base, changed = random_model(BASE), random_model(replace(BASE, **change))
    shapes = [{n: t.shape for n, t in model.state_dict().items()} for model in (base, changed)]
    if shapes[0] == shapes[1]:
        changed.load_state_dict(base.state_dict())
        tokens = random_tokens(BASE, 1, 12)
        assert (base(tokens) - changed(tokens)).abs().max().item() > 1e-3
    else:
        assert shapes[0].keys() != shapes[1].keys() or change.keys() & {"n_kv_heads", "head_dim"}


def test_every_field_has_its_line():
    sizes = {"vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "dropout"}
    changed = {field for change in CHANGES.values() for field in change}
    assert changed | sizes | {"position", "ffn"} == {field.name for field in fields(ModelConfig)}


@given(data=st.data())
def test_any_mixture_equals_the_second_implementation(data):  # SPEC A3, E1
    """Options that are right alone can still be wrong together."""
    draw = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    position = draw("rope", "learned", "sinusoidal", "none")
    config = ModelConfig(
        11,
        7,
        d_model=12,
        n_layers=2,
        n_heads=4,
        d_ff=5,
        n_kv_heads=draw(None, 1, 2, 4),
        head_dim=draw(6, 10),
        position=position,
        rope_v_scale=draw(0.0, 0.5) if position == "rope" else 0.0,
        norm=draw("layer", "rms"),
        norm_placement=draw("pre", "post"),
        adaptive_norm=draw(False, True),
        ffn=draw("relu", "gelu", "swiglu"),
        bias=draw(False, True),
        qkv_bias=draw(None, False, True),
        head_bias=draw(False, True),
        qk_norm=draw(False, True),
        tie_embeddings=draw(False, True),
        scale_embeddings=draw(False, True),
        sliding_window=draw(None, 1, 3),
    )
    model = Decoder(config).double().eval()
    generator = torch.Generator().manual_seed(draw(0, 1, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    tokens = random_tokens(config, 1, 7)
    positions = torch.arange(7) if position == "learned" else exact_positions(7)
    expected = reference_logits(model, tokens[0], positions)
    torch.testing.assert_close(
        model(tokens, positions=positions)[0], expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("config", [BASE, CONFIGS["sliding_window"]], ids=["all", "window"])
@pytest.mark.parametrize("other", [batched_attend, fused_attend, blocked_attend])
def test_another_way_to_attend_gives_the_same(random_model, config, other):  # SPEC A3, G3
    model = random_model(config)
    faster = Decoder(config, attend=other).double().eval()
    faster.load_state_dict(model.state_dict())
    tokens = random_tokens(config, 2, 12)
    expected = model(tokens)
    torch.testing.assert_close(faster(tokens), expected, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize(
    ("tokens", "where", "what"),
    [
        (torch.tensor([[3, 256]]), "vocab_size", "token 256 is not from 0 to 255"),
        (torch.tensor([[3, -1, 300]]), "vocab_size", "token -1 is not from 0 to 255"),
        (torch.tensor([[3.0, 1.0]]), "tokens", "not a tensor of integers, but tensor([[3., 1.]])"),
        (torch.tensor([[True]]), "tokens", "not a tensor of integers, but tensor([[True]])"),
        ([[1, 2]], "tokens", "not a tensor of integers, but [[1, 2]]"),
        ("hello", "tokens", "not a tensor of integers, but 'hello'"),
        (torch.tensor([3, 1]), "tokens", "tokens have the shape (2,), not (batch, tokens)"),
    ],
)
def test_bad_tokens_are_named(tokens, where, what):
    with pytest.raises(LessonsError) as caught:
        Decoder(preset("fluctlight"))(tokens)
    assert (caught.value.where, caught.value.what) == (where, what)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32])
@pytest.mark.parametrize("position", ["rope", "learned"])
def test_tokens_may_have_the_type_of_a_token_file(random_model, position, dtype):
    model = random_model(replace(BASE, position=position))
    tokens, positions = torch.tensor([[3, 1, 19]]), torch.tensor([2, 3, 4])
    expected = model(tokens, positions=positions)
    assert torch.equal(model(tokens.to(dtype), positions=positions.to(dtype)), expected)
    with pytest.raises(LessonsError, match="token 20 is not from 0 to 19"):
        model(torch.tensor([[20]]).to(dtype))


@pytest.mark.parametrize("position", ["rope", "learned", "sinusoidal"])
def test_positions_that_are_no_tensor_are_named(random_model, position):
    model = random_model(replace(BASE, position=position))
    with pytest.raises(LessonsError, match=r"not a tensor of integers, but \[0, 1\] \(positions"):
        model(torch.tensor([[1, 2]]), positions=[0, 1])


def test_a_learned_table_has_an_end(random_model):
    model = random_model(CONFIGS["learned"])
    with pytest.raises(LessonsError) as caught:
        model(torch.tensor([[1, 2]]), positions=torch.tensor([11, 12]))
    assert caught.value.what == "position 12 is not from 0 to 11"
    assert caught.value.where == "context_length"


def test_the_head_and_the_embedding_are_one_tensor():  # SPEC E2
    config = replace(BASE, tie_embeddings=True, head_bias=False)
    model = Decoder(config)
    assert model.head.weight is model.embedding.weight
    difference = count_parameters(Decoder(replace(config, tie_embeddings=False)))
    assert difference - count_parameters(model) == 20 * 24
    model(torch.tensor([[1, 2]])).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.head.weight is model.embedding.weight
    copied = copy.deepcopy(model)  # what torch does on .to(), pickling and copying
    assert copied.head.weight is copied.embedding.weight


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


@pytest.mark.parametrize("position", ["rope", "learned", "sinusoidal", "none"])
def test_each_text_of_a_batch_can_have_its_own_positions_and_mask(random_model, position):
    """As two documents in one window need it; see `text.packing`."""
    config = replace(BASE, position=position, n_kv_heads=2)
    model = random_model(config)
    tokens = random_tokens(config, 2, 6)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 3, 4]])
    documents = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    masks = (documents[:, :, None] == documents[:, None, :]).tril()
    together = model(tokens, positions=positions, mask=masks[:, None])
    for row in range(2):
        alone = model(tokens[row : row + 1], positions=positions[row], mask=masks[row])[0]
        torch.testing.assert_close(together[row], alone, rtol=1e-10, atol=1e-10)
        for number in (0, 1):  # and each document as if there were no other
            part = documents[row] == number
            document = model(tokens[row : row + 1, part])[0]
            torch.testing.assert_close(together[row, part], document, rtol=1e-4, atol=1e-4)


def test_a_printed_model_says_what_is_in_it():
    lines = [line.strip() for line in str(Decoder(preset("fluctlight"))).split("\n")]
    sizes = "vocab_size=256, context_length=16, d_model=4, n_layers=2, n_heads=2, d_ff=8"
    assert lines[1] == f"{sizes}, adaptive_norm=True"
    assert "(embedding): Embedding(256, 4)" in lines
    assert lines.count("(attention_norm): LayerNorm((4,), eps=1e-05, scale=0.0)") == 1  # of two
    assert "n_heads=2, n_kv_heads=2, head_dim=2, attend=attend" in lines
    assert "activation=relu" in lines


def test_a_printed_llama_is_another_one():
    config = replace(BASE, norm="rms", ffn="swiglu", n_kv_heads=2, scale_embeddings=True)
    printed = str(Decoder(replace(config, norm_placement="post", dropout=0.1), fused_attend))
    assert "n_heads=4, n_kv_heads=2, head_dim=6, attend=fused_attend" in printed
    assert "RMSNorm((24,), eps=1e-05, scale=1.0)" in printed
    assert "Embedding(20, 24, scale=4.899)" in printed
    assert "activation=swiglu" in printed
    assert "norm_placement='post'" in printed
    assert "activation=gelu" in str(Decoder(replace(BASE, ffn="gelu")))
