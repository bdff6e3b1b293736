"""The references of lesson 10 against the package, autograd, and numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.model.accounting import count_parameters, flops_per_token, kv_bytes
from transformer_lessons.model.block import Block
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset


def reference(name):
    return find_exercise(f"10.{name}").reference


def cases(name):
    return find_exercise(f"10.{name}").cases


@pytest.mark.parametrize("case", cases("block_parameters")[1:])  # RoPE needs an even width
def test_block_parameters_are_those_of_a_real_block(case):  # SPEC G4, A3
    d_model, n_heads, n_kv_heads, d_ff = case
    sizes = {"d_model": d_model, "n_layers": 1, "n_heads": n_heads, "d_ff": d_ff}
    sizes["n_kv_heads"] = n_kv_heads
    config = ModelConfig(10, 8, **sizes, norm="rms", ffn="swiglu", bias=False)
    with torch.device("meta"):
        block = Block(config)
    assert reference("block_parameters")(*case) == count_parameters(block)


def test_block_parameters_by_hand():  # SPEC G4
    # q 2 x 2, k 2 x 2, v 2 x 2, out 2 x 2; gate, up, down 2 x 3; two norms of 2
    assert reference("block_parameters")(2, 1, 1, 3) == 16 + 18 + 4


@pytest.mark.parametrize("n_layers", [1, 8])
def test_residual_std_is_that_of_a_new_model(n_layers):  # SPEC G4
    torch.manual_seed(0)
    model = Decoder(ModelConfig(10, 8, 128, n_layers=n_layers, n_heads=2, d_ff=512))
    started = model.blocks[0].feedforward.down.weight.std().item()
    assert reference("residual_std")(0.02, n_layers) == pytest.approx(started, rel=0.02)
    assert reference("residual_std")(1.0, 2) == 0.5  # four terms


@pytest.mark.parametrize(("vocab_size", "own_logit"), cases("first_loss"))
def test_first_loss_is_pytorchs(vocab_size, own_logit):  # SPEC G4
    logits = torch.zeros(1, vocab_size, dtype=torch.float64)
    logits[0, 0] = own_logit
    expected = functional.cross_entropy(logits, torch.tensor([1])).item()
    assert reference("first_loss")(vocab_size, own_logit) == pytest.approx(expected, rel=1e-9)


def test_first_loss_of_even_logits_is_ln_v():  # SPEC G4
    assert reference("first_loss")(256, 0.0) == pytest.approx(math.log(256))


@pytest.mark.parametrize("case", cases("tied_gradient"))
def test_tied_gradient_is_autograds(case):  # SPEC G4, E2
    tokens, row_grads, x, logit_grads = case
    table = torch.randn(logit_grads.shape[1], x.shape[1], requires_grad=True)
    rows, logits = functional.embedding(tokens, table), x @ table.T
    ((rows * row_grads).sum() + (logits * logit_grads).sum()).backward()
    torch.testing.assert_close(reference("tied_gradient")(*case), table.grad)


@pytest.mark.parametrize(("d_model", "d_ff", "n_context"), cases("flops"))
def test_flops_are_the_packages(d_model, d_ff, n_context):  # SPEC G4
    config = ModelConfig(10, 2000, d_model, 1, 1, d_ff, position="learned", ffn="gelu")
    counts = flops_per_token(config, n_context)
    expected = sum(counts.values()) - counts["head"]
    assert reference("flops")(d_model, d_ff, n_context) == expected


def test_flops_by_hand():  # SPEC G4
    # four matrices of one number, two of one number, a score, a share of a value: 8 of each kind
    assert reference("flops")(1, 1, 1) == 16


def test_kv_bytes_are_the_packages():  # SPEC G4
    assert reference("kv_bytes")(16, 32, 8, 64, 1, 2) == kv_bytes(preset("llama3.2-1b"), 1)
    assert reference("kv_bytes")(12, 12, 12, 64, 9, 4) == kv_bytes(preset("gpt2"), 9, 4)
