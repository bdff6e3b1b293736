"""Weights rounded to int8: how far they are off, and that a layer computes with them."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import replace_linear
from transformer_lessons.presets import preset
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.quantize import Int4Linear, Int8Linear, round_to_groups
from transformer_lessons.weights.save_pretrained import save_pretrained
from transformer_lessons.weights.shipped import load_shipped

NUMBERS = st.floats(-(2.0**12), 2.0**12, width=32).filter(lambda x: x == 0 or abs(x) > 2**-10)
each_number_of_bits = pytest.mark.parametrize("bits", range(2, 9))
symmetric_or_not = pytest.mark.parametrize("symmetric", [False, True])


@each_number_of_bits
@symmetric_or_not
@given(arrays(np.float32, (2, 12), elements=NUMBERS))
def test_no_weight_is_off_by_more_than_half_a_scale(bits, symmetric, values):  # SPEC G10
    weight = torch.from_numpy(values)
    rounded = round_to_groups(weight, bits, 4, symmetric)
    assert int(rounded.q.max()) <= 2**bits - 1 - symmetric
    error = (rounded.weight().double() - weight.double()).abs().unflatten(1, (3, 4))
    # float16 has 11 bits: scale and least are each off by up to 2^-11 of themselves.
    most = weight.double().abs().unflatten(1, (3, 4)).amax(dim=2)
    allowed = rounded.scale.double() / 2 + most * 4 * 2**-11 + 2**-20
    assert (error <= allowed[..., None]).all()


@each_number_of_bits
@symmetric_or_not
def test_each_weight_gets_the_nearest_number(bits, symmetric):
    """Against a search through all numbers of the grid."""
    weight = torch.randn(3, 24, generator=torch.Generator().manual_seed(bits))
    q, scale, least = round_to_groups(weight, bits, 8, symmetric)
    numbers = scale.float()[..., None] * torch.arange(2**bits) + least.float()[..., None]
    distance = (weight.view(3, 3, 8, 1) - numbers[:, :, None]).abs()
    chosen = distance.gather(-1, q.view(3, 3, 8, 1).long())[..., 0]
    torch.testing.assert_close(chosen, distance.amin(dim=-1), rtol=0, atol=1e-6)


def test_what_the_two_grids_are():
    weight = torch.tensor([[-1.0, 0.0, 0.5, 2.0]])
    _, scale, least = round_to_groups(weight, 2, 4)
    assert (scale.item(), least.item()) == (1.0, -1.0)  # -1, 0, 1, 2
    rounded = round_to_groups(weight, 2, 4, symmetric=True)
    assert (rounded.scale.item(), rounded.least.item()) == (2.0, -2.0)  # -2, 0, 2
    assert rounded.weight().tolist() == [[-2.0, 0.0, 0.0, 2.0]]  # halves go to an even q


def test_groups_have_grids_of_their_own():
    weight = torch.tensor([[1.0, 2.0, 100.0, 300.0], [0.0, 0.0, 5.0, 5.0]])
    q, scale, least = round_to_groups(weight, 4, 2)
    torch.testing.assert_close(
        scale.float(), torch.tensor([[1, 200], [0, 0]]) / 15, rtol=1e-3, atol=0
    )
    assert least.tolist() == [[1.0, 100.0], [0.0, 5.0]]
    assert q.tolist() == [[0, 15, 0, 15], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("bits", "group", "what"),
    [
        (1, 4, "bits = 1 is not from 2 to 8"),
        (9, 4, "bits = 9 is not from 2 to 8"),
        (4, 3, "groups of 3 don't divide a row of 8 weights"),
        (4, 16, "groups of 16 don't divide a row of 8 weights"),
        (4, 0, "groups of 0 don't divide a row of 8 weights"),
        (4, -8, "groups of -8 don't divide"),
    ],
)
def test_bits_and_groups_out_of_range_are_refused(bits, group, what):
    with pytest.raises(LessonsError, match=what):
        round_to_groups(torch.ones(2, 8), bits, group)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
@symmetric_or_not
def test_what_the_scales_cannot_hold_is_refused(bad, symmetric):
    with pytest.raises(LessonsError, match="not finite, or too large for scales"):
        round_to_groups(torch.tensor([[1.0, bad]]), 4, 2, symmetric)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [1, 3, 20])
@pytest.mark.parametrize("bias", [True, False])
def test_an_int8_layer_multiplies_with_the_rounded_weights(n_rows, bias, dtype):
    torch.manual_seed(0)
    layer, x = nn.Linear(40, 30, bias=bias).to(dtype), torch.randn(n_rows, 40).to(dtype)
    rounded = round_to_groups(layer.weight.detach(), 8, 40, True, torch.float32)
    assert set(rounded.q.amax(dim=1).tolist() + (254 - rounded.q.amin(dim=1)).tolist()) >= {254}
    expected = x.double() @ rounded.weight().double().T
    if bias:
        expected += layer.bias.double()
    found = Int8Linear(layer)(x)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 0.03}  # its 8 bits
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (2, 20, 64)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_rows", [48, 30])  # PyTorch's product wants sixteens; 30 is widened
def test_an_int4_layer_multiplies_with_the_rounded_weights(n_rows, bias, shape, dtype):
    torch.manual_seed(0)
    layer, x = nn.Linear(64, n_rows, bias=bias).to(dtype), torch.randn(shape).to(dtype)
    rounded = round_to_groups(layer.weight.detach(), 4, 32, dtype=torch.bfloat16)
    expected = x.double() @ rounded.weight().double().T
    if bias:
        expected += layer.bias.double()
    int4 = Int4Linear(layer)
    assert int4.fast == (n_rows == 48)  # this PyTorch has the product
    assert int4.packed.nbytes * 2 == layer.weight.numel()
    found = int4(x)
    assert (found.dtype, found.shape) == (dtype, expected.shape)
    # The fast product rounds x and the grids' middles to bfloat16, that is, to 8 bits.
    tolerance = 0.03 if int4.fast or dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


def test_both_int4_products_agree():
    """The same weights in PyTorch's layout and in ours, on an x that bfloat16 can hold."""
    torch.manual_seed(0)
    layer, x = nn.Linear(128, 32), torch.randn(5, 128).bfloat16().float()
    fast = Int4Linear(layer, group=64)
    plain = nn.Linear(128, 30)
    plain.weight, plain.bias = nn.Parameter(layer.weight[:30]), nn.Parameter(layer.bias[:30])
    slow = Int4Linear(plain, group=64)
    assert (fast.fast, slow.fast) == (True, False)
    torch.testing.assert_close(fast(x)[:, :30], slow(x), rtol=0, atol=5e-3)


def test_a_real_model_keeps_what_it_knows():
    """python-small: a quarter of the bytes, almost the same loss, and the tied embedding stays."""
    model, tokenizer = load_shipped()
    model.eval()
    text = torch.tensor([tokenizer.encode("for name in sorted(names):\n    print(name)\n" * 3)])

    def loss():
        logits = model(text)[0, :-1]
        return nn.functional.cross_entropy(logits, text[0, 1:]).item()

    before, embedding = loss(), model.embedding.weight
    n_bytes = sum(m.weight.nbytes for m in model.modules() if isinstance(m, nn.Linear))
    replace_linear(model, Int8Linear)
    layers = [m for m in model.modules() if isinstance(m, Int8Linear)]
    assert sum(layer.weight.nbytes for layer in layers) * 4 == n_bytes
    assert model.embedding.weight is embedding
    assert abs(loss() - before) < 0.02
    assert loss() != before


@pytest.mark.parametrize("make", [Int8Linear, partial(Int4Linear, group=4)])
def test_generation_is_the_same_in_pieces_and_together(make):
    """Rounded once, the weights are what they are: a batch writes what each text writes alone."""
    torch.manual_seed(0)
    model = Decoder(preset("fluctlight")).double()
    replace_linear(model, make)
    prompts, options = [[1, 2], [3], [4, 5]], {"sampler": Sampler(temperature=0)}
    together = generate(model, prompts, 8, **options)
    assert together == [generate(model, [prompt], 8, **options)[0] for prompt in prompts]


@pytest.mark.parametrize("make", [Int8Linear, Int4Linear])
def test_rounded_weights_are_not_saved_as_if_they_were_whole(make, tmp_path):
    model, _ = load_shipped()
    replace_linear(model, make)
    for save in (partial(save_pretrained, model, None), lambda to: save_checkpoint(to, 1, model)):
        with pytest.raises(
            LessonsError, match=r"attention.qkv.(weight|packed) holds rounded weights"
        ):
            save(tmp_path / "model")
        assert not any(tmp_path.rglob("*.safetensors"))
