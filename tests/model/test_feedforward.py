"""The feed-forward layers against formulas in float64, PyTorch's functions, transformers' MLPs."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.feedforward import (
    FeedForward,
    GatedFeedForward,
    gelu,
    make_feedforward,
    swiglu,
)
from transformer_lessons.presets import preset

KINDS = ("relu", "gelu", "swiglu")


def config_of(ffn, bias=True, d_model=3, d_ff=5):
    return ModelConfig(
        10, 8, d_model, n_layers=1, n_heads=1, d_ff=d_ff, head_dim=2, ffn=ffn, bias=bias
    )


def random_layer(ffn, bias=True):
    """A layer in float64 whose every weight and bias is a random number of size about 1."""
    layer = make_feedforward(config_of(ffn, bias)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    return layer


def random_x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def relu(x):
    return x if x > 0 else 0.0


def gelu_with_tanh(x):
    return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x):
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def silu(x):
    return x / (1 + math.exp(-x))


def product(linear, x):
    """A linear layer of one token (a list), one sum at a time."""
    biases = [0.0] * len(linear.weight) if linear.bias is None else linear.bias.tolist()
    rows = zip(linear.weight.tolist(), biases, strict=True)
    return [sum(w * number for w, number in zip(row, x, strict=True)) + b for row, b in rows]


def by_formula(layer, ffn, x):
    """What the layer should give for one token, a list of numbers, in plain Python."""
    up = product(layer.up, x)
    if ffn == "swiglu":
        hidden = [silu(g) * u for g, u in zip(product(layer.gate, x), up, strict=True)]
    else:
        hidden = [{"relu": relu, "gelu": gelu_with_tanh}[ffn](u) for u in up]
    return product(layer.down, hidden)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ffn", KINDS)
def test_equals_the_formula(ffn, bias):  # SPEC E1, A3
    layer, x = random_layer(ffn, bias), random_x(2, 4, 3)
    expected = [[by_formula(layer, ffn, token) for token in text] for text in x.tolist()]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ffn", KINDS)
def test_the_config_decides_sizes_and_biases(ffn):  # SPEC E1, A3
    matrices = {"up.weight": (5, 3), "down.weight": (3, 5)}
    biases = {"up.bias": (5,), "down.bias": (3,)}
    if ffn == "swiglu":
        matrices |= {"gate.weight": (5, 3)}
        biases |= {"gate.bias": (5,)}
    for bias, expected in ((False, matrices), (True, matrices | biases)):
        layer = make_feedforward(config_of(ffn, bias))
        assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == expected


def test_the_kind_of_layer():  # SPEC E1, A3
    assert [type(make_feedforward(config_of(ffn))) for ffn in KINDS] == [
        FeedForward,
        FeedForward,
        GatedFeedForward,
    ]


def test_the_presets_have_theirs():  # SPEC E1, A3
    with torch.device("meta"):
        gpt, llama = make_feedforward(preset("gpt")), make_feedforward(preset("llama"))
    gpt_shapes = {name: tuple(p.shape) for name, p in gpt.named_parameters()}
    assert gpt_shapes == {
        "up.weight": (1024, 256),
        "up.bias": (1024,),
        "down.weight": (256, 1024),
        "down.bias": (256,),
    }
    assert gpt.activation(torch.tensor(1.0)).item() == pytest.approx(gelu_with_tanh(1.0))
    llama_shapes = {name: tuple(p.shape) for name, p in llama.named_parameters()}
    assert llama_shapes == {
        "gate.weight": (688, 256),
        "up.weight": (688, 256),
        "down.weight": (256, 688),
    }


# --- one activation at a time ------------------------------------------------------------------


def test_relu_by_hand():
    layer = FeedForward(config_of("relu", d_model=2, d_ff=2))
    with torch.no_grad():
        layer.up.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))  # x and -x
        layer.up.bias.copy_(torch.tensor([0.0, -1.0]))
        layer.down.weight.copy_(torch.tensor([[1.0, 1.0], [10.0, 100.0]]))
        layer.down.bias.copy_(torch.tensor([0.5, 0.0]))
    x = torch.tensor([[2.0, 9.0], [-3.0, 9.0], [-0.5, 9.0]])
    expected = torch.tensor([[2.5, 20.0], [2.5, 200.0], [0.5, 0.0]])
    assert torch.equal(layer(x), expected)


def test_gelu_is_the_one_with_tanh():  # SPEC E1
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    got = FeedForward(config_of("gelu")).activation(x)
    with_tanh = torch.tensor([gelu_with_tanh(number) for number in x.tolist()]).double()
    torch.testing.assert_close(got, with_tanh, rtol=0, atol=1e-6)
    # The two forms of GELU are nowhere further apart than 0.000473, and there they are that far.
    exact = torch.tensor([exact_gelu(number) for number in x.tolist()], dtype=torch.float64)
    assert (got - exact).abs().max().item() == pytest.approx(0.000473, abs=1e-6)


def test_a_compiled_gelu_is_the_same_function():  # SPEC G3
    x = torch.linspace(-30, 30, 601, dtype=torch.float64).requires_grad_()
    got, expected = torch.compile(gelu, backend="eager")(x), gelu(x)
    assert not torch.equal(got, expected), "it is computed in another way"
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_swiglu_by_hand():  # SPEC A3
    # sigmoid(ln 3) = 3/4, and sigmoid(-ln 3) = 1/4.
    ln3 = math.log(3)
    gate = torch.tensor([ln3, -ln3, 0.0, ln3], dtype=torch.float64)
    up = torch.tensor([2.0, 2.0, 2.0, -1.0], dtype=torch.float64)
    expected = torch.tensor([1.5 * ln3, -0.5 * ln3, 0.0, -0.75 * ln3], dtype=torch.float64)
    torch.testing.assert_close(swiglu(gate, up), expected, rtol=0, atol=1e-12)


def test_the_slope_of_swiglu():  # SPEC A3
    gate, up = random_x(6).requires_grad_(), random_x(2, 6)[1].requires_grad_()
    swiglu(gate, up).sum().backward()
    s = torch.sigmoid(gate.detach())
    by_hand = up.detach() * (s + gate.detach() * s * (1 - s))
    torch.testing.assert_close(gate.grad, by_hand, rtol=0, atol=1e-12)
    torch.testing.assert_close(up.grad, gate.detach() * s, rtol=0, atol=1e-12)


def test_gate_and_up_are_not_interchangeable():  # SPEC A3
    layer = GatedFeedForward(config_of("swiglu", bias=False, d_model=1, d_ff=1)).double()
    with torch.no_grad():
        for name, value in (("gate", 1.0), ("up", 2.0), ("down", 1.0)):
            layer.get_submodule(name).weight.fill_(value)
    got = layer(torch.ones(1, dtype=torch.float64)).item()
    assert got == pytest.approx(silu(1.0) * 2.0, abs=1e-12)  # swapped, it would be silu(2) * 1
    assert abs(silu(1.0) * 2.0 - silu(2.0) * 1.0) > 0.2


def test_two_gates_compute_a_product_exactly():
    # silu(a) - silu(-a) = a, so two hidden numbers multiply two inputs.
    layer = GatedFeedForward(config_of("swiglu", bias=False, d_model=2, d_ff=2)).double()
    with torch.no_grad():
        layer.gate.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        layer.up.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        layer.down.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    x = random_x(20, 2)
    torch.testing.assert_close(layer(x)[:, 0], x.prod(dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ffn", KINDS)
def test_each_token_is_on_its_own(ffn):
    layer, x = random_layer(ffn), random_x(1, 4, 3)
    changed = x.clone()
    changed[0, 1] += 1.0
    before, after = layer(x), layer(changed)
    for token in (0, 2, 3):
        torch.testing.assert_close(before[0, token], after[0, token], rtol=0, atol=1e-12)
    assert (before[0, 1] - after[0, 1]).abs().max() > 0.1


# --- against transformers ----------------------------------------------------------------------


def test_equals_gpt2s_of_transformers():  # SPEC E1, G3
    ours = random_layer("gelu")
    theirs = GPT2MLP(5, GPT2Config(n_embd=3, resid_pdrop=0.0)).double()
    theirs.load_state_dict(
        {
            "c_fc.weight": ours.up.weight.T,  # GPT-2 keeps its matrices the other way round
            "c_fc.bias": ours.up.bias,
            "c_proj.weight": ours.down.weight.T,
            "c_proj.bias": ours.down.bias,
        }
    )
    x = random_x(2, 4, 3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_equals_llamas_of_transformers(bias):  # SPEC A3, G3
    ours = random_layer("swiglu", bias)
    sizes = {"hidden_size": 3, "intermediate_size": 5, "num_attention_heads": 1}
    theirs = LlamaMLP(LlamaConfig(**sizes, mlp_bias=bias)).double()
    renamed = {name.replace(".", "_proj."): tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(renamed, strict=True)
    x = random_x(2, 4, 3)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ffn", ["relu", "gelu"])
def test_equals_pytorchs_modules(ffn):  # SPEC E1
    ours, x = random_layer(ffn), random_x(2, 4, 3)
    bend = {"relu": functional.relu, "gelu": torch.nn.GELU(approximate="tanh")}[ffn]
    expected = functional.linear(x, ours.up.weight, ours.up.bias)
    expected = functional.linear(bend(expected), ours.down.weight, ours.down.bias)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
