"""Weights rounded to int8: how far they are off, and that a layer computes with them."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import replace_linear
from transformer_lessons.presets import preset
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.quantize import Int8Linear, round_to_int8
from transformer_lessons.weights.save_pretrained import save_pretrained
from transformer_lessons.weights.shipped import load_shipped

NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32).filter(lambda x: x == 0 or abs(x) > 2**-99)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=NUMBERS))
def test_no_weight_is_off_by_more_than_half_a_scale(values):  # SPEC G10
    weight = torch.from_numpy(values)
    q, scale = round_to_int8(weight)
    assert q.dtype == torch.int8
    assert q.abs().max() <= 127
    error = (q.double() * scale.double()[:, None] - weight.double()).abs()
    assert (error <= scale.double()[:, None] * 0.50001).all()  # the scale itself is rounded
    largest = q.abs().amax(dim=1)
    assert torch.equal(largest == 0, weight.abs().amax(dim=1) == 0)
    assert set(largest.tolist()) <= {0, 127}


def test_rows_have_scales_of_their_own():
    q, scale = round_to_int8(torch.tensor([[1.0, 0.5], [100.0, -200.0]]))
    assert q.tolist() == [[127, 64], [64, -127]]
    torch.testing.assert_close(scale, torch.tensor([1.0, 200.0]) / 127)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(LessonsError, match="not a finite number"):
        round_to_int8(torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [1, 3, 20])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_multiplies_with_the_rounded_weights(n_rows, bias, dtype):
    torch.manual_seed(0)
    layer, x = nn.Linear(40, 30, bias=bias).to(dtype), torch.randn(n_rows, 40).to(dtype)
    q, scale = round_to_int8(layer.weight.detach())
    expected = x.double() @ (q.double() * scale.double()[:, None]).T
    if bias:
        expected += layer.bias.double()
    found = Int8Linear(layer)(x)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 0.03}  # its 8 bits
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance[dtype])


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


def test_generation_is_the_same_in_pieces_and_together():
    """Rounded once, the weights are what they are: a batch writes what each text writes alone."""
    torch.manual_seed(0)
    model = Decoder(preset("fluctlight")).double()
    replace_linear(model, Int8Linear)
    prompts, options = [[1, 2], [3], [4, 5]], {"sampler": Sampler(temperature=0)}
    together = generate(model, prompts, 8, **options)
    assert together == [generate(model, [prompt], 8, **options)[0] for prompt in prompts]


def test_rounded_weights_are_not_saved_as_if_they_were_whole(tmp_path):
    model, _ = load_shipped()
    replace_linear(model, Int8Linear)
    for save in (partial(save_pretrained, model, None), lambda to: save_checkpoint(to, 1, model)):
        with pytest.raises(LessonsError, match=r"attention.qkv.weight holds rounded weights"):
            save(tmp_path / "model")
        assert not any(tmp_path.rglob("*.safetensors"))
