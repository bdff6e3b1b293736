"""Both norms against PyTorch's and transformers', and their adaptive form at every size."""

import math

import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.norm import LayerNorm, RMSNorm, layer_norm, make_norm, rms_norm


def random_norm_inputs(d_model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, d_model), (d_model,), (d_model,)]
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize("d_model", [2, 4, 7, 32])
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
def test_equals_pytorchs(d_model, eps):
    x, weight, bias = random_norm_inputs(d_model)
    x = 3 * x + 5
    expected = functional.layer_norm(x, (d_model,), weight, bias, eps)
    torch.testing.assert_close(layer_norm(x, weight, bias, eps), expected, rtol=0, atol=1e-12)


def test_by_hand():
    # Mean 3, biased variance (4 + 1 + 0 + 1 + 4)/5 = 2.
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    expected = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64) / math.sqrt(2)
    got = layer_norm(x, torch.ones(5).double(), torch.zeros(5).double(), eps=1e-15)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_eps_is_inside_the_root():
    # Variance 1e-6 and eps 3e-6 make a divisor of 2e-3: 1e-3/2e-3. Outside the root: 1e-3/1.003e-3.
    x = torch.tensor([1e-3, -1e-3], dtype=torch.float64)
    got = layer_norm(x, torch.ones(2).double(), torch.zeros(2).double(), eps=3e-6)
    torch.testing.assert_close(got, torch.tensor([0.5, -0.5]).double(), rtol=0, atol=1e-12)


def test_equal_numbers_become_the_bias():
    weight, bias = torch.full((4,), 2.0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.equal(layer_norm(torch.full((3, 4), 7.0), weight, bias), bias.expand(3, 4))


def adaptive_norm_of(d_model, adaptive=True):
    config = ModelConfig(
        vocab_size=10,
        context_length=8,
        d_model=d_model,
        n_layers=1,
        n_heads=1,
        d_ff=4,
        adaptive_norm=adaptive,
        norm_eps=1e-3,
    )
    norm = make_norm(config).double()
    x, weight, bias = random_norm_inputs(d_model)
    with torch.no_grad():
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
    return norm, x, functional.layer_norm(x, (d_model,), weight, bias, 1e-3)


def test_adaptive_norm_at_4_changes_nothing():  # SPEC F3
    norm, x, _ = adaptive_norm_of(4)
    assert torch.equal(norm(x), x)


def test_adaptive_norm_at_18_goes_half_way():  # SPEC F3
    norm, x, normed = adaptive_norm_of(18)
    torch.testing.assert_close(norm(x), (x + normed) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d_model", [32, 64])
def test_adaptive_norm_is_a_full_norm_from_32(d_model):  # SPEC F3
    norm, x, normed = adaptive_norm_of(d_model)
    torch.testing.assert_close(norm(x), normed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d_model", [4, 18])
def test_without_adaptive_norm_every_size_is_normed(d_model):  # SPEC F3
    norm, x, normed = adaptive_norm_of(d_model, adaptive=False)
    torch.testing.assert_close(norm(x), normed, rtol=0, atol=1e-12)


def test_a_full_norm_loses_no_precision_to_the_fading():
    # x + 1 * (norm(x) - x) would: at x = 1e4, float32 keeps three digits after the point.
    norm = LayerNorm(8)
    x = torch.linspace(9_990, 10_010, 8)
    assert torch.equal(norm(x), layer_norm(x, norm.weight, norm.bias))


# --- the root mean square norm -----------------------------------------------------------------


@pytest.mark.parametrize("d_model", [2, 4, 7, 32])
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
def test_rms_norm_equals_pytorchs(d_model, eps):  # SPEC A3
    x, weight, _ = random_norm_inputs(d_model)
    x = 3 * x + 5
    theirs = torch.nn.RMSNorm(d_model, eps=eps).double()
    ours = RMSNorm(d_model, eps).double()
    with torch.no_grad():
        theirs.weight.copy_(weight)
        ours.weight.copy_(weight)
    torch.testing.assert_close(rms_norm(x, weight, eps), theirs(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_equals_llamas_of_transformers(dtype):  # SPEC A3, G3
    x, weight, _ = random_norm_inputs(64)
    x, weight = (3 * x + 5).to(dtype), weight.to(dtype)
    theirs = LlamaRMSNorm(64, eps=1e-3).to(dtype)
    with torch.no_grad():
        theirs.weight.copy_(weight)
    assert torch.equal(rms_norm(x, weight, 1e-3), theirs(x))


def test_rms_norm_by_hand():  # SPEC A3
    # The mean of 1, 4, 9 and 36 is 12.5, and the mean of the four numbers is not taken off.
    x = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    weight = torch.tensor([1.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 2.0, 3.0, 12.0], dtype=torch.float64) / math.sqrt(12.5)
    torch.testing.assert_close(rms_norm(x, weight, eps=1e-15), expected, rtol=0, atol=1e-12)


def test_rms_norm_has_its_eps_inside_the_root():
    # Mean square 1e-6 and eps 3e-6 make a divisor of 2e-3, as for layer norm above.
    x = torch.tensor([1e-3, -1e-3], dtype=torch.float64)
    got = rms_norm(x, torch.ones(2).double(), eps=3e-6)
    torch.testing.assert_close(got, torch.tensor([0.5, -0.5]).double(), rtol=0, atol=1e-12)


def test_rms_norm_keeps_the_mean():
    # Equal numbers have no variance: layer norm leaves nothing of them, this norm the sign.
    got = rms_norm(torch.full((3, 4), -7.0), torch.ones(4), eps=1e-12)
    torch.testing.assert_close(got, torch.full((3, 4), -1.0))


def test_rms_norm_of_what_has_mean_0_is_layer_norm():
    x, weight, _ = random_norm_inputs(7)
    centred = x - x.mean(dim=-1, keepdim=True)
    expected = layer_norm(x, weight, torch.zeros_like(weight))
    torch.testing.assert_close(rms_norm(centred, weight), expected, rtol=0, atol=1e-12)


def test_the_slope_of_rms_norm():
    x, weight, upstream = random_norm_inputs(7)
    x.requires_grad_()
    rms_norm(x, weight, eps=0.1).backward(upstream.expand(x.shape))
    with torch.no_grad():
        r = (x.square().mean(dim=-1, keepdim=True) + 0.1).sqrt()
        g = upstream * weight
        along_x = (g * x).mean(dim=-1, keepdim=True) / r**2
        by_hand = (g - along_x * x) / r
    torch.testing.assert_close(x.grad, by_hand, rtol=0, atol=1e-12)


# --- numbers of few digits ---------------------------------------------------------------------


def both_norms(x):
    """What each norm makes of `x`, without its weight having a say."""
    ones, zeros = torch.ones_like(x[0]), torch.zeros_like(x[0])
    return {"layer": layer_norm(x, ones, zeros), "rms": rms_norm(x, ones)}


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_are_normed_in_float32(kind, dtype):
    # In float16 the square of 300 is infinite; in bfloat16 1000 + 1 is 1000.
    steps = torch.linspace(-300, 300, 64)
    x = torch.stack([steps, 1000 + steps]).to(dtype)
    got = both_norms(x)[kind]
    assert got.dtype == dtype
    assert torch.equal(got, both_norms(x.float())[kind].to(dtype))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_float64_is_not_cut_to_float32(kind):
    x = 1 + 1e-10 * torch.arange(8, dtype=torch.float64)[None]
    got = both_norms(x)[kind]
    assert got.dtype == torch.float64
    assert len(got[0].unique()) == 8  # in float32 all eight numbers are 1


# --- the config --------------------------------------------------------------------------------


def norm_of(width=None, **fields):
    config = ModelConfig(10, 8, d_model=18, n_layers=1, n_heads=1, d_ff=4, **fields)
    return make_norm(config, width).double()


def test_norm_says_which_kind():  # SPEC A3
    x = random_norm_inputs(18)[0] + 5
    weight, bias = torch.ones(18).double(), torch.zeros(18).double()
    layer, rms = norm_of(norm="layer"), norm_of(norm="rms")
    torch.testing.assert_close(layer(x), layer_norm(x, weight, bias), rtol=0, atol=1e-12)
    torch.testing.assert_close(rms(x), rms_norm(x, weight), rtol=0, atol=1e-12)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in rms.named_parameters()] == ["weight"]


@pytest.mark.parametrize(("norm", "expected"), [("layer", 0.5), ("rms", 0.5)])
def test_norm_eps_is_used(norm, expected):
    x = torch.tensor([1e-2, -1e-2] * 9, dtype=torch.float64)  # mean square 1e-4
    got = norm_of(norm=norm, norm_eps=3e-4)(x)
    torch.testing.assert_close(got, expected * x.sign(), rtol=0, atol=1e-12)


def test_adaptive_rms_norm_at_18_goes_half_way():  # SPEC F3
    x = random_norm_inputs(18)[0]
    normed = rms_norm(x, torch.ones(18).double())
    got = norm_of(norm="rms", adaptive_norm=True)(x)
    torch.testing.assert_close(got, (x + normed) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_may_have_a_width_of_its_own(norm):  # SPEC F3
    # The fading follows the size of the model, 18, whatever the width of this norm.
    x = random_norm_inputs(4)[0]
    ones, zeros = torch.ones(4).double(), torch.zeros(4).double()
    normed = layer_norm(x, ones, zeros) if norm == "layer" else rms_norm(x, ones)
    torch.testing.assert_close(norm_of(4, norm=norm)(x), normed, rtol=0, atol=1e-12)
    half = norm_of(4, norm=norm, adaptive_norm=True)(x)
    torch.testing.assert_close(half, (x + normed) / 2, rtol=0, atol=1e-12)
